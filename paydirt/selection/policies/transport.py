"""Unbalanced entropic transport from the references to the candidates; an example is worth the mass it receives.

The plan P [N, M] minimises <P, cost> + eps KL(P | a b) + tau KL(P 1 | a) with the references' marginals P' 1 = b kept, a
and b uniform, cost (1 - cos) / 2. Candidates may take far more than their even share for little (tau is small), so mass goes
to what is near, and entropy spreads it. Found by Sinkhorn's scaling: u = (a / K v)^(tau / (tau + eps)), v = b / K' u. One
reading of the similarities an iteration, and since tau is a hundredth of eps, some ten iterations; nothing of size N x M is
kept, which is why this is not POT's own solver (the tests compare with it). Constants are those of arXiv 2602.14696.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Ranking
from paydirt.selection.policies.mass import MassPolicy

TOLERANCE = 1e-10  # of the logarithm of v between two iterations
ITERATIONS = 1000


class Transport(MassPolicy):
    """Mass received in entropic transport from the references, free to be uneven."""

    name: ClassVar[str] = "transport"
    cost_note: ClassVar[str] = "about ten readings of N x R"
    source: ClassVar[str] = "arXiv 2602.14696; unbalanced Sinkhorn, arXiv 1607.05816"
    known_as: ClassVar = {"uot": "transport", "unbalancedtransport": "transport"}
    use_when: ClassVar[str] = "every reference counts alike, without lists of neighbours"

    eps: float = Field(0.01, gt=0, description="weight of entropy")
    tau: float = Field(1e-4, gt=0, description="weight that holds candidates to even shares")

    def mass(self, ranking: Ranking) -> np.ndarray:
        n, m = len(ranking.by_id), len(ranking.scores.columns)
        power = self.tau / (self.tau + self.eps)
        least = np.full(m, np.inf)  # lowest cost of each reference: K is divided by its largest, which v makes good
        for _, block in ranking.similarities():
            np.minimum(least, (1 - block.max(axis=0).astype(np.float64)) / 2, out=least)
        v = np.ones(m)
        mass = np.empty(n)
        for iteration in range(ITERATIONS):
            given = np.zeros(m)
            for part, block in ranking.similarities():
                kernel = block.astype(np.float64)
                kernel -= 1
                kernel /= -2 * self.eps
                kernel -= least / self.eps
                np.exp(np.negative(kernel, out=kernel), out=kernel)
                kernel /= n * m
                received = (kernel * v).sum(axis=1)
                u = (1 / n / received) ** power
                mass[part] = u * received
                given += (kernel * u[:, None]).sum(axis=0)
            moved = np.abs(np.log(1 / m / given) - np.log(v)).max()
            v = 1 / m / given
            if moved < TOLERANCE:
                ranking.remarks["iterations"] = iteration + 1
                return mass
        raise ValueError(
            f"transport: not settled after {ITERATIONS} iterations (last change {moved:.2g}); raise eps or lower tau"
        )
