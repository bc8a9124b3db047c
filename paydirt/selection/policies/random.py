"""Random order, whatever the scores: a control for any scorer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from paydirt.selection.policies.base import Policy, Ranking


class RandomOrder(Policy):
    """A seeded permutation, independent of the pool's row order."""

    name: ClassVar[str] = "random"
    cost_note: ClassVar[str] = "none"
    source: ClassVar[str] = "nobody: the baseline"
    use_when: ClassVar[str] = "as a control"

    @property
    def draws(self) -> bool:
        return True

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        by_id = ranking.rows[np.argsort(ranking.ids[ranking.rows].astype(str), kind="stable")]
        return by_id[np.random.default_rng(seed).permutation(len(by_id))]
