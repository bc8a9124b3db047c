"""Top, mid and low of the score distribution.

`mid` works outwards from the median, so every budget is centred on it. The published perplexity scripts sort, cut into
thirds and shuffle inside a third with a seed; `shuffle_third` is that variant by name (METHODS sections 2 and 3).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Policy, Ranking


class Top(Policy):
    """Highest scores first."""

    name: ClassVar[str] = "top"
    use_when: ClassVar[str] = "the default"
    shuffle_third: bool = Field(False, description="shuffle the best third with the seed (as published)")

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        ranked = ranking.best_first(ranking.score[ranking.rows], ranking.rows)
        return _shuffle_first_third(ranked, seed) if self.shuffle_third else ranked


class Low(Policy):
    """Lowest scores first."""

    name: ClassVar[str] = "low"
    use_when: ClassVar[str] = "perplexity under a model tuned on clean references: the most reference-like"
    shuffle_third: bool = Field(False, description="shuffle the lowest third with the seed (as published)")

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        ranked = ranking.best_first(-ranking.score[ranking.rows], ranking.rows)
        return _shuffle_first_third(ranked, seed) if self.shuffle_third else ranked


class Mid(Policy):
    """Nearest to the median rank first."""

    name: ClassVar[str] = "mid"
    use_when: ClassVar[str] = "perplexity: neither noise nor the obvious"
    shuffle_third: bool = Field(False, description="shuffle the middle third with the seed (as published)")

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        ranked = ranking.best_first(ranking.score[ranking.rows], ranking.rows)
        distance = np.abs(np.arange(len(ranked)) - (len(ranked) - 1) / 2)
        centred = ranked[np.argsort(distance, kind="stable")]
        return _shuffle_first_third(centred, seed) if self.shuffle_third else centred


def _shuffle_first_third(ranked: np.ndarray, seed: int) -> np.ndarray:
    """Rows of the first third in random order, then the rest as it was."""
    third = max(1, len(ranked) // 3)
    order = np.random.default_rng(seed).permutation(third)
    return np.concatenate([ranked[:third][order], ranked[third:]])
