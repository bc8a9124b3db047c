"""Mass: what the rules share that match candidates with references as a whole, instead of one score an example.

Every reference has the same mass to give (1 / M of M references), and a rule says where it goes; an example is worth the
mass that it receives. Similarities are read as cosines of unit vectors, so a distance is sqrt(2 - 2 cos); a block of them is
in memory at a time. The largest masses are taken, or examples are drawn by mass with replacement.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Policy, Ranking

SLACK = 1e-3  # how far over 1 a cosine of rounded rows may be


class MassPolicy(Policy):
    """Base of rules that spread the references' mass over candidates."""

    serves_one: ClassVar[bool] = False
    """Whether one reference alone gives another order than `top`."""

    draw: bool = Field(False, description="draw by mass, with replacement; default: the largest masses first")

    @property
    def draws(self) -> bool:
        return self.draw

    @property
    def repeats(self) -> bool:
        return self.draw

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def mass(self, ranking: Ranking) -> np.ndarray:
        """Mass [n] that each of `ranking.by_id` receives, sum 1."""
        raise NotImplementedError(f"{type(self).__name__} must define mass")

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        if not self.serves_one:
            need_references(ranking, self.name)
        nearest = check_cosines(ranking, self.name)
        mass, rows = self.mass(ranking), ranking.by_id
        whole = np.zeros(len(ranking.score))
        whole[rows] = mass
        ranking.found["mass"] = whole
        held = mass > 0
        ranking.remarks["with_mass"] = int(held.sum())
        if self.draw:
            draw = np.random.default_rng(seed)
            return rows[draw.choice(len(rows), size=limit, p=mass / mass.sum())]
        ranked = ranking.best_first(mass[held], rows[held])
        # Who receives nothing comes after all who do, nearest to any reference first.
        return np.concatenate([ranked, ranking.best_first(nearest[~held], rows[~held])])


def check_cosines(ranking: Ranking, name: str) -> np.ndarray:
    """Highest similarity [n] of each of `by_id`; ValueError where similarities cannot be cosines."""
    best = np.empty(len(ranking.by_id))
    low = np.inf
    for part, block in ranking.similarities():
        best[part] = block.max(axis=1)
        low = min(low, float(block.min()))
    if (reached := max(best.max(), -low)) > 1 + SLACK:
        raise ValueError(
            f"{name}: similarities reach {reached:.4g}, so they are no cosines, which distances are made from; use scores "
            "of embed, rds or gradient, or the policy round_robin"
        )
    return best


def need_references(ranking: Ranking, name: str) -> None:
    """ValueError where one column alone would receive and give everything, so that the order is `top`'s."""
    if len(ranking.scores.columns) < 2:
        raise ValueError(
            f"{name}: these scores have one column, for which the order is that of the policy top; use top, or a method "
            "that compares with several references"
        )
