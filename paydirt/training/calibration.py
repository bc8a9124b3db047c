"""How far to tune on a few references: depth and rate by three folds, before any pool is read.

Enters: references, a training to depth, a grid. Leaves: an artifact whose notes hold the choice and the curve. At each
cell (rate, depth) and fold: tune on the other two folds, and compare mean gradients of the adapter there, each over at most
100 examples: cos(tuned, held) - cos(tuned, generic). High where what was learned still agrees with references that were
not seen, and not with just any text. The cell with the highest mean over folds wins; ties go to the smaller depth, then
the smaller rate (TACS, arXiv 2605.09404; METHODS section 8). Generic texts are a seeded sample of the pool.

Depths of one rate lie on one trajectory (the rate is constant), so each rate and fold is trained once, to the deepest.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paydirt.core.artifacts import Artifact, build, fingerprint, write_atomic
from paydirt.cost.facts import Facts, Lengths
from paydirt.cost.forms import training_flops
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.data.encoding import Encoded
from paydirt.models.load import load_model, model_identity
from paydirt.training.config import VERSION, TrainConfig, predict_training_cost
from paydirt.training.shared import examples_fingerprint

if TYPE_CHECKING:
    import torch

    from paydirt.scoring.base import Job

FOLDS = 3
MOST = 100  # examples in a mean gradient
PASS = 4  # sequences in a pass


class Grid(NamedTuple):
    """Depths in epochs and rates, ascending; `generic` texts of the pool."""

    depths: tuple[int, ...]
    rates: tuple[float, ...]
    generic: int


def calibration_flops(config: TrainConfig, grid: Grid, facts: Facts) -> float:
    """Closed form: every rate and fold trained to the deepest, and three mean gradients at every cell."""
    shown, pool = facts.references, facts.root
    tuned = shown.share(1 - 1 / FOLDS)
    deepest = config.model_copy(update={"epochs": max(grid.depths)})
    training = predict_training_cost(deepest, facts.model, tuned.total, tuned.count, facts.convention).flops
    gradients = sum(
        _gradient_flops(config, facts, lengths.share(min(1.0, most / max(1.0, lengths.count))))
        for lengths, most in ((tuned, MOST), (shown.share(1 / FOLDS), MOST), (pool, min(MOST, grid.generic)))
    )
    return FOLDS * len(grid.rates) * (training + len(grid.depths) * gradients)


def _gradient_flops(config: TrainConfig, facts: Facts, lengths: Lengths) -> float:
    return training_flops(
        facts.model,
        lengths.total,
        lengths.mean,
        facts.convention,
        lora=config.method == "lora",
        lora_rank=config.lora.r,
        lora_targets=config.lora.targets,
    )


def folds_of(subtasks: list[str], seed: int) -> np.ndarray:
    """The fold [R] of each reference: dealt out at random, subtask after subtask, so that every fold has of each."""
    drawn = np.random.default_rng(seed).permutation(len(subtasks))
    dealt = drawn[np.argsort(np.asarray(subtasks, dtype=object)[drawn].astype(str), kind="stable")]
    folds = np.empty(len(subtasks), dtype=np.int64)
    folds[dealt] = np.arange(len(subtasks)) % FOLDS
    return folds


def calibrated(job: Job, config: TrainConfig, grid: Grid, seed: int) -> Artifact:
    """The artifact with `depth`, `rate`, `curve` and FLOPs in its notes; ValueError where there are too few references."""
    references, ids = job.references, [e.id for e in job.target.references]
    if len(references) < FOLDS:
        raise ValueError(
            f"target {job.target.name} has {len(references)} references; calibrating needs {FOLDS} folds: "
            "give depth and rate"
        )
    generic, generic_ids = _generic(job, grid.generic, seed)
    folds = folds_of(list(job.target.subtask_of), seed)
    inputs = {
        "encoder": job.encoder.fingerprint,
        "references": examples_fingerprint(references, ids),
        "generic": examples_fingerprint(generic, generic_ids),
        "folds": fingerprint(folds.tolist()),
    }
    settings: dict[str, Any] = {"training": config.to_dict(), "grid": list(grid), "seed": seed}
    identity = {**settings, "model": model_identity(job.selector), "version": VERSION}

    def make(part: Path) -> dict[str, Any]:
        cells: list[dict[str, Any]] = []
        with Ledger(part).record("calibrate", job.target.name) as line:
            for rate in grid.rates:
                for fold in range(FOLDS):
                    trained = config.model_copy(update={"learning_rate": rate, "epochs": max(grid.depths)})
                    chosen, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
                    sets = [[references[i] for i in chosen], [references[i] for i in held], generic]
                    cells += _trajectory(part, job, trained, grid, sets, fold, seed)
            line.measured_flops = sum(cell.pop("flops") for cell in cells)
        curve = _curve(cells, grid)
        best = max(curve, key=lambda cell: (cell["value"], -cell["depth"], -cell["rate"]))
        chosen_cell = {"depth": best["depth"], "rate": best["rate"], "curve": curve}
        write_atomic(part / "curve.json", json.dumps(chosen_cell, indent=1))
        return {**chosen_cell, "generic": len(generic), "measured_flops": line.measured_flops}

    place = job.shared / "calibrated" / f"{job.target.name}-{fingerprint([inputs, identity])}"
    return build(place, "calibrate", settings, inputs, make, identity)


def _generic(job: Job, count: int, seed: int) -> tuple[list[Encoded], list[str]]:
    """At most `count` texts of the pool with a supervised token, drawn by id, so that no row order decides."""
    usable = np.flatnonzero(job.tokens.supervised_lengths > 0)
    ids = np.asarray(job.pool.ids(), dtype=object)[usable]
    by_id = usable[np.argsort(ids, kind="stable")]
    rows = by_id[np.sort(np.random.default_rng(seed).permutation(len(by_id))[:count])]
    return [job.tokens[int(row)] for row in rows], [job.pool.id_at(int(row)) for row in rows]


def _trajectory(
    part: Path, job: Job, config: TrainConfig, grid: Grid, sets: list[list[Encoded]], fold: int, seed: int
) -> list[dict[str, Any]]:
    """The cells of one rate and fold; found where a killed run had finished them."""
    from paydirt.training.train import train_model

    name = f"fold-{fold}-rate-{config.learning_rate:g}"
    done = part / f"{name}.json"
    if done.exists():
        return list(json.loads(done.read_text(encoding="utf-8")))
    kept = config.model_copy(update={"save": "epoch", "keep_checkpoints": True})
    work = part / name
    notes = train_model(work, job.selector, job.encoder, sets[0], kept, seed=seed, convention=job.convention)
    folders = sorted((work / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    cells = []
    for depth in grid.depths:
        where = job.selector.model_copy(update={"path": str(folders[depth - 1]), "tokenizer": None})
        model = load_model(where, train_adapter=True)
        flops, (tuned, held, unrelated) = count_flops(
            lambda model=model: [mean_gradient(model, some, job.encoder.pad_id) for some in sets]  # type: ignore[misc]
        )
        value = _cosine(tuned, held) - _cosine(tuned, unrelated)
        cells.append({"rate": config.learning_rate, "depth": depth, "fold": fold, "value": value, "flops": flops})
    cells[0]["flops"] += float(notes["measured_flops"] or 0.0)
    shutil.rmtree(work)
    write_atomic(done, json.dumps(cells))
    return cells


def mean_gradient(model: Any, examples: list[Encoded], pad_id: int) -> torch.Tensor:
    """Mean over at most `MOST` examples of the gradient [D] of the mean loss over supervised tokens, without dropout."""
    import torch

    from paydirt.data.batches import IGNORED, collate
    from paydirt.gradients.per_example import trainable

    some = sorted([e for e in examples if e.n_supervised][:MOST], key=lambda e: len(e.ids))  # little padding
    parameters = list(trainable(model).values())
    for parameter in parameters:
        parameter.grad = None
    for start in range(0, len(some), PASS):
        batch = collate(some[start : start + PASS], pad_id)
        ids, labels = batch.input_ids.to(model.device), batch.labels[:, 1:].to(model.device)
        logits = model(input_ids=ids, attention_mask=batch.attention_mask.to(model.device), use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        (losses.sum(1) / (labels != IGNORED).sum(1)).sum().div(len(some)).backward()
    return torch.cat(
        [p.grad.flatten().float().cpu() if p.grad is not None else torch.zeros(p.numel()) for p in parameters]
    )


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """0 where one is zero."""
    a, b = a.double(), b.double()
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length else 0.0


def _curve(cells: list[dict[str, Any]], grid: Grid) -> list[dict[str, Any]]:
    """The mean over folds of each cell, with its folds."""
    curve = []
    for rate in grid.rates:
        for depth in grid.depths:
            folds = [c["value"] for c in cells if c["rate"] == rate and c["depth"] == depth]
            curve.append({"rate": rate, "depth": depth, "value": float(np.mean(folds)), "folds": folds})
    return curve
