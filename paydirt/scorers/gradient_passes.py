"""The passes of gradient influence: warm-up, the references' features, the pool's features in a store or matched at once.

Everything that another target, another part of the pool or a continued run can use again is a shared artifact. A part of
a pool (`Job.part`) warms up on the whole one, so that every part sees the same checkpoints.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paydirt.artifacts import Artifact, build, fingerprint, write_atomic
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.data.encoding import Encoded
from paydirt.data.pool import Pool
from paydirt.data.tokens import row_key
from paydirt.models.load import attach_lora, load_model, model_fingerprint
from paydirt.progress import track
from paydirt.scorers.base import Job, target_fingerprint
from paydirt.training.shared import tuned_model
from paydirt.types import Cost

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient

LAYER_NUMBER = re.compile(r"\.(?:layers|h|blocks?)\.(\d+)\.")


class Step(NamedTuple):
    """One checkpoint: its directory, its weight eta, and where the optimizer's moments are (None without warm-up)."""

    path: str
    weight: float
    moments: str | None


def checkpoints(scorer: Gradient, job: Job) -> Iterator[Step]:
    """Warm up (once; shared) and give its checkpoints in order of training."""
    from paydirt.gradients.moments import checkpoint_weights

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


class Collector:
    """Features of examples at one checkpoint: the model, its moments and the projection, loaded for a `with` block."""

    def __init__(self, scorer: Gradient, job: Job, step: Step, direction: str) -> None:
        from paydirt.gradients.features import Features
        from paydirt.gradients.moments import load_moments
        from paydirt.gradients.projection import Projection

        self.job, self.max_tokens = job, scorer.max_tokens
        config = job.selector.model_copy(update={"path": step.path, "tokenizer": None})
        model = load_model(config, train_adapter=True)
        if step.moments is None and scorer.warmup_method == "lora":
            model = attach_lora(model, scorer.lora, scorer.warmup_seed).eval()
        moments = load_moments(step.moments, model) if step.moments and direction.startswith("adam") else None
        if scorer.layers is not None:
            freeze_below(model, scorer.layers)
        self.projection = Projection(scorer.k, scorer.projection, scorer.projection_seed)
        self.features = Features(model, self.projection, direction, moments, scorer.token_budget)

    def __enter__(self) -> Collector:
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

    def of_pool(self, rows: np.ndarray) -> Any:
        """Features [n, k] of pool rows, in that order."""
        return self(self.job.pool.take(rows), [window(self.job.tokens[int(r)], self.max_tokens) for r in rows])

    def pool_flops(self) -> float:
        """Of forward and backward of the whole pool, counted on a few examples of all lengths (see `extrapolated`)."""
        lengths = self.job.tokens.lengths
        if self.max_tokens:
            lengths = np.minimum(lengths, self.max_tokens)
        some = spread_over(lengths)
        counts = [count_flops(partial(self.of_pool, np.asarray([row])))[0] for row in some]
        answers = np.minimum(self.job.tokens.supervised_lengths, lengths)
        return extrapolated(lengths, answers, some, counts)

    def projection_flops(self, examples: int) -> float:
        """Of projecting so many examples: additions inside the passes, counted by closed form."""
        return self.projection.flops(self.features.parameters) * examples


def spread_over(lengths: np.ndarray, count: int = 12) -> np.ndarray:
    """Rows of the shortest, the longest and those between, evenly by rank."""
    order = np.argsort(lengths, kind="stable")
    return np.unique(order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)])


def extrapolated(lengths: np.ndarray, answers: np.ndarray, some: np.ndarray, counts: list[float]) -> float:
    """FLOPs of all examples from the `counts` of `some`: linear in tokens, their square and supervised tokens.

    That is what a transformer's cost is made of, so a dozen examples determine it; a mean over a dozen would be off by
    a third where a few long texts hold most of the tokens.
    """
    terms = np.stack([lengths, np.square(lengths, dtype=np.float64), answers, np.ones(len(lengths))], axis=1)
    scale = np.abs(terms).max(axis=0).clip(1)
    weights, *_ = np.linalg.lstsq((terms / scale)[some], np.asarray(counts), rcond=1e-9)
    return float(np.clip((terms / scale) @ weights, 0, None).sum())


def window(example: Encoded, most: int | None) -> Encoded:
    """At most `most` tokens around the first supervised one: half before it, or less where the answer is long enough."""
    if most is None or len(example.ids) <= most:
        return example
    first = int(np.argmax(example.supervised))
    start = min(max(0, first - most // 2), len(example.ids) - most)
    part = slice(start, start + most)
    return Encoded(example.ids[part], example.supervised[part])


def freeze_below(model: Any, layers: int) -> None:
    """Leave gradients only to the parameters of the last `layers` layers; ValueError where layers have no number."""
    numbers = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (found := LAYER_NUMBER.search(name)):
            numbers[name] = int(found.group(1))
    if not numbers:
        raise ValueError(
            "gradient option layers: the model's trainable parameters name no numbered layer; leave it out"
        )
    first = max(numbers.values()) + 1 - layers
    for name, parameter in model.named_parameters():
        if numbers.get(name, -1) < first:
            parameter.requires_grad_(False)


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
        with Collector(scorer, job, step, "sgd") as collect, Ledger(part).record("references", job.target.name) as line:
            lengths, answers = (np.asarray(v) for v in zip(*((len(e.ids), e.n_supervised) for e in encoded)))
            few, examples = spread_over(lengths), job.target.references
            counts = [count_flops(partial(collect, [examples[i]], [encoded[i]]))[0] for i in few]
            work["features"] = collect(examples, encoded)
            line.tokens = int(lengths.sum())
            line.measured_flops = extrapolated(lengths, answers, few, counts)
            line.measured_flops += collect.projection_flops(len(encoded))
        np.save(part / "features.npy", work["features"].numpy())
        return {"references": len(encoded), "measured_flops": line.measured_flops}

    place = job.shared / "references" / f"{Path(step.path).name}-{fingerprint([inputs, settings])}"
    artifact = build(place, "references", settings, inputs, make)
    job.meter.charge(artifact)
    return torch.from_numpy(np.load(artifact.path / "features.npy"))


def write_pool(scorer: Gradient, job: Job, step: Step) -> Artifact:
    """The projected pool at one checkpoint, written shard by shard; found where it was written before.

    A part of a pool whose whole store exists takes its rows from there, and is charged as if it had computed them.
    """
    from paydirt.gradients.store import plan_shards, write_shards

    inputs, settings = _identity(scorer, job, step, set())
    settings["shard_rows"] = job.shard_rows
    name = Path(step.path).name

    def place(pool: Pool) -> tuple[Path, dict[str, str]]:
        found = inputs | {"pool": pool.fingerprint, "rows": row_key(pool)}
        return job.shared / "gradients" / f"{name}-{fingerprint([found, settings])}", found

    def make(part: Path) -> dict[str, Any]:
        ids, rows, ledger = job.pool.ids(), len(job.pool), Ledger(part)
        whole = place(job.root.pool)[0]
        plan = plan_shards(ids, job.shard_rows)
        bar = iter(track(job.shards(), f"gradients {name}", job.shard_rows, rows))
        next(bar)

        def advance(rows: int, computed: bool) -> None:
            next(bar, None)

        if job.whole is not None and (whole / "manifest.json").exists():
            from paydirt.gradients.store import Store

            made, store = Artifact(whole), Store(whole / "store")
            share = scorer.pass_cost(job).tokens / max(1, scorer.pass_cost(job.root).tokens)
            with ledger.record("gradients", f"{name}, from the whole store", scorer.pass_cost(job)) as entry:
                pick = _picker(store, job)
                manifest = {k: v for k, v in store.manifest.items() if k != "shards"}
                write_shards(part / "store", manifest | {"data": job.pool.fingerprint}, plan, pick, on_shard=advance)
                entry.measured_flops = float(made.notes["measured_flops"]) * share
            return {"examples": rows, "measured_flops": entry.measured_flops}
        with (
            Collector(scorer, job, step, scorer.direction) as collect,
            ledger.record("gradients", name, scorer.pass_cost(job)) as entry,
        ):
            manifest = _store_manifest(scorer, job, collect, name)

            def compute(shard_ids: Any) -> Any:
                from paydirt.gradients.store import pack_rows

                return pack_rows(collect.of_pool(job.pool.rows_of(shard_ids)), scorer.store_dtype)

            write_shards(part / "store", manifest, plan, compute, on_shard=advance)
            entry.measured_flops, entry.tokens = collect.pool_flops(), scorer.pass_cost(job).tokens
            projecting = collect.projection_flops(rows)
        # Additions alone, done inside the passes above: no seconds of its own.
        with ledger.record("projection", name, Cost(projecting)) as line:
            line.measured_flops = projecting
        return {"examples": rows, "measured_flops": entry.measured_flops + projecting}

    out, inputs = place(job.pool)
    artifact = build(out, "gradients", settings, inputs, make)
    job.meter.charge(artifact)
    return artifact


def _store_manifest(scorer: Gradient, job: Job, collect: Collector, name: str) -> dict[str, Any]:
    from paydirt.gradients.pool import manifest_of

    template = f"{job.encoding.template}, {job.encoding.max_length} tokens"
    manifest = manifest_of(collect.features, name, template, job.pool.fingerprint, max_tokens=scorer.max_tokens)
    return manifest | {"dtype": scorer.store_dtype}


def _picker(store: Any, job: Job) -> Any:
    """Shards of a part's rows out of the whole pool's store, whose shards are in row order."""

    def pick(shard_ids: Any) -> Any:
        import torch

        rows = job.root.pool.rows_of(shard_ids)
        out: dict[str, Any] = {}
        for shard in np.unique(rows // job.shard_rows).tolist():
            at = np.flatnonzero(rows // job.shard_rows == shard)
            ids, tensors = store.tensors(shard)
            inside = torch.from_numpy(rows[at] - shard * job.shard_rows)
            for key, tensor in tensors.items():
                if key not in out:
                    out[key] = torch.empty(len(rows), *tensor.shape[1:], dtype=tensor.dtype)
                out[key][torch.from_numpy(at)] = tensor[inside]
            assert [ids[i] for i in inside.tolist()] == [shard_ids[i] for i in at.tolist()]
        return out

    return pick


def score_without_store(scorer: Gradient, job: Job, pairs: list[tuple[Step, Any]]) -> Path:
    """Similarities of each checkpoint in scratch files; features are dropped as soon as they are matched."""
    from paydirt.gradients.influence import unit

    for at, (step, references) in enumerate(pairs):
        columns = reference_columns(scorer, job, references)
        with Collector(scorer, job, step, scorer.direction) as collect, job.ledger.record("gradients", step.path):
            shards = enumerate(track(job.shards(), f"gradients {at + 1}/{len(pairs)}", job.shard_rows, len(job.pool)))
            for shard, (start, stop) in shards:
                path = job.scratch / f"similarity-{at}-{shard:05d}.npy"
                if path.exists():
                    continue
                rows = unit(collect.of_pool(np.arange(start, stop)))
                buffer = io.BytesIO()
                np.save(buffer, (rows @ columns.T).numpy())
                write_atomic(path, buffer.getvalue())
            job.meter.add(collect.pool_flops() + collect.projection_flops(len(job.pool)))
    return job.scratch


def sum_of_steps(folder: Path, shard: int, weights: list[float]) -> np.ndarray:
    """The shard's similarities [n, C], weighted over checkpoints."""
    parts = [weight * np.load(folder / f"similarity-{at}-{shard:05d}.npy") for at, weight in enumerate(weights)]
    return np.sum(parts, axis=0)
