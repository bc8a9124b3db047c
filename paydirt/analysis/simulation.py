"""Performance under constraints, simulated: what selection costs and how fast training then pays (published figure 1).

    P(C) = 100 (1 - exp(-lambda (C - S) / (1.001e8 c))),  0 before the selection S is paid

c is the training cost per token, 1.001e8 the tokens of the pool (arXiv 2410.16208, figure 1; METHODS section 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paydirt.analysis.results import Floats

POOL_TOKENS = 1.001e8


@dataclass(frozen=True, slots=True)
class SimulatedMethod:
    """A method's rate (per pass over the pool) and its selection cost in FLOPs."""

    name: str
    rate: float
    selection_flops: float


METHODS = (
    SimulatedMethod("Random", 5, 0.0),
    SimulatedMethod("BM25", 10, 1e8),
    SimulatedMethod("PPL", 40, 1.5e18),
    SimulatedMethod("LESS", 80, 4.5e18),
)
FLOPS_PER_TOKEN = {"small": 4.5e10, "medium": 4.5e11, "large": 9e12}


def simulate(cost: Floats, method: SimulatedMethod, flops_per_token: float, pool_tokens: float = POOL_TOKENS) -> Floats:
    """Simulated score at total `cost` FLOPs; 0 while the selection is still being paid."""
    left = np.maximum(np.asarray(cost, dtype=np.float64) - method.selection_flops, 0.0)
    return np.asarray(100 * (1 - np.exp(-method.rate * left / (pool_tokens * flops_per_token))))


def best_method(
    cost: Floats, flops_per_token: float, methods: tuple[SimulatedMethod, ...] = METHODS
) -> tuple[list[str], Floats]:
    """The leading method and its score at each cost."""
    scores = np.stack([simulate(cost, m, flops_per_token) for m in methods])
    return [methods[i].name for i in scores.argmax(axis=0)], scores.max(axis=0)
