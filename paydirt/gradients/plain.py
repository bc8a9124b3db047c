"""The reference: one example at a time, through torch's own backward, and a check of a user's model against it.

Slow and plain on purpose. `example_gradients` is the oracle of the tests and the fallback for models whose trainable
parameters no tap knows; `check_model` runs both on a few batches of the user's own model (attention backend, dtype,
quantisation and all) and says where they part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paydirt.data.batches import IGNORED
from paydirt.gradients.batches import GradientBatch
from paydirt.gradients.per_example import PerExample, UsedTwice, clean_name, frozen_behaviour, trainable
from paydirt.gradients.taps import Unsupported


def example_loss(model: nn.Module, batch: GradientBatch, row: int) -> Tensor:
    """Mean cross-entropy (nats) over the supervised tokens of one example, run alone and without its padding."""
    labels = batch.labels[row]
    length = int((labels != IGNORED).nonzero()[-1]) + 1
    logits = model(input_ids=batch.input_ids[row : row + 1, :length], use_cache=False).logits
    return F.cross_entropy(logits[0].float(), labels[:length], ignore_index=IGNORED)


def example_gradients(model: nn.Module, batch: GradientBatch, row: int) -> dict[str, Tensor]:
    """Gradient of that loss by (clean) parameter name; a parameter that was not used gets zeros."""
    parameters = trainable(model)
    with frozen_behaviour(model):
        grads = torch.autograd.grad(example_loss(model, batch, row), list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), grads, strict=True)
    return {clean_name(name): torch.zeros_like(p) if g is None else g for (name, p), g in pairs}


@dataclass(frozen=True)
class ModelCheck:
    """Batched against looped gradients. `errors`: |difference| / |exact| by parameter, worst row."""

    examples: int
    errors: dict[str, float] = field(default_factory=dict)
    attention: str = ""
    dtype: str = ""
    unsupported: str = ""

    @property
    def worst(self) -> float:
        return max(self.errors.values(), default=0.0)

    def passed(self, tolerance: float | None = None) -> bool:
        """Within 1e-4 in float32, 5 % in half precision, whose own rounding is of that order; never if unsupported."""
        limit = tolerance if tolerance is not None else (1e-4 if self.dtype == "float32" else 0.05)
        return not self.unsupported and self.worst <= limit

    def __str__(self) -> str:
        where = f"{self.examples} examples, attention {self.attention or '?'}, {self.dtype}"
        if self.unsupported:
            return f"batched gradients are not possible ({where}): {self.unsupported}. The slow loop will be used."
        name = max(self.errors, key=lambda key: self.errors[key], default="")
        verdict = "agree" if self.passed() else "DISAGREE"
        return f"batched and looped gradients {verdict} ({where}): worst relative error {self.worst:.1e} at {name}"


def batched_gradients(runner: PerExample, batch: GradientBatch) -> dict[str, Tensor]:
    """All per-example gradients of one batch at once, [B, numel] by name: for checks on small models only."""
    out: dict[str, Tensor] = {}
    shapes = {clean_name(name): p for name, p in trainable(runner.model).items()}

    def consume(name: str, lo: int, hi: int, gradient: Tensor) -> None:
        out[name][lo:hi] = gradient

    while True:
        out.update({name: torch.zeros(batch.size, p.numel(), device=p.device) for name, p in shapes.items()})
        try:
            runner.run(batch, consume)
            return out
        except UsedTwice as error:
            runner.hold_back(error)


def check_attention(
    model: Any, batches: Sequence[GradientBatch], backends: Sequence[str] = ("eager", "sdpa")
) -> list[ModelCheck]:
    """`check_model` under each attention backend, so that `paydirt doctor` can name the one that breaks gradients.

    A backend that the model or machine refuses is reported as unsupported. The model's own is restored.
    """
    before = model.config._attn_implementation
    checks = []
    for backend in backends:
        try:
            model.set_attn_implementation(backend)
            checks.append(check_model(model, batches))
        except (ValueError, ImportError, RuntimeError) as error:
            checks.append(ModelCheck(0, {}, backend, "", f"attention {backend!r} does not run: {error}"))
    model.set_attn_implementation(before)
    return checks


def check_model(model: nn.Module, batches: Iterable[GradientBatch], merge: bool = True) -> ModelCheck:
    """Compare batched with looped gradients on `batches` of the user's own model; never raises for the model's sake."""
    errors: dict[str, float] = {}
    examples = 0
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    attention = str(getattr(getattr(model, "config", None), "_attn_implementation", ""))
    try:
        for batch in batches:
            with PerExample(model, merge) as runner:
                fast = batched_gradients(runner, batch)
            for row in range(batch.size):
                for name, exact in example_gradients(model, batch, row).items():
                    difference = (fast[name][row] - exact.flatten().float()).norm()
                    scale = exact.float().norm()
                    error = float(difference / scale) if scale > 0 else float(difference)
                    errors[name] = max(errors.get(name, 0.0), error)
            examples += batch.size
    except Unsupported as error:
        return ModelCheck(examples, errors, attention, dtype, str(error))
    return ModelCheck(examples, errors, attention, dtype)
