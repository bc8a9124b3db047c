"""Directions against torch's own optimizer and against their formulas in float64."""

from __future__ import annotations

import pytest
import torch

from paydirt.gradients.directions import AdamSettings, adam_published, adam_textbook, find_direction, sgd, sign


def test_textbook_adam_is_the_step_that_torch_takes():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=1.0, betas=(0.8, 0.95), eps=1e-3)
    for _ in range(3):
        weight.grad = torch.randn(50, dtype=torch.float64)
        optimizer.step()
    state = optimizer.state[weight]
    m, v, step = state["exp_avg"].clone(), state["exp_avg_sq"].clone(), int(state["step"])
    gradient = torch.randn(50, dtype=torch.float64)
    before = weight.detach().clone()
    weight.grad = gradient.clone()
    optimizer.step()
    settings = AdamSettings(0.8, 0.95, 1e-3, step)
    torch.testing.assert_close(adam_textbook(gradient[None].clone(), m, v, settings)[0], before - weight.detach())


def test_published_adam_has_eps_in_the_root_and_no_bias_correction():
    g, m, v = torch.randn(3, 20, dtype=torch.float64), torch.randn(20).double(), torch.rand(20).double()
    s = AdamSettings(0.9, 0.99, 1e-2, step=7)
    expected = (0.9 * m + 0.1 * g) / (0.99 * v + 0.01 * g**2 + 1e-2).sqrt()
    torch.testing.assert_close(adam_published(g.clone(), m, v, s), expected)


def test_sgd_and_sign():
    g = torch.tensor([[-2.0, 0.0, 3.0]])
    none = torch.zeros(3)
    assert torch.equal(sgd(g, none, none, AdamSettings()), g)
    assert sign(g.clone(), none, none, AdamSettings()).tolist() == [[-1, 0, 1]]


def test_an_unknown_direction_names_the_known():
    with pytest.raises(ValueError, match="adam_published, adam_textbook, sgd, sign"):
        find_direction("adamw")
