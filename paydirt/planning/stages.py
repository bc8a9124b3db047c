"""The work of one stage from its config: what it would compute, keep in memory and leave on disk. Nothing is run.

FLOPs are those that the stage itself states as predicted: `selection_cost`, `predict_training_cost`, and what a benchmark
expects. Seconds come from a `Probe` of this machine, in the shapes that the passes will have. Pools are imported and
encoded for it, since lengths decide everything: the work that follows finds them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import open_artifact
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import Facts, Lengths
from paydirt.cost.forms import forward_flops
from paydirt.cost.memory import SLAB, gradient_memory, scoring_memory, training_memory
from paydirt.models.load import ModelConfig, architecture_of, transformers_config
from paydirt.planning.clock import SETTLING, Clock, pool_bytes
from paydirt.planning.plan import Work
from paydirt.planning.probe import Probe, scoring
from paydirt.scorers.gradient import Gradient
from paydirt.scoring.base import BATCH_TOKENS, Job, Scorer
from paydirt.scoring.inputs import nested
from paydirt.selection.select import taken_ids
from paydirt.stages import EvaluateStage, ScoreStage, SelectStage, TrainStage, job_of, watched_examples
from paydirt.tasks.spending import Expected
from paydirt.training.config import TrainConfig, predict_training_cost

TRAINED = {"warm-up", "tuning", "calibration"}
BY_GRADIENTS = {"gradients", "references", "budget", "projection", "reference projection", "proxy"}
FREE = {"projection", "reference projection"}  # within a pass of gradients, which is timed with them
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "bf16": 2, "fp16": 2}  # a number
CPU_SLAB = 1 << 19  # gradient entries that are projected at a time on a CPU
ITEM = 1500  # bytes of an item that lm-eval graded: its answer and verdicts
SCORES = 8 + 60  # bytes of a row: its score, and id, source and lengths


# ---- scoring --------------------------------------------------------------------------------------------------------
def score_work(config: ScoreStage, clock: Clock, what: str = "") -> Work:
    """Score a pool: passes and tunings of the method."""
    space = clock.space
    job = job_of(config, space, space.shared)
    method = config.method
    cost = method.predict_cost(job)
    uses = any(inner.needs_model for _, inner in nested(method)) and config.model is not None
    probe, base = clock.of_method(method, config.model, job), clock.start()
    if not cost.flops:
        seconds = scoring(method, job, clock.cache, clock.measure)
    else:
        seconds = _scoring_seconds(method, job.facts, cost.parts, probe) if probe is not None else None
    seconds = None if seconds is None else seconds + SETTLING
    columns = len(method.columns(job.target)) if method.pairwise else 1
    disk = len(job.pool) * (SCORES + (4.0 * columns if method.pairwise else 0.0))
    if uses:
        disk += sum(inner.kept_bytes(job.facts) for _, inner in nested(method))
    peak = _scoring_bytes(method, job, base) if uses and config.model is not None else (base or {}).get("bytes")
    label = what or f"score {method.label}" + (f" for {config.target.name}" if config.target else "")
    parts, models = dict(cost.parts), config.model is not None or bool(cost.flops)
    return Work(label, 1, 0, cost.flops, cost.tokens, seconds, peak, disk, parts=parts, models=models)


def _scoring_seconds(method: Scorer, facts: Facts, parts: dict[str, float], probe: Probe) -> float | None:
    """Each part as so many passes or trainings of the kind that its name tells; reading, where it tells nothing."""
    gradient = next((inner for _, inner in nested(method) if isinstance(inner, Gradient)), None)
    total = 0.0
    for name, flops in parts.items():
        if not flops or (name in FREE and gradient is not None):
            continue
        if name in TRAINED:
            found = _tuning_seconds(method, name, flops, facts, probe, gradient)
        elif facts.architecture is None or _reads_sentences(method):
            found = _embedding_seconds(method, name, facts, probe)
        elif name in BY_GRADIENTS and gradient is not None:
            each = facts.pool.capped(gradient.max_tokens)
            once = gradient.pass_flops(facts, each)
            seconds = probe.gradients(gradient, each)
            found = None if seconds is None else seconds * flops / once
        else:
            once = forward_flops(facts.model, facts.pool.total, facts.pool.mean, facts.convention)
            seconds = probe.reading(facts.pool, _logits(method, facts), _budget(method))
            found = None if seconds is None else seconds * flops / once
        if found is None:
            return None
        total += found
    return total


def _logits(method: Scorer, facts: Facts) -> float:
    """Tokens whose logits a pass computes: none where hidden states are enough."""
    if method.name == "rds" or facts.answers is None:
        return 0.0
    return facts.pool.total if getattr(method, "tokens", "supervised") == "all" else facts.answers.total


def _reads_sentences(method: Scorer) -> bool:
    return method.name == "embed"


def _embedding_seconds(method: Any, name: str, facts: Facts, probe: Probe) -> float | None:
    known = facts.encoder_of(method)
    return probe.embedding(method, known.pool) if name == "forward" else 0.0


def _budget(method: Scorer) -> int:
    return int(getattr(method, "token_budget", 4096) or BATCH_TOKENS)


def _tuning_seconds(
    method: Scorer, name: str, flops: float, facts: Facts, probe: Probe, gradient: Gradient | None
) -> float | None:
    """A warm-up on a share of the pool, or tunings on the references, by the FLOPs that one of them takes."""
    config, lengths = trainings_of(method), facts.references
    if name == "warm-up" and gradient is not None:
        config, lengths = gradient.warmup(), facts.root.share(gradient.warmup_fraction)
        lengths = replace(lengths, each=_sample(facts.root, round(lengths.count)))
    if config is None:
        return None
    once = predict_training_cost(config, facts.model, lengths.total, lengths.count, facts.convention).flops
    seconds = probe.training(config, lengths)
    return None if seconds is None else seconds * flops / once


def trainings_of(method: Scorer) -> TrainConfig | None:
    """How a method tunes on the references."""
    for _, inner in nested(method):
        if (make := getattr(inner, "training", None)) is not None:
            depth, rate = getattr(inner, "depth", None), getattr(inner, "rate", None)
            return make(max(1, depth), rate) if depth is not None else make()
    return None


def _sample(lengths: Lengths, count: int) -> np.ndarray | None:
    """So many lengths, spread evenly by rank."""
    if lengths.each is None or count < 1:
        return None
    ordered = np.sort(lengths.each)
    return ordered[np.linspace(0, len(ordered) - 1, count).astype(int)]


def _scoring_bytes(method: Scorer, job: Job, base: dict[str, Any] | None) -> float:
    """The highest of what the method does: reading, gradients, its tunings; on a CPU a process comes before it."""
    model, arch = job.selector, job.architecture
    longest, bytes_each = int(job.tokens.lengths.max(initial=1)), BYTES[model.dtype]
    most = scoring_memory(arch, max(_budget(method), longest), bytes_each).total
    for _, inner in nested(method):
        if isinstance(inner, Gradient):
            rank, wide = inner.lora.r, max(inner.token_budget, longest)
            found = gradient_memory(arch, wide, rank, inner.lora.targets, inner.k, bytes_each)
            slabs = 0.0 if _accelerated(model) else 3 * 4 * (SLAB - CPU_SLAB)  # a CPU projects what it caches
            most = max(most, found.total - slabs)
            if inner.warmup_epochs:
                most = max(most, _training_bytes(inner.warmup(), model, arch, longest))
    if (tuning := trainings_of(method)) is not None and job.target.references:
        shown = max(len(e.ids) for e in job.encoder.encode_examples(job.target.references))
        most = max(most, _training_bytes(tuning, model, arch, shown))
    return most - _unquantised(model, arch) + (base["bytes"] if base and not _accelerated(model) else 0.0)


def _unquantised(model: ModelConfig, arch: Architecture) -> float:
    """Bytes that quantised weights do not take."""
    share = {"none": 0.0, "8bit": 1 - 1 / BYTES[model.dtype], "4bit": 1 - 0.5 / BYTES[model.dtype]}[model.quantization]
    return share * BYTES[model.dtype] * arch.non_embedding_parameters


def _accelerated(model: ModelConfig) -> bool:
    from paydirt.models.load import resolve_device

    return resolve_device(model.device).startswith("cuda")


# ---- training -------------------------------------------------------------------------------------------------------
def train_work(config: TrainStage, clock: Clock, lengths: Lengths | None = None, what: str = "") -> Work:
    """Tune a model; on `lengths` where the selection is not there yet, whose examples would say them exactly."""
    space, arch = clock.space, architecture_of(config.model)
    encoder = space.encoder(config.model, config.encoding)
    if lengths is None:
        tokens, pool = space.tokens(config.pool, config.model, config.encoding), space.pool(config.pool)
        rows = np.arange(len(pool))
        if config.selection:
            rows = pool.rows_of(sorted(taken_ids(open_artifact(Path(config.selection), "select").path)))
        lengths = Lengths.of(tokens.lengths[rows][tokens.supervised_lengths[rows] > 0])
    cost = predict_training_cost(config.training, arch, lengths.total, lengths.count, config.convention)
    probe = clock.of(config.model, encoder)
    base = clock.start()
    longest = int(lengths.each.max(initial=1)) if lengths.each is not None else round(lengths.mean)
    peak = _training_bytes(config.training, config.model, arch, longest)
    peak += base["bytes"] if base and not _accelerated(config.model) else 0.0
    disk = model_disk(config.training, arch, config.model.dtype)
    seconds = probe.training(config.training, lengths)
    if seconds is not None and (watched := watched_examples(config, encoder)):
        from paydirt.training.watch import PASS

        shown = Lengths.of([len(one.ids) for one in watched])
        looks = 1 + lengths.count * config.training.epochs // (config.training.batch_size * config.training.watch_every)
        look = probe.reading(shown, shown.total, round(PASS * shown.mean), loaded=True)
        seconds = None if look is None else seconds + looks * look
    return Work(what or "train", 1, 0, cost.flops, cost.tokens, seconds, peak, disk)


def _training_bytes(config: TrainConfig, model: ModelConfig, arch: Architecture, longest: int) -> float:
    lora = config.method == "lora"
    compute = BYTES[config.precision if config.precision != "fp32" else model.dtype]
    tokens = (config.micro_batch_size or config.batch_size) * longest
    found = training_memory(arch, tokens, config.lora.r if lora else None, config.lora.targets, compute)
    parts = dict(found.parts)
    if compute == 4:  # then products are made of the weights themselves
        parts.pop("weights to compute with", None)
    if config.gradient_checkpointing:  # the input of each layer, and one layer at a time in full
        parts["activations"] = parts["activations"] / arch.layers + tokens * compute * arch.hidden * arch.layers
    return sum(parts.values())


def model_disk(config: TrainConfig, arch: Architecture, dtype: str) -> float:
    """The tuned model, and what is kept of its checkpoints: weights and two moments an epoch."""
    if config.method == "lora":
        each = 4.0 * arch.lora_parameters(config.lora.r, config.lora.targets)
    else:
        each = 4.0 * arch.parameters
    kept = config.epochs if config.keep_checkpoints and config.save == "epoch" else 0
    return each * (1 + 3 * kept)


# ---- the others -----------------------------------------------------------------------------------------------------
def select_work(config: SelectStage, clock: Clock, what: str = "") -> Work:
    """Cut a ranking: no accelerator; the chosen records and a table of scores."""
    pool = clock.space.pool(config.pool)
    share = config.budget.fraction or min(1.0, (config.budget.count or len(pool)) / len(pool))
    seconds, disk = SETTLING + 2e-5 * len(pool), pool_bytes(pool) * share + 60.0 * len(pool)
    return Work(what or "select", seconds=seconds, disk_bytes=disk, models=False)


def evaluate_work(config: EvaluateStage, clock: Clock, what: str = "") -> Work:
    """Measure a model; None where the benchmark cannot tell what it will read."""
    space = clock.space
    target = space.target(config.target) if config.target else None
    encoder = space.encoder(config.model, config.encoding)
    benchmark = config.benchmark.resolved(config.target)
    known = transformers_config(config.model)
    arch = Architecture.from_config(known)
    expected = Expected(arch, known)
    label = what or f"evaluate on {target.name if target else benchmark.name}"
    if not benchmark.expect(expected, encoder, target):
        return Work(label, flops=None, seconds=None, disk_bytes=1e5)
    probe = clock.of(config.model, encoder)
    base = clock.start()
    seconds = _evaluation_seconds(probe, expected)
    peak = scoring_memory(arch, _padded(expected), BYTES[config.model.dtype]).total
    peak += base["bytes"] if base and not _accelerated(config.model) else 0.0
    items = len(expected.written) if expected.rows else 0  # whose answers and verdicts are kept
    return Work(label, 1, 0, expected.predicted, expected.foreseen, seconds, peak, 1e4 + ITEM * items)


def _padded(expected: Expected) -> int:
    """Padded tokens of the largest batch."""
    longest = max([0, *(n for lengths in expected.read for n in lengths), *(max(p) + n for p, n in expected.written)])
    return expected.rows * longest if expected.rows else max(expected.token_budget, longest)


def _evaluation_seconds(probe: Probe, expected: Expected) -> float | None:
    """Answers are taken to run to their greatest length."""
    total, loaded = expected.seconds, False
    written: dict[int, list[int]] = {}
    for prompts, longest in expected.written:
        written.setdefault(longest, []).extend(prompts)
    for longest, prompts in written.items():
        if (found := probe.writing(prompts, longest, expected.token_budget, expected.rows, loaded)) is None:
            return None
        total, loaded = total + found, True
    for lengths in filter(None, expected.read):
        logits = sum(lengths) if expected.rows else 0.5 * sum(lengths)  # lm-eval takes those of every token
        budget = expected.rows * max(lengths) if expected.rows else 4096
        if (found := probe.reading(Lengths.of(lengths), logits, budget, loaded)) is None:
            return None
        total, loaded = total + found, True
    return total
