"""Everything that runs on an accelerator, on a pretended one: no tensor meets another device's, and nothing waits for it
more than once a call.

What it can't show are CUDA's own kernels and their speed: the values are computed by the CPU's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import card as card_module
from support.card import Card
from torch import Tensor

from paydirt.data.batches import fixed_shapes
from paydirt.gradients.directions import DIRECTIONS, NEEDS_MOMENTS, AdamSettings
from paydirt.gradients.features import Features
from paydirt.gradients.moments import Moments
from paydirt.gradients.per_example import clean_name, trainable
from paydirt.gradients.projection import Projection
from paydirt.models.forward import HiddenMeans, TokenLosses

from .tiny import random_examples, tiny_model

FAMILIES = [
    ("llama", True),
    ("llama", False),
    ("qwen2_tied", False),
    ("gemma2", True),
    ("gpt_neox", True),
    ("gpt2", True),
]


def on_card(model: Any) -> Any:
    """The model there; parameters that it ties are tied again."""
    model = model.to("card")
    model.tie_weights()
    return model


def moments_of(model: torch.nn.Module) -> Moments:
    generator = torch.Generator().manual_seed(5)
    shapes = {clean_name(name): p.shape for name, p in trainable(model).items()}
    first = {name: torch.randn(shape, generator=generator) * 1e-3 for name, shape in shapes.items()}
    second = {name: torch.rand(shape, generator=generator) * 1e-6 for name, shape in shapes.items()}
    return Moments(first, second, AdamSettings(step=7))


card_module._register()  # before any backward pass of this process


def test_the_card_refuses_what_cuda_would() -> None:
    with Card() as card:
        x = torch.arange(6.0, device="card").reshape(2, 3)
        assert x.device.type == "card"
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="same device"):
            torch.ones(3)[torch.tensor([1], device="card")]
        assert (x + torch.tensor(1.0)).sum().item() == 21, "a number of the host may come along"
        card.waits.clear()
        x[x > 1], x[torch.tensor([1])], x.cpu(), torch.ones(2).to("card"), bool((x > 7).any())
        assert sum(card.waits.values()) == 5, card.waits
        card.waits.clear()
        (x @ x.T).softmax(0).to("card"), torch.ones(2).to("card", non_blocking=True), x.new_zeros(3), x[:, 1:] * 2
        assert not card.waits


@pytest.mark.parametrize(("family", "lora"), FAMILIES)
def test_gradients_directions_and_projections_stay_on_the_card(family: str, lora: bool) -> None:
    """Every direction, both projections, k below and above a parameter's size; one wait for each projection's result."""
    model, examples = tiny_model(family, lora), random_examples(30)
    moments = moments_of(model)
    projections = [Projection(64), Projection(3000), Projection(16, "rademacher")]
    expected = {}
    for direction in DIRECTIONS:
        with Features(model, projections, direction, moments, 128) as features:
            expected[direction] = features(examples)
    with Card() as card:
        model = on_card(model)
        for direction in DIRECTIONS:
            with Features(model, projections, direction, moments, 128) as features:
                card.waits.clear()
                found = features(examples)
                assert sum(card.waits.values()) <= len(projections) + 1, (direction, card.waits)
            assert all(type(each) is Tensor for each in found)
            for mine, theirs in zip(found, expected[direction]):
                torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=1e-4)
    assert expected.keys() >= NEEDS_MOMENTS


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_forward_passes_stay_on_the_card(family: str) -> None:
    """The same losses and states; after the widths are counted, the host waits only to read what came out."""
    model, examples = tiny_model(family, lora=False).eval(), random_examples(40)
    passes = [HiddenMeans(model, 0, 256), TokenLosses(model, 0, 256, 20)]
    expected = [each(examples) for each in passes]
    with Card() as card:
        model = on_card(model)
        for kind, (values, flops) in zip((HiddenMeans, TokenLosses), expected):
            each = kind(model, 0, 256) if kind is HiddenMeans else kind(model, 0, 256, 20)
            each(examples)  # widths are counted
            card.waits.clear()
            found, spent = each(examples)
            read = len(
                fixed_shapes([min(20, len(e.ids)) if kind is TokenLosses else len(e.ids) for e in examples], 256)
            )
            assert set(card.waits) == {"to the host"}, card.waits
            assert card.waits["to the host"] <= read
            assert spent.tolist() == flops.tolist()
            for mine, theirs in zip(found, values):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
