"""What a model takes on this machine, measured once and remembered: seconds of reading, training, gradients, answers.

Enters: a model, and what is asked of it. Leaves: a few numbers in the cache (`probes/`), keyed by machine, device, threads,
model, dtype, versions and settings, so that a plan measures only what no plan before it did. Each measurement runs the
code that the work itself will run, on random tokens, for seconds; all that one plan needs take about half a minute.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.cost.facts import Lengths
from paydirt.data.batches import MOST_ROWS, fixed_shapes, width_of
from paydirt.data.encoding import Encoded, Encoder
from paydirt.models.load import ModelConfig, model_identity, resolve_device
from paydirt.planning.machine import remembered
from paydirt.scoring.base import Job, Scorer
from paydirt.scoring.inputs import target_fingerprint
from paydirt.training.config import TrainConfig

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient

PATIENCE = 2.0  # seconds for one number
LEAST_STEPS, MORE_STEPS = 3, 12  # of the short training, and how many more the long one has at most
MOST_WIDTHS = 3
SAMPLE = 512  # rows that a method without a model is timed on


def scoring(method: Scorer, job: Job, cache: Path, measure: bool) -> float | None:
    """Seconds of a method that runs no model, from scoring some of the pool."""
    rows = np.unique(np.linspace(0, len(job.pool) - 1, SAMPLE).astype(int))

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="paydirt-probe-") as folder:
            part = job.asking(rows, Path(folder))
            began = time.perf_counter()
            method.values(part)
            return {"seconds": (time.perf_counter() - began) * len(job.pool) / len(rows)}

    settings = {"method": method.to_dict(), "pool": job.pool.fingerprint, "target": target_fingerprint(job.target)}
    found = remembered(cache, "scoring", settings, work, measure)
    return None if found is None else float(found["seconds"])


@dataclass
class Probe:
    """Times of `model`, asked for one by one. With `measure` off only what is remembered is known, and None what is not."""

    model: ModelConfig
    encoder: Encoder
    cache: Path
    measure: bool = True
    threads: int | None = None
    once: float = 0.0
    """Seconds that a process spends on its first training, of those that were asked for, beside what each takes."""

    @cached_property
    def device(self) -> str:
        """The accelerator's own name, or cpu."""
        import torch

        place = resolve_device(self.model.device)
        return torch.cuda.get_device_name(place) if place.startswith("cuda") else place

    @cached_property
    def _who(self) -> dict[str, Any]:
        import torch

        threads = self.threads or torch.get_num_threads()
        return {"device": self.device, "threads": threads, "model": model_identity(self.model)}

    def known(self, kind: str, settings: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """What `work` measured of this model, now or before; None where it has not, and may not."""
        with _threads(self.threads):
            return remembered(self.cache, kind, {**self._who, **settings}, work, self.measure)

    # ---- reading --------------------------------------------------------------------------------------------------
    def reading(self, lengths: Lengths, answers: float, budget: int, loaded: bool = False) -> float | None:
        """Seconds of one forward pass over texts of `lengths`, logits of `answers` tokens, batches of `budget` tokens.

        The model is loaded for it, unless it is there (`loaded`).
        """
        widths = _widths(lengths, self._most)
        found = self.known("reading", {"widths": widths, "budget": budget}, lambda: self._read(widths, budget))
        if found is None:
            return None
        passes = _seconds(lengths, budget, found["tokens"], self._most)
        return found["load"] * (not loaded) + passes + answers * found["logits"]

    def _read(self, widths: Sequence[int], budget: int) -> dict[str, Any]:
        import torch

        from paydirt.models.forward import POSITIONS, HiddenMeans
        from paydirt.models.load import load_model

        began = time.perf_counter()
        model = load_model(self.model)
        load = time.perf_counter() - began
        means = HiddenMeans(model, self.encoder.pad_id, budget)
        tokens = {}
        for width in widths:
            ids = torch.randint(3, self._vocabulary, (_rows(budget, width), width), device=means.device)
            tokens[width] = _median(partial(means._one, ids), means.device) / ids.numel()
        head, logits = model.get_output_embeddings(), 0.0
        if head is not None:
            states = torch.zeros(1, POSITIONS, head.weight.shape[-1], dtype=head.weight.dtype, device=means.device)
            with torch.no_grad():
                logits = _median(lambda: head(states).float(), means.device) / POSITIONS
        return {"load": load, "tokens": tokens, "logits": logits}

    # ---- training -------------------------------------------------------------------------------------------------
    def training(self, config: TrainConfig, lengths: Lengths) -> float | None:
        """Seconds of a whole training on texts of `lengths`: what every training takes, and its steps."""
        micro = config.micro_batch_size or config.batch_size
        width = max(8, round(lengths.mean * lengths.padded(micro))) if lengths.total else 8
        wide = width_of(width, self._most)
        shape = config.model_dump(include={"method", "lora", "batch_size", "micro_batch_size", "precision", "weighting",
                                           "gradient_checkpointing"}, mode="json")  # fmt: skip
        found = self.known("training", {**shape, "width": wide}, lambda: self._train(config, wide))
        if found is None:
            return None
        self.once = max(self.once, found["once"])
        full, last = divmod(round(lengths.count), config.batch_size)
        steps = (full + last / config.batch_size) * config.epochs
        steps += (
            0.5 * (last > 0) * config.epochs * (1 - last / config.batch_size)
        )  # a short step is not so much cheaper
        return found["fixed"] + steps * found["step"] * width / wide

    def _train(self, config: TrainConfig, width: int) -> dict[str, Any]:
        from paydirt.training.train import train_model

        rows = np.random.default_rng(0).integers(3, self._vocabulary, (8, width)).astype(np.int32)
        mask = np.arange(width) >= width // 2
        examples = [Encoded(row, mask) for row in rows]
        unwatched = {"report_to": [], "early_stop": 0}
        plain = config.model_copy(update={"epochs": 1, "save": "no", "keep_checkpoints": False, **unwatched})

        def seconds(steps: int) -> float:
            data = [examples[i % len(examples)] for i in range(steps * config.batch_size)]
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="paydirt-probe-") as folder:
                train_model(Path(folder), self.model, self.encoder, data, plain, seed=0)
            return time.perf_counter() - began

        first = seconds(LEAST_STEPS)
        if first > 5 * PATIENCE:  # a large model: what surrounds its steps does not count
            return {"once": 0.0, "fixed": 0.0, "step": first / LEAST_STEPS}
        short = seconds(LEAST_STEPS)  # the first one of a process warms up
        more = int(np.clip(PATIENCE / max(short / LEAST_STEPS, 1e-3), 4, MORE_STEPS))
        step = max(0.0, seconds(LEAST_STEPS + more) - short) / more
        return {"once": max(0.0, first - short), "fixed": max(0.0, short - LEAST_STEPS * step), "step": step}

    # ---- gradients ------------------------------------------------------------------------------------------------
    def gradients(self, scorer: Gradient, lengths: Lengths) -> float | None:
        """Seconds of one pass of projected per-example gradients over texts of `lengths`."""
        widths = _widths(lengths, self._most)
        what = {"k", "projection", "direction", "token_budget", "layers", "warmup_method", "lora"}
        settings = {**scorer.model_dump(include=what, mode="json"), "widths": widths}
        found = self.known("gradients", settings, lambda: self._gradients(scorer, widths))
        if found is None:
            return None
        return found["load"] + _seconds(lengths, scorer.token_budget, found["tokens"], self._most)

    def _gradients(self, scorer: Gradient, widths: Sequence[int]) -> dict[str, Any]:
        import torch

        from paydirt.columns.gradients import freeze_below
        from paydirt.gradients.directions import AdamSettings
        from paydirt.gradients.features import Features
        from paydirt.gradients.per_example import clean_name, trainable
        from paydirt.gradients.projection import Projection
        from paydirt.models.load import attach_lora, load_model

        began = time.perf_counter()
        model = load_model(self.model, train_adapter=True)
        if scorer.warmup_method == "lora":
            model = attach_lora(model, scorer.lora, 0).eval()
        if scorer.layers is not None:
            freeze_below(model, scorer.layers)
        load, moments = time.perf_counter() - began, None
        if scorer.direction.startswith("adam"):
            ones = {clean_name(name): torch.ones_like(p) for name, p in trainable(model).items()}
            settings = AdamSettings()
            moments = SimpleNamespace(first=ones, second=ones, settings=settings, digest=str, check=lambda shapes: None)
        projection = Projection(scorer.k, scorer.projection, scorer.projection_seed)
        tokens, rng = {}, np.random.default_rng(0)
        with Features(model, projection, scorer.direction, moments, scorer.token_budget) as features:  # type: ignore[arg-type]
            for width in widths:
                rows = rng.integers(3, self._vocabulary, (_rows(scorer.token_budget, width), width))
                items = [Encoded(row, np.arange(width) >= width // 2) for row in rows]
                tokens[width] = _median(partial(features, items), features.device) / rows.size
        return {"load": load, "tokens": tokens}

    # ---- writing --------------------------------------------------------------------------------------------------
    def writing(
        self, prompts: Sequence[int], longest: int, budget: int, rows: int = 0, loaded: bool = False
    ) -> float | None:
        """Seconds to read prompts of these lengths and write `longest` tokens to each, `rows` a batch or `budget` tokens."""
        width = width_of(max(prompts), self._most)
        most = rows or max(1, budget // max(prompts))
        rows = int(np.clip(rows or budget // width, 1, 256))
        rows = min(rows, 1 << max(0, (len(prompts) - 1).bit_length()))
        found = self.known("writing", {"width": width, "rows": rows}, lambda: self._write(width, rows))
        if found is None:
            return None
        steps = -(-len(prompts) // most) * longest * found["step"] * min(1.0, len(prompts) / rows)
        return found["load"] * (not loaded) + found["prompt"] * sum(prompts) / (rows * width) + steps

    def _write(self, width: int, rows: int) -> dict[str, Any]:
        import torch

        from paydirt.models.load import load_model

        began = time.perf_counter()
        model = load_model(self.model)
        load = time.perf_counter() - began
        device = next(model.parameters()).device
        ids = torch.randint(3, self._vocabulary, (rows, width), device=device)

        def write(count: int) -> Any:
            how = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
            return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how,
                                  pad_token_id=self.encoder.pad_id)  # fmt: skip

        with torch.no_grad():
            short, long = (_median(partial(write, count), device) for count in (2, 8))
        step = max(0.0, long - short) / 6
        return {"load": load, "prompt": max(0.0, short - 2 * step), "step": step}

    # ---- sentence encoders ----------------------------------------------------------------------------------------
    def embedding(self, embed: Any, lengths: Lengths) -> float | None:
        """Seconds of one pass of a sentence encoder over texts of `lengths` in its own tokens."""
        from paydirt.columns.embeddings import TYPICAL

        widths, budget = _widths(lengths, embed.max_tokens), embed.batch_size * TYPICAL
        settings = {"encoder": embed.inputs(None)["encoder_model"], "widths": widths, "budget": budget}
        found = self.known("embedding", settings, lambda: self._embed(embed, widths, budget))
        return None if found is None else found["load"] + _seconds(lengths, budget, found["tokens"], embed.max_tokens)

    def _embed(self, embed: Any, widths: Sequence[int], budget: int) -> dict[str, Any]:
        from paydirt.columns.embeddings import TextEncoder

        began = time.perf_counter()
        encoder = TextEncoder(embed.encoder, embed.device, embed.max_tokens, embed.batch_size)
        load, tokens = time.perf_counter() - began, {}
        for width in widths:
            texts = [" ".join(["word"] * (width - 2))] * _rows(budget, width)
            tokens[width] = _median(partial(encoder._forward, texts, width), encoder.model.device) / (
                len(texts) * width
            )
        return {"load": load, "tokens": tokens}

    @cached_property
    def _most(self) -> int | None:
        from paydirt.models.load import architecture_of

        return architecture_of(self.model).max_sequence

    @cached_property
    def _vocabulary(self) -> int:
        from paydirt.models.load import architecture_of

        return architecture_of(self.model).vocab


def _widths(lengths: Lengths, most: int | None) -> list[int]:
    """Powers of two that the texts' padded lengths lie between, the heaviest few."""
    each = lengths.each if lengths.each is not None and len(lengths.each) else np.asarray([max(1, round(lengths.mean))])
    powers = np.minimum(2 ** np.ceil(np.log2(np.maximum(each, 8))), most or np.inf).astype(np.int64)
    found, counts = np.unique(powers, return_counts=True)
    heavy = sorted(zip(found.tolist(), (found * counts).tolist()), key=lambda pair: -pair[1])
    return sorted(width for width, _ in heavy[:MOST_WIDTHS])


def _rows(budget: int, width: int) -> int:
    return int(np.clip(budget // width, 1, MOST_ROWS))


def _seconds(lengths: Lengths, budget: int, tokens: dict[Any, float], most: int | None) -> float:
    """Of a pass in the shapes that it will have, rows that fill up included; a token's seconds by its row's width."""
    widths = np.asarray(sorted(map(int, tokens)), dtype=np.float64)
    rates = np.asarray([tokens.get(int(w), tokens.get(str(int(w)))) for w in widths], dtype=np.float64)
    if lengths.each is None:
        return float(lengths.total * np.interp(lengths.mean, widths, rates))
    each = lengths.each[lengths.each > 0]
    shapes = fixed_shapes(each, budget, most)
    return float(sum(s.size * s.width * np.interp(s.width, widths, rates) for s in shapes))


def _median(work: Callable[[], Any], device: Any) -> float:
    """Seconds of one call of `work`, the median of those that fit in `PATIENCE`; the first is thrown away."""
    import torch

    def once() -> float:
        began = time.perf_counter()
        work()
        if str(device).startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = once()
    if first > PATIENCE:
        return first
    times: list[float] = []
    end = time.perf_counter() + PATIENCE / 2
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 50):
        times.append(once())
    return float(np.median(times))


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Torch works on so many threads within."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
