"""The passes of gradient influence: warm-up, the references' features, the pool's features in a store or matched at once.

Everything that another target, other rows of the pool or a continued run can use again is shared. The warm-up draws from
the whole pool, whatever rows are asked for, so that all see the same checkpoints.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paydirt.columns import PoolColumn
from paydirt.columns.gradients import Collector, GradientFeatures, Similarities, cost_of, fit_cost, spread_over
from paydirt.core.artifacts import build, fingerprint, write_atomic
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
    rows = warmup_rows(job, scorer.warmup_fraction, scorer.warmup_seed)
    examples = [job.tokens[int(row)] for row in rows]
    tuned = tuned_model(
        job.shared,
        "warmup",
        job.selector,
        job.encoder,
        examples,
        job.pool.ids_at(rows),
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
    by_id = usable_by_id(job, np.arange(len(job.pool)))
    size = round(fraction * len(job.pool))
    if size < 1:
        raise ValueError(f"a warm-up on {fraction:g} of {len(job.pool)} examples is below one example; raise the share")
    return by_id[np.sort(np.random.default_rng(seed).permutation(len(by_id))[:size])]


def usable_by_id(job: Job, rows: np.ndarray) -> np.ndarray:
    """Those of `rows` with a supervised token, in the order of their ids."""
    usable = rows[job.tokens.supervised_lengths[rows] > 0]
    return usable[np.argsort(np.asarray(job.pool.ids_at(usable), dtype=object), kind="stable")]


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


def pool_column(scorer: Gradient, job: Job, step: Step, references: Any) -> PoolColumn:
    """The projected pool at one checkpoint; where nothing is stored, its similarities with `references` [C, k] in scratch.

    Features are then dropped as soon as they are matched.
    """
    spec = features_of(scorer, job, step, scorer.direction)
    if scorer.store:
        return job.column(spec)
    buffer = io.BytesIO()
    np.save(buffer, references.numpy())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    path = job.scratch / f"references-{digest}.npy"
    write_atomic(path, buffer.getvalue())
    given = {name: getattr(spec, name) for name in GradientFeatures.model_fields}
    return PoolColumn(Similarities(**given, references=str(path), digest=digest), job.scratch, job.shard_rows)
