"""What a training step would do with a gradient: pure functions, elementwise, one parameter slab at a time.

g [b, n] gradients of b examples (float32, may be overwritten); m, v [n] first and second moments of the same
coordinates; the result [b, n]. Training examples are turned into the optimizer's direction, references stay plain
(`sgd`): LESS, arXiv 2402.04333, section 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamSettings:
    """Adam's constants and the number of steps taken so far."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    step: int = 0


Direction = Callable[[Tensor, Tensor, Tensor, AdamSettings], Tensor]


def adam_published(g: Tensor, m: Tensor, v: Tensor, settings: AdamSettings) -> Tensor:
    """(b1 m + (1 - b1) g) / sqrt(b2 v + (1 - b2) g^2 + eps): as the LESS code has it, without bias correction."""
    b1, b2 = settings.beta1, settings.beta2
    scale = torch.addcmul(b2 * v + settings.eps, g, g, value=1 - b2).rsqrt_()
    return torch.add(b1 * m, g, alpha=1 - b1, out=g).mul_(scale)


def adam_textbook(g: Tensor, m: Tensor, v: Tensor, settings: AdamSettings) -> Tensor:
    """Kingma and Ba 2015, algorithm 1, at step t + 1: m_hat / (sqrt(v_hat) + eps); what torch.optim.Adam does."""
    b1, b2, t = settings.beta1, settings.beta2, settings.step + 1
    root = torch.addcmul(b2 * v, g, g, value=1 - b2).div_(1 - b2**t).sqrt_().add_(settings.eps)
    return torch.add(b1 * m, g, alpha=1 - b1, out=g).div_(1 - b1**t).div_(root)


def sgd(g: Tensor, m: Tensor, v: Tensor, settings: AdamSettings) -> Tensor:
    """The gradient itself."""
    return g


def sign(g: Tensor, m: Tensor, v: Tensor, settings: AdamSettings) -> Tensor:
    """Its signs: Adam's direction at the first step."""
    return g.sign_()


DIRECTIONS: dict[str, Direction] = {
    "adam_published": adam_published,
    "adam_textbook": adam_textbook,
    "sgd": sgd,
    "sign": sign,
}
NEEDS_MOMENTS = frozenset({"adam_published", "adam_textbook"})


def find_direction(name: str) -> Direction:
    """The direction of that name; raises ValueError with the known ones."""
    if name not in DIRECTIONS:
        raise ValueError(f"unknown direction {name!r}; known: {', '.join(DIRECTIONS)}")
    return DIRECTIONS[name]
