"""A mean of paired differences with an interval that knows that runs of one world are alike.

What enters: differences by cluster (a world, a model) and, within it, by draw (a pair of seeds). What leaves: the mean over
clusters and a percentile interval of a bootstrap that draws clusters first, then draws within each (Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8). A handful of clusters makes that interval too narrow: three
that agree in sign by chance, one time in four, nearly always leave out 0. So a difference is `sure` by a t test on means of
the clusters, at least three, which keeps its level however few they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 4000
LEAST = 3  # clusters for a t test


class Gap(NamedTuple):
    """A mean difference, its interval, how far it must be from 0 by the t test, in how many clusters it is above 0."""

    mean: float
    low: float
    high: float
    needed: float
    above: int
    clusters: int
    draws: int

    @property
    def sure(self) -> bool:
        """Whether there is a difference, of whichever sign."""
        return self.clusters >= LEAST and abs(self.mean) > self.needed

    def __str__(self) -> str:
        star = "*" if self.sure else ""
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] {self.above}/{self.clusters}{star}"


def clustered(
    values: Mapping[Hashable, Mapping[Hashable, Sequence[float]]],
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> Gap:
    """The mean over clusters of `values[cluster][draw]`; values of one draw (several targets) are redrawn together.

    Raises ValueError where there is nothing.
    """
    cells = [np.asarray([float(np.mean(v)) for v in cluster.values()]) for cluster in values.values()]
    if not cells or not all(len(cell) for cell in cells):
        raise ValueError("no differences to take the mean of; every cluster needs one")
    rng, count = np.random.default_rng(seed), len(cells)
    from scipy.stats import t

    means = np.zeros(draws)
    for _ in range(count):  # a cluster that is drawn twice is redrawn inside, each time anew
        chosen = rng.integers(count, size=draws)
        for number, cell in enumerate(cells):
            at = np.flatnonzero(chosen == number)
            means[at] += cell[rng.integers(len(cell), size=(len(at), len(cell)))].mean(axis=1) / count
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    each = np.asarray([cell.mean() for cell in cells])
    error = each.std(ddof=1) / np.sqrt(count) if count > 1 else float("inf")
    needed = float(t.ppf((1 + level) / 2, max(1, count - 1)) * error)
    return Gap(float(each.mean()), float(low), float(high), needed, int((each > 0).sum()), count, sum(map(len, cells)))
