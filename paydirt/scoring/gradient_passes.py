"""The passes of gradient influence: warm-up, the references' features, the pool's features in a store or matched at once.

Everything that another target, another part of the pool or a continued run can use again is a shared artifact. A part of
a pool (`Job.part`) warms up on the whole one, so that every part sees the same checkpoints.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paydirt.columns import PoolColumn
from paydirt.columns.gradients import Collector, GradientFeatures, cost_of, fit_cost, spread_over
from paydirt.core.artifacts import build, fingerprint, write_atomic
from paydirt.core.progress import track
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.models.load import model_fingerprint, model_identity
from paydirt.scoring.base import Job
from paydirt.scoring.inputs import target_fingerprint
from paydirt.training.shared import tuned_model

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient


class Step(NamedTuple):
    """One checkpoint: its directory, its weight eta, and where the optimizer's moments are (None without warm-up)."""

    path: str
    weight: float
    moments: str | None


def checkpoints(scorer: Gradient, job: Job) -> Iterator[Step]:
    """Warm up (once; shared) and give its checkpoints in order of training."""
    from paydirt.gradients.checkpoints import checkpoint_weights

    if not scorer.warmup_epochs:
        if scorer.direction.startswith("adam"):
            raise ValueError(
                f"direction {scorer.direction!r} needs the moments of a warm-up; use sgd or sign without one"
            )
        yield Step(job.selector.path, 1.0, None)
        return
    root = job.root
    rows = warmup_rows(root, scorer.warmup_fraction, scorer.warmup_seed)
    ids = [root.pool.id_at(int(r)) for r in rows]
    examples = [root.tokens[int(r)] for r in rows]
    tuned = tuned_model(
        job.shared,
        "warmup",
        job.selector,
        job.encoder,
        examples,
        ids,
        scorer.warmup(),
        scorer.warmup_seed,
        job.convention,
    )
    job.meter.charge(tuned)
    folders = sorted((tuned.path / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    kept = folders[-scorer.checkpoints :] if scorer.checkpoints else folders
    weights = checkpoint_weights(folders)[-len(kept) :]
    for folder, weight in zip(kept, weights):
        yield Step(str(folder), weight / sum(weights), str(folder))


def warmup_rows(job: Job, fraction: float, seed: int) -> np.ndarray:
    """A seeded random share of the pool in id order, so that no row order decides what is trained on, or when.

    Examples that cannot train are passed over.
    """
    by_id = usable_by_id(job)
    size = round(fraction * len(job.pool))
    if size < 1:
        raise ValueError(f"a warm-up on {fraction:g} of {len(job.pool)} examples is below one example; raise the share")
    return by_id[np.sort(np.random.default_rng(seed).permutation(len(by_id))[:size])]


def usable_by_id(job: Job) -> np.ndarray:
    """Rows with a supervised token, in the order of their ids."""
    usable = np.flatnonzero(job.tokens.supervised_lengths > 0)
    ids = np.asarray(job.pool.ids(), dtype=object)[usable]
    return usable[np.argsort(ids, kind="stable")]


def features_of(scorer: Gradient, job: Job, step: Step, direction: str) -> GradientFeatures:
    """The column of the pool's features at a checkpoint."""
    from paydirt.gradients.checkpoints import source_of

    config = job.selector.model_copy(update={"path": step.path, "tokenizer": None})
    moments = step.moments if step.moments and direction.startswith("adam") else None
    return GradientFeatures(
        tokens=job.tokens_ref,
        model=config,
        identity=model_identity(config),
        moments=moments,
        moments_digest=source_of(moments) if moments else "",
        direction=direction,
        projection=scorer.projection,
        k=scorer.k,
        projection_seed=scorer.projection_seed,
        lora=scorer.lora if step.moments is None and scorer.warmup_method == "lora" else None,
        lora_seed=scorer.warmup_seed,
        layers=scorer.layers,
        max_tokens=scorer.max_tokens,
        store_dtype=scorer.store_dtype,
        token_budget=scorer.token_budget,
    )


def reference_columns(scorer: Gradient, job: Job, references: Any) -> Any:
    """Unit reference rows [R, k], or subtask means [S, k]."""
    from paydirt.gradients.influence import subtask_means, unit

    rows = unit(references)
    return subtask_means(rows, job.target.subtask_of) if scorer.per == "subtask" else rows


def _identity(scorer: Gradient, job: Job, step: Step, skip: set[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """What features depend on: the checkpoint and the encoder; and the settings."""
    fields = {"direction", "projection", "k", "projection_seed", "store_dtype", "token_budget", "warmup_method"}
    fields |= {"warmup_seed", "lora", "layers", "max_tokens"}
    inputs = {"encoder": job.encoder.fingerprint, "checkpoint": model_fingerprint(step.path)}
    return inputs, scorer.model_dump(mode="json", include=fields - skip) | {"dtype": job.selector.dtype}


def reference_features(scorer: Gradient, job: Job, step: Step) -> Any:
    """Gradients of the references at one checkpoint, float32 [R, k]."""
    import torch

    inputs, settings = _identity(scorer, job, step, {"direction", "store_dtype", "max_tokens"})
    inputs["target"] = target_fingerprint(job.target)

    def make(part: Path) -> dict[str, Any]:
        encoded, work = job.references, {}
        spec = features_of(scorer, job, step, "sgd").model_copy(update={"max_tokens": None})
        with Collector(spec) as collect, Ledger(part).record("references", job.target.name) as line:
            lengths, answers = (np.asarray(v) for v in zip(*((len(e.ids), e.n_supervised) for e in encoded)))
            few, ids = spread_over(lengths), [e.id for e in job.target.references]
            counts = [count_flops(partial(collect, [ids[i]], [encoded[i]], True))[0] for i in few]
            work["features"] = collect(ids, encoded)
            line.tokens = int(lengths.sum())
            line.measured_flops = float(cost_of(lengths, answers, fit_cost(lengths[few], answers[few], counts)).sum())
            line.measured_flops += collect.projection_flops(len(encoded))
        np.save(part / "features.npy", work["features"].numpy())
        return {"references": len(encoded), "measured_flops": line.measured_flops}

    place = job.shared / "references" / f"{Path(step.path).name}-{fingerprint([inputs, settings])}"
    artifact = build(place, "references", settings, inputs, make)
    job.meter.charge(artifact)
    return torch.from_numpy(np.load(artifact.path / "features.npy"))


def pool_features(scorer: Gradient, job: Job, step: Step) -> PoolColumn:
    """The projected pool at one checkpoint: the job's rows, computed where no run before did."""
    return job.filled(job.column(features_of(scorer, job, step, scorer.direction)))


def score_without_store(scorer: Gradient, job: Job, pairs: list[tuple[Step, Any]]) -> Path:
    """Similarities of each checkpoint in scratch files; features are dropped as soon as they are matched."""
    from paydirt.gradients.influence import unit

    for at, (step, references) in enumerate(pairs):
        columns = reference_columns(scorer, job, references)
        spec = features_of(scorer, job, step, scorer.direction)
        with Collector(spec) as collect, job.ledger.record("gradients", step.path):
            title = f"gradients {at + 1}/{len(pairs)}"
            shards = enumerate(track(job.shards(), title, job.shard_rows, len(job.pool), counts=True))
            for shard, (start, stop) in shards:
                path = job.scratch / f"similarity-{at}-{shard:05d}.npy"
                if path.exists():
                    continue
                rows = unit(collect.of_pool(job.rows(start, stop)))
                buffer = io.BytesIO()
                np.save(buffer, (rows @ columns.T).numpy())
                write_atomic(path, buffer.getvalue())
            job.meter.add(float(sum(collect.row_flops(job.rows(), collect.calibrate()).tolist())))
    return job.scratch


def sum_of_steps(folder: Path, shard: int, weights: list[float]) -> np.ndarray:
    """The shard's similarities [n, C], weighted over checkpoints."""
    parts = [weight * np.load(folder / f"similarity-{at}-{shard:05d}.npy") for at, weight in enumerate(weights)]
    return np.sum(parts, axis=0)
