"""A batch that does not fit is not cut: activations are recomputed, and no byte of a row tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stages import Tiny
from torch import nn

from paydirt.columns import PoolColumn
from paydirt.columns.gradients import GradientFeatures
from paydirt.gradients.features import Features
from paydirt.gradients.moments import Moments
from paydirt.gradients.projection import Projection
from paydirt.models.load import LoraSpec, model_identity
from paydirt.stages import Workspace

from .tiny import random_examples, tiny_model


@contextmanager
def limited(model: nn.Module, tokens: int) -> Iterator[list[int]]:
    """A device that holds the activations of `tokens` tokens: each layer's, where they are kept; yields what it refused."""
    refused: list[int] = []
    held = 0

    def take(module: nn.Module, args: tuple, kwargs: dict) -> None:
        nonlocal held
        hidden = args[0] if args else kwargs["hidden_states"]
        recomputed = module.training  # how transformers' layers know that they are checkpointed
        held = (
            hidden.shape[0] * hidden.shape[1] if recomputed or module is layers[0] else held + hidden.shape[:2].numel()
        )
        if held > tokens:
            refused.append(held)
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {held} tokens")

    layers = next(m for name, m in model.named_modules() if name.endswith("layers"))
    hooks = [layer.register_forward_pre_hook(take, with_kwargs=True) for layer in layers]
    try:
        yield refused
    finally:
        for hook in hooks:
            hook.remove()


def features(model: nn.Module, direction: str = "sgd", moments: Moments | None = None) -> tuple[torch.Tensor, bool]:
    with Features(model, Projection(64), direction, moments, token_budget=256) as made:
        return made(random_examples(40))[0], made.recomputed


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
@pytest.mark.parametrize("lora", [True, False])
def test_too_little_memory_changes_no_byte(family: str, lora: bool) -> None:
    model = tiny_model(family, lora)
    plenty, recomputed = features(model)
    assert not recomputed
    with limited(model, 300) as refused:
        scarce, recomputed = features(model)
    assert recomputed
    assert len(refused) == 1, "found once, not once a batch"
    assert scarce.numpy().tobytes() == plenty.numpy().tobytes()
    again, recomputed = features(model)
    assert not recomputed, "the model is left as it was"
    assert again.numpy().tobytes() == plenty.numpy().tobytes()


def test_what_never_fits_is_an_error_with_the_remedy() -> None:
    model = tiny_model("llama")
    with (
        limited(model, 100) as refused,
        pytest.raises(ValueError, match=r"batch of 10 x 24 tokens do not fit on cpu.*240 tokens.*lower token_budget"),
    ):
        features(model)
    assert refused == [240, 240]
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def test_the_cost_line_of_a_shard_says_how_its_batches_fit(tiny: Tiny, tmp_path: Path) -> None:
    job = tiny.job("ppl", tmp_path / "job", Workspace(tmp_path / "shared"))
    known = {"tokens": job.tokens_ref, "model": job.selector, "identity": model_identity(job.selector)}
    spec = GradientFeatures(**known, lora=LoraSpec(r=2, alpha=4.0, dropout=0.0), k=32, token_budget=512)
    plenty, scarce = (PoolColumn(spec, tmp_path / name, 4096) for name in ("plenty", "scarce"))
    plenty.fill()
    with limited(scarce.worker.collect.features.model, 600) as refused:  # type: ignore[attr-defined]
        scarce.fill()
    assert refused
    assert [line["activations"] for line in plenty.lines()] == ["kept"]
    assert [line["activations"] for line in scarce.lines()] == ["recomputed"]
    rows = np.arange(len(plenty))
    one, two = plenty.read(rows), scarce.read(rows)
    assert all(one.array(name).tobytes() == two.array(name).tobytes() for name in one.values)
    assert one.flops.tolist() == two.flops.tolist()
