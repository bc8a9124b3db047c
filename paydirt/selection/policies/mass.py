"""Mass: what the rules share that match candidates with references as a whole, instead of one score an example.

Every reference has the same mass to give (1 / M of M references), and a rule says where it goes; an example is worth the
mass that it receives. Similarities are read as cosines of unit vectors, so a distance is sqrt(2 - 2 cos); a block of them is
in memory at a time. The largest masses are taken, or examples are drawn by mass with replacement, `repeat` times at most.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from paydirt.selection.policies.base import Policy, Ranking

DRAWN = 1 << 14  # examples drawn before those that may come no more are left out
SLACK = 1e-3  # how far over 1 a cosine of rounded rows may be


class MassPolicy(Policy):
    """Base of rules that spread the references' mass over candidates."""

    serves_one: ClassVar[bool] = False
    """Whether one reference alone gives another order than `top`."""

    draw: bool = Field(False, description="draw by mass, with replacement; default: the largest masses first")
    repeat: int | None = Field(None, ge=1, description="draw: how often an example may be drawn; null: without limit")

    @model_validator(mode="after")
    def _of_draws(self) -> MassPolicy:
        if self.repeat is not None and not self.draw:
            raise ValueError(f"{self.name}: repeat is of draws; give draw: true, or leave it out")
        return self

    @property
    def draws(self) -> bool:
        return self.draw

    @property
    def repeats(self) -> bool:
        return self.draw and self.repeat != 1

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
            drawn = self._drawn(mass, limit, seed)
            if len(drawn) >= limit:
                return rows[drawn]
            held = np.isin(np.arange(len(rows)), drawn)
            return np.concatenate([rows[drawn], ranking.best_first(nearest[~held], rows[~held])])
        ranked = ranking.best_first(mass[held], rows[held])
        # Who receives nothing comes after all who do, nearest to any reference first.
        return np.concatenate([ranked, ranking.best_first(nearest[~held], rows[~held])])

    def _drawn(self, mass: np.ndarray, limit: int, seed: int) -> np.ndarray:
        """Places drawn by mass, one after another; fewer than `limit` where no mass is left that may be drawn."""
        draw = np.random.default_rng(seed)
        if self.repeat is None:
            return draw.choice(len(mass), size=limit, p=mass / mass.sum())
        left, mass, out = np.full(len(mass), self.repeat), mass.copy(), np.zeros(0, dtype=np.int64)
        while len(out) < limit and mass.any():
            found = draw.choice(len(mass), size=DRAWN, p=mass / mass.sum())
            order = np.argsort(found, kind="stable")
            first = np.searchsorted(found[order], found[order])
            turn = np.empty(DRAWN, dtype=np.int64)
            turn[order] = np.arange(DRAWN) - first  # how often it was drawn before, this time
            out = np.concatenate([out, found[turn < left[found]]])
            left = np.maximum(left - np.bincount(found, minlength=len(left)), 0)
            mass[left == 0] = 0
        return out[:limit]


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
