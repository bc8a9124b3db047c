"""Gradient influence (LESS): how far a step on an example would move the model towards each reference.

Warm up on a random share of the pool, keep a checkpoint an epoch; at each, project every example's update direction and
every reference's gradient to k numbers; influence is the checkpoint-weighted cosine, averaged over a subtask's references
(arXiv 2402.04333; METHODS section 2). The work itself lives in `paydirt.gradients`.

The projected pool is a store that serves every target. With `store: false` nothing is kept but similarities, which is
cheaper on disk when there is one target.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from paydirt.artifacts import Artifact, build, fingerprint, write_atomic
from paydirt.config import parse
from paydirt.cost.forms import training_flops
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.data.tokens import row_key
from paydirt.models.load import LoraSpec, load_model, model_fingerprint
from paydirt.progress import track
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import Column, Reduction
from paydirt.training.config import TrainConfig
from paydirt.training.shared import tuned_model
from paydirt.types import Cost, Target


class Gradient(Scorer):
    """Gradient influence on the references (LESS)."""

    name: ClassVar[str] = "gradient"
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "warm-up + checkpoints x 4 P T (LoRA)"
    use_when: ClassVar[str] = "targets that words do not give away; several targets share one store"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="max")

    warmup_fraction: float = Field(0.05, gt=0, le=1, description="share of the pool to warm up on")
    warmup_epochs: int = Field(4, ge=0, description="epochs, each a checkpoint; 0 takes the model as it is (sgd, sign)")
    warmup_method: Literal["lora", "full"] = Field("lora", description="parameters that train and give gradients")
    warmup_learning_rate: float = Field(2e-5, gt=0, description="highest rate of the warm-up's linear schedule")
    warmup_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the warm-up")
    warmup_seed: int = Field(0, description="of the warm-up's share, its order and fresh LoRA parameters")
    lora: LoraSpec = Field(default_factory=LoraSpec, description="shape of the LoRA parameters")
    checkpoints: int | None = Field(None, ge=1, description="use only the last so many checkpoints")
    direction: Literal["adam_published", "adam_textbook", "sgd", "sign"] = Field(
        "adam_published", description="update direction of pool examples; references always use the gradient"
    )
    projection: Literal["sketch", "rademacher"] = Field("sketch", description="random projection")
    k: int = Field(8192, ge=1, description="dimension after projection")
    projection_seed: int = Field(0, description="of the random projection")
    per: Literal["reference", "subtask"] = Field("reference", description="columns kept: each reference, or means")
    store: bool = Field(True, description="keep the projected pool for other targets")
    store_dtype: Literal["int8", "float16", "bfloat16", "float32"] = Field(
        "int8", description="precision of the stored features"
    )
    token_budget: int = Field(2048, ge=1, description="padded tokens in a batch")

    def columns(self, target: Target) -> list[Column]:
        if self.per == "subtask":
            return [Column(name, name) for name in target.subtasks]
        return super().columns(target)

    def warmup(self) -> TrainConfig:
        values = {"method": self.warmup_method, "learning_rate": self.warmup_learning_rate, "lora": self.lora}
        values |= {"epochs": self.warmup_epochs, "batch_size": self.warmup_batch_size}
        return parse(TrainConfig, values | {"save": "epoch", "keep_checkpoints": True})

    def predict_cost(self, job: Job) -> Cost:
        """Warm-up, then forward and backward over pool and references at each checkpoint; projection and matching."""
        from paydirt.training.train import predict_training_cost

        total = job.tokens.total
        length = total / max(1, len(job.tokens))
        reference_tokens = sum(len(e.ids) for e in job.references)
        used = min(self.checkpoints or self.warmup_epochs or 1, self.warmup_epochs or 1)
        parts: dict[str, float] = {}
        if self.warmup_epochs:
            share, n = self.warmup_fraction * total, round(self.warmup_fraction * len(job.tokens))
            parts["warmup"] = predict_training_cost(self.warmup(), job.architecture, share, n, job.convention).flops
        parts["gradients"] = used * (self.pass_cost(job).flops + self._passes(job, reference_tokens, length))
        rows = len(job.tokens) * used
        parts["matching"] = 2.0 * rows * self.k * len(self.columns(job.target))
        return Cost(sum(parts.values()), used * (total + reference_tokens), parts)

    def pass_cost(self, job: Job) -> Cost:
        """Forward and backward over the pool at one checkpoint."""
        total = job.tokens.total
        return Cost(self._passes(job, total, total / max(1, len(job.tokens))), total)

    def _passes(self, job: Job, tokens: float, length: float) -> float:
        return training_flops(
            job.architecture,
            tokens,
            length,
            job.convention,
            lora=self.warmup_method == "lora",
            lora_rank=self.lora.r,
            lora_targets=self.lora.targets,
        )

    def prepare(self, job: Job) -> _State:
        steps = list(_checkpoints(self, job))
        pairs = []
        for step in steps:
            with _Collector(self, job, step, "sgd") as collect:
                references = collect(job.target.references, job.references)
            pairs.append((step, references))
        stores = [_write_store(self, job, step) if self.store else None for step in steps]
        similarities = None if self.store else _score_without_store(self, job, pairs)
        return _State(pairs, stores, similarities)

    def score_rows(self, job: Job, state: _State, start: int, stop: int) -> np.ndarray:
        import torch

        from paydirt.gradients.influence import match
        from paydirt.gradients.store import Store

        shard = start // job.shard_rows
        job.meter.add(2.0 * len(state.steps) * (stop - start) * self.k * len(self.columns(job.target)))  # matching
        if state.similarities is not None:
            return _sum_of_steps(state.similarities, shard, [step.weight for step, _ in state.steps])
        total = torch.zeros(stop - start, len(self.columns(job.target)))
        for (step, references), artifact in zip(state.steps, state.stores):
            assert artifact is not None
            rows = Store(artifact.path / "store").rows(shard)
            total += step.weight * match(rows, _columns(self, job, references))
        return total.numpy()


class Step(NamedTuple):
    """One checkpoint: its directory, its weight eta, and where the optimizer's moments are (None without warm-up)."""

    path: str
    weight: float
    moments: str | None


class _State(NamedTuple):
    """Checkpoints with the references' features [R, k]; the pool's stores, or scratch similarities instead."""

    steps: list[tuple[Step, Any]]
    stores: list[Artifact | None]
    similarities: Path | None


def _checkpoints(scorer: Gradient, job: Job) -> Iterator[Step]:
    """Warm up (once; shared) and give its checkpoints in order of training."""
    from paydirt.gradients.moments import checkpoint_weights

    if not scorer.warmup_epochs:
        if scorer.direction.startswith("adam"):
            raise ValueError(
                f"direction {scorer.direction!r} needs the moments of a warm-up; use sgd or sign without one"
            )
        yield Step(job.selector.path, 1.0, None)
        return
    rows = warmup_rows(job, scorer.warmup_fraction, scorer.warmup_seed)
    ids = [job.pool.id_at(int(r)) for r in rows]
    examples = [job.tokens[int(r)] for r in rows]
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
    job.meter.add(float(tuned.notes["measured_flops"] or 0.0))
    folders = sorted((tuned.path / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    kept = folders[-scorer.checkpoints :] if scorer.checkpoints else folders
    weights = checkpoint_weights(folders)[-len(kept) :]
    for folder, weight in zip(kept, weights):
        yield Step(str(folder), weight / sum(weights), str(folder))


def warmup_rows(job: Job, fraction: float, seed: int) -> np.ndarray:
    """A seeded random share of the pool in id order, so that no row order decides what is trained on, or when.

    Examples that cannot train are passed over.
    """
    usable = np.flatnonzero(job.tokens.supervised_lengths > 0)
    ids = np.asarray([job.pool.id_at(int(r)) for r in usable])
    by_id = usable[np.argsort(ids, kind="stable")]
    size = round(fraction * len(job.pool))
    if size < 1:
        raise ValueError(f"a warm-up on {fraction:g} of {len(job.pool)} examples is below one example; raise the share")
    return by_id[np.sort(np.random.default_rng(seed).permutation(len(by_id))[:size])]


class _Collector:
    """Features of examples at one checkpoint: the model, its moments and the projection, loaded for a `with` block."""

    def __init__(self, scorer: Gradient, job: Job, step: Step, direction: str) -> None:
        from paydirt.gradients.features import Features
        from paydirt.gradients.moments import load_moments
        from paydirt.gradients.projection import Projection
        from paydirt.models.load import attach_lora

        self.job = job
        config = job.selector.model_copy(update={"path": step.path, "tokenizer": None})
        model = load_model(config, train_adapter=True)
        if step.moments is None and scorer.warmup_method == "lora":
            model = attach_lora(model, scorer.lora, scorer.warmup_seed).eval()
        moments = load_moments(step.moments, model) if step.moments and direction.startswith("adam") else None
        self.projection = Projection(scorer.k, scorer.projection, scorer.projection_seed)
        self.model = model
        self.features = Features(model, self.projection, direction, moments, scorer.token_budget)

    def __enter__(self) -> _Collector:
        self.features.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.features.__exit__(*error)

    def __call__(self, examples: Any, encoded: Any) -> Any:
        """float32 [n, k]; examples without a supervised token get zeros, whose similarity is 0."""
        import torch

        from paydirt.gradients.batches import IGNORED
        from paydirt.gradients.batches import Encoded as Item

        usable = [i for i, e in enumerate(encoded) if e.n_supervised]
        items = []
        for i in usable:
            labels = np.where(encoded[i].supervised, encoded[i].ids, IGNORED)
            items.append(Item(examples[i].id, encoded[i].ids.tolist(), labels.tolist()))
        out = torch.zeros(len(encoded), self.projection.k)
        if items:
            out[usable] = self.features(items)[0]
        return out

    def flops_per_token(self) -> float:
        """Of forward and backward, counted on a few examples spread over the pool."""
        job = self.job
        rows = np.unique(np.linspace(0, len(job.pool) - 1, 16).astype(int))
        encoded = [job.tokens[int(r)] for r in rows]
        flops, _ = count_flops(lambda: self(job.pool.take(rows), encoded))
        return flops / max(1, sum(len(e.ids) for e in encoded))


def _columns(scorer: Gradient, job: Job, references: Any) -> Any:
    """Unit reference rows [R, k], or subtask means [S, k]."""
    from paydirt.gradients.influence import subtask_means, unit

    rows = unit(references)
    return subtask_means(rows, job.target.subtask_of) if scorer.per == "subtask" else rows


def _write_store(scorer: Gradient, job: Job, step: Step) -> Artifact:
    """The projected pool at one checkpoint, written shard by shard; found where it was written before."""
    from paydirt.gradients.pool import manifest_of
    from paydirt.gradients.store import pack_rows, plan_shards, write_shards

    inputs = {
        "pool": job.pool.fingerprint,
        "rows": row_key(job.pool),
        "encoder": job.encoder.fingerprint,
        "checkpoint": model_fingerprint(step.path),
    }
    fields = {
        "direction",
        "projection",
        "k",
        "projection_seed",
        "store_dtype",
        "token_budget",
        "warmup_method",
        "warmup_seed",
        "lora",
    }
    settings = scorer.model_dump(mode="json", include=fields) | {
        "shard_rows": job.shard_rows,
        "dtype": job.selector.dtype,
    }

    def make(part: Path) -> dict[str, Any]:
        ledger, name = Ledger(part), Path(step.path).name
        with (
            _Collector(scorer, job, step, scorer.direction) as collect,
            ledger.record("gradients", name, scorer.pass_cost(job)) as entry,
        ):
            template = f"{job.encoding.template}, {job.encoding.max_length} tokens"
            manifest = manifest_of(collect.features, Path(step.path).name, template, inputs["pool"])
            manifest["dtype"] = scorer.store_dtype
            ids = job.pool.ids()
            plan = plan_shards(ids, job.shard_rows)
            bar = iter(track(job.shards(), f"gradients {Path(step.path).name}", job.shard_rows, len(ids)))
            next(bar)

            def advance(rows: int, computed: bool) -> None:
                next(bar, None)

            def compute(shard_ids: Any) -> Any:
                rows = job.pool.rows_of(shard_ids)
                return pack_rows(collect(job.pool.take(rows), [job.tokens[int(r)] for r in rows]), scorer.store_dtype)

            write_shards(part / "store", manifest, plan, compute, on_shard=advance)
            entry.measured_flops, entry.tokens = collect.flops_per_token() * job.tokens.total, job.tokens.total
            projecting = collect.projection.flops(collect.features.parameters) * len(ids)
        # Additions alone, done inside the passes above: counted by closed form, no seconds of its own.
        with ledger.record("projection", name, Cost(projecting)) as line:
            line.measured_flops = projecting
        return {"examples": len(ids), "measured_flops": entry.measured_flops + projecting}

    place = job.shared / "gradients" / f"{Path(step.path).name}-{fingerprint([inputs, settings])}"
    artifact = build(place, "gradients", settings, inputs, make)
    job.meter.add(float(artifact.notes["measured_flops"]))
    return artifact


def _score_without_store(scorer: Gradient, job: Job, pairs: list[tuple[Step, Any]]) -> Path:
    """Similarities of each checkpoint in scratch files; features are dropped as soon as they are matched."""
    import io

    from paydirt.gradients.influence import unit

    for at, (step, references) in enumerate(pairs):
        columns = _columns(scorer, job, references)
        with _Collector(scorer, job, step, scorer.direction) as collect, job.ledger.record("gradients", step.path):
            shards = enumerate(track(job.shards(), f"gradients {at + 1}/{len(pairs)}", job.shard_rows, len(job.pool)))
            for shard, (start, stop) in shards:
                path = job.scratch / f"similarity-{at}-{shard:05d}.npy"
                if path.exists():
                    continue
                encoded = [job.tokens[row] for row in range(start, stop)]
                rows = unit(collect(job.pool.examples(start, stop), encoded))
                buffer = io.BytesIO()
                np.save(buffer, (rows @ columns.T).numpy())
                write_atomic(path, buffer.getvalue())
            projecting = collect.projection.flops(collect.features.parameters) * len(job.pool)
            job.meter.add(collect.flops_per_token() * job.tokens.total + projecting)
    return job.scratch


def _sum_of_steps(folder: Path, shard: int, weights: list[float]) -> np.ndarray:
    parts = [weight * np.load(folder / f"similarity-{at}-{shard:05d}.npy") for at, weight in enumerate(weights)]
    return np.sum(parts, axis=0)
