"""Diversity for any score: good examples that are unlike each other.

All three choose greedily, with `weight` between quality (1) and diversity (0). Quality is an example's rank by score, from 0
to 1, so that scores of any method can be weighed; diversity is by cosines of vectors that the pool has somewhere (see
`selection.vectors`). `mmr` passes over copies of the good, `k_centre` reaches all corners of the pool, `facility` sees that
every example is near a chosen one. At weight 0 greedy k-centre is within twice the best radius (Gonzalez 1985), greedy
facility location at least 1 - 1/e of the best sum (Nemhauser, Wolsey and Fisher 1978), over the neighbours that it keeps.
The first two look for the nearest that is chosen, with all of them up to 20,000 examples and by an index beyond (see
`lazily` and `chosen`); a graph of each example's own neighbours, as `facility` has, would say nothing of what is far.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from paydirt.selection.policies.base import Policy, Ranking
from paydirt.selection.policies.lazily import away_from_chosen, covering
from paydirt.selection.policies.neighbours import nearest_neighbours
from paydirt.selection.vectors import SIMILARITIES, VectorsText


class _Diverse(Policy):
    """What the three share."""

    weight: float = Field(
        0.5, ge=0, lt=1, description="of quality against diversity; at 1 this would be the policy top"
    )
    vectors: VectorsText = Field(
        SIMILARITIES, description="of the pool: a place, own, or similarities (see docs/selection.md)"
    )

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        rows = ranking.by_id
        ranks = rankdata(ranking.score[rows])
        quality = (ranks - 1) / max(1, len(rows) - 1)
        with ranking.unit_vectors(self.vectors, rows) as vectors:
            return rows[self.choose(vectors, quality, limit)]

    def choose(self, vectors: np.ndarray, quality: np.ndarray, limit: int) -> np.ndarray:
        """Places of the chosen among unit vectors [n, d] of `quality` [n]."""
        raise NotImplementedError(f"{type(self).__name__} must define choose")


class MMR(_Diverse):
    """Good and unlike what is chosen already: weight x quality - (1 - weight) x cosine to the nearest chosen."""

    name: ClassVar[str] = "mmr"
    cost_note: ClassVar[str] = "lazily: a few searches among the chosen for each of N"
    libraries: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    source: ClassVar[str] = "Carbonell and Goldstein 1998"
    known_as: ClassVar = {"maximalmarginalrelevance": "mmr"}
    use_when: ClassVar[str] = "the best examples of a score repeat each other"

    def choose(self, vectors: np.ndarray, quality: np.ndarray, limit: int) -> np.ndarray:
        return away_from_chosen(vectors, quality, self.value, limit)[0]

    def value(self, quality: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        return self.weight * quality - (1 - self.weight) * nearest


class KCentre(_Diverse):
    """Good and far from what is chosen already: weight x quality + (1 - weight) x half the distance to the nearest."""

    name: ClassVar[str] = "k_centre"
    cost_note: ClassVar[str] = "lazily: a few searches among the chosen for each of N"
    libraries: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    source: ClassVar[str] = "Gonzalez 1985; Sener and Savarese (arXiv 1708.00489)"
    known_as: ClassVar = {"kcenter": "k_centre", "coreset": "k_centre"}
    use_when: ClassVar[str] = "no part of the pool may be left out, outliers included"

    def choose(self, vectors: np.ndarray, quality: np.ndarray, limit: int) -> np.ndarray:
        return away_from_chosen(vectors, quality, self.value, limit)[0]

    def value(self, quality: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        away = np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0)) / 2
        return self.weight * quality + (1 - self.weight) * away


class Facility(_Diverse):
    """Good and like as many others as possible that no chosen one is like (facility location)."""

    name: ClassVar[str] = "facility"
    cost_note: ClassVar[str] = "neighbours of N vectors, then about N x `neighbours`"
    source: ClassVar[str] = "Wei, Iyer and Bilmes 2015 (ICML)"
    known_as: ClassVar = {"facilitylocation": "facility"}
    use_when: ClassVar[str] = "a small selection must stand for the whole pool, outliers aside"
    libraries: ClassVar[tuple[str, ...]] = ("faiss-cpu", "scipy")

    neighbours: int = Field(50, ge=2, description="nearest examples by which each may be stood for, itself included")

    @property
    def reads(self) -> frozenset[str]:
        return super().reads if self.weight else frozenset()

    def choose(self, vectors: np.ndarray, quality: np.ndarray, limit: int) -> np.ndarray:
        return covering(neighbour_graph(vectors, self.neighbours), quality, self.weight, limit)


def neighbour_graph(vectors: np.ndarray, k: int) -> Any:
    """Sparse [n, n] float32: row j holds j's `k` nearest with their cosines, those below 0 left out."""
    n, edges, numbers, values = len(vectors), [np.zeros(1, np.int64)], [], []
    for _, found, similar in nearest_neighbours(vectors, k):
        keep = (found >= 0) & (similar > 0)
        edges.append(keep.sum(axis=1))
        numbers.append(found[keep].astype(np.int32))
        values.append(similar[keep].astype(np.float32))
    return csr_matrix((np.concatenate(values), np.concatenate(numbers), np.cumsum(np.concatenate(edges))), shape=(n, n))
