"""Top, mid and low of the score distribution.

`mid` works outwards from the median, so every budget is centred on it. `shuffle_third` is the published perplexity scripts'
order by name (METHODS sections 2 and 3): scores sorted upwards, cut at .333 and .666 of their number, each third shuffled
by Python's generator of that seed in the order middle, lowest, highest. The script called "top" then takes the *lowest*
third first (our `low`), the one called "mid" the middle, the lowest and the highest. Our `top` is what the paper's text
says: highest, middle, lowest.
"""

from __future__ import annotations

import random
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Policy, Ranking

Third = Literal["lowest", "middle", "highest"]


class _ByScore(Policy):
    """What the three share: their option, and the published order of thirds."""

    shuffle_third: bool = Field(False, description="shuffle inside thirds of the pool with the seed (as published)")
    thirds: ClassVar[tuple[Third, ...]] = ()

    @property
    def draws(self) -> bool:
        return self.shuffle_third

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        if not self.shuffle_third:
            return self.plain(ranking)
        upwards = ranking.best_first(-ranking.score[ranking.rows], ranking.rows)
        return _shuffled_thirds(upwards, self.thirds, seed)

    def plain(self, ranking: Ranking) -> np.ndarray:
        """The order without shuffling."""
        raise NotImplementedError(f"{type(self).__name__} must define plain")


class Top(_ByScore):
    """Highest scores first."""

    name: ClassVar[str] = "top"
    cost_note: ClassVar[str] = "sorting"
    source: ClassVar[str] = "LESS (arXiv 2402.04333) and most others"
    known_as: ClassVar = {
        "topppl": "top (the published script: low)",
        "ppltop": "top (the published script: low)",
        "topk": "top",
    }
    use_when: ClassVar[str] = "the default of every method but ppl"
    thirds: ClassVar[tuple[Third, ...]] = ("highest", "middle", "lowest")

    def plain(self, ranking: Ranking) -> np.ndarray:
        return ranking.best_first(ranking.score[ranking.rows], ranking.rows)


class Low(_ByScore):
    """Lowest scores first."""

    name: ClassVar[str] = "low"
    cost_note: ClassVar[str] = "sorting"
    source: ClassVar[str] = "CCDS (arXiv 2410.16208)"
    use_when: ClassVar[str] = "perplexity: the most reference-like; what the published script called top writes"
    thirds: ClassVar[tuple[Third, ...]] = ("lowest", "middle", "highest")

    def plain(self, ranking: Ranking) -> np.ndarray:
        return ranking.best_first(-ranking.score[ranking.rows], ranking.rows)


class Mid(_ByScore):
    """Nearest to the median rank first."""

    name: ClassVar[str] = "mid"
    cost_note: ClassVar[str] = "sorting"
    source: ClassVar[str] = "CCDS (arXiv 2410.16208)"
    known_as: ClassVar = {"midppl": "mid", "pplmid": "mid"}
    use_when: ClassVar[str] = "perplexity: neither noise nor the obvious"
    thirds: ClassVar[tuple[Third, ...]] = ("middle", "lowest", "highest")

    def plain(self, ranking: Ranking) -> np.ndarray:
        ranked = ranking.best_first(ranking.score[ranking.rows], ranking.rows)
        distance = np.abs(np.arange(len(ranked)) - (len(ranked) - 1) / 2)
        return ranked[np.argsort(distance, kind="stable")]


def _shuffled_thirds(upwards: np.ndarray, order: tuple[Third, ...], seed: int) -> np.ndarray:
    """Rows by rising score, cut and shuffled as published, the thirds in `order`."""
    n = len(upwards)
    first, second = int(n * 0.333), int(n * 0.666)
    places = {
        "lowest": list(range(first)),
        "middle": list(range(first, second)),
        "highest": list(range(second, n)),
    }
    draw = random.Random(seed)
    for third in ("middle", "lowest", "highest"):  # one generator: who is shuffled first decides what the others draw
        draw.shuffle(places[third])
    return upwards[[place for third in order for place in places[third]]]
