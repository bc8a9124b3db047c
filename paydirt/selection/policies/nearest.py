"""TSDS and its uniform variant: each reference spreads its mass over its nearest candidates.

The rule minimises alpha / C x transport cost + (1 - alpha) x t, where no candidate may take more than t / (M rho) from one
of the M references: the first term asks for what is near, the second for many. With s = 1 / t a reference fills its nearest
candidates to their limits, one after another; s grows, and the mass goes to farther candidates, until what one more step
costs, alpha / C x sum over references of (s d_next - sum of d / rho so far), reaches (1 - alpha) M. rho is a candidate's
kernel density among the candidates near any reference, so that copies share what one would get; `knn` sets it to 1.
arXiv 2410.11303; published constants are the defaults. Where the lists of nearest candidates end before s does, s stops
there, which the manifest says (`bound_by_nearest`); the published code goes on and heaps what is left on a list's last.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.progress import say
from paydirt.selection.policies.base import Ranking
from paydirt.selection.policies.highest import highest
from paydirt.selection.policies.mass import MassPolicy
from paydirt.selection.policies.neighbours import densities
from paydirt.selection.vectors import OWN, VectorsText


class KNN(MassPolicy):
    """Mass of the references spread over their nearest candidates, all alike (TSDS without density)."""

    name: ClassVar[str] = "knn"
    cost_note: ClassVar[str] = "two readings of N x R"
    source: ClassVar[str] = "KNN-uniform of TSDS (arXiv 2410.11303)"
    known_as: ClassVar = {"knnunif": "knn", "knnuniform": "knn", "unif": "knn"}
    use_when: ClassVar[str] = "every reference counts alike, and the pool holds few copies"

    alpha: float = Field(0.5, gt=0, lt=1, description="weight of nearness against spread")
    c: float = Field(5.0, gt=0, description="scale of distances against spread")
    nearest: int = Field(5000, ge=2, description="candidates that a reference may give to, nearest first")

    def mass(self, ranking: Ranking) -> np.ndarray:
        places, distance = nearest_candidates(ranking, self.nearest)
        return self.spread(ranking, places, distance, np.ones_like(distance))

    def spread(self, ranking: Ranking, places: np.ndarray, distance: np.ndarray, rho: np.ndarray) -> np.ndarray:
        """Mass [n] from the lists [M, K] of candidates, their distances and densities."""
        shares, bound = spread(distance, rho, self.alpha, self.c)
        if cut := bound and places.shape[1] < len(ranking.by_id):
            say(
                f"{self.name}: the rule would go on where the lists of nearest={self.nearest} candidates end; raise nearest"
            )
        ranking.remarks["bound_by_nearest"] = cut
        mass = np.zeros(len(ranking.by_id))
        np.add.at(mass, places.ravel(), shares.ravel())
        return mass


class TSDS(KNN):
    """Mass of the references spread over their nearest candidates, less to where candidates are dense."""

    name: ClassVar[str] = "tsds"
    cost_note: ClassVar[str] = "two readings of N x R; neighbours of up to R x `nearest` vectors"
    source: ClassVar[str] = "TSDS (arXiv 2410.11303)"
    known_as: ClassVar = {"knnkde": "tsds", "kde": "tsds"}
    use_when: ClassVar[str] = "pools with many near-copies, targets with several sides; `draw` as published"
    libraries: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    serves_one: ClassVar[bool] = True

    vectors: VectorsText = Field(
        OWN, description="of the pool, for density: a place, own (what the scores left), or similarities"
    )
    sigma: float = Field(0.75, gt=0, description="width of the kernel, on unit vectors")
    neighbours: int = Field(1000, ge=2, description="nearest candidates that a density is summed over, itself included")

    def mass(self, ranking: Ranking) -> np.ndarray:
        places, distance = nearest_candidates(ranking, self.nearest)
        some, inverse = np.unique(places, return_inverse=True)
        with ranking.unit_vectors(self.vectors, ranking.by_id[some]) as vectors:
            rho = densities(vectors, self.sigma, self.neighbours)
        return self.spread(ranking, places, distance, rho[inverse].reshape(places.shape))


def nearest_candidates(ranking: Ranking, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [M, K] in `by_id` of each reference's nearest candidates, nearest first, and their distances float64.

    K is `k`, or all candidates where there are fewer; equally near ones come in order of their ids.
    """
    blocks = ((np.arange(part.start, part.stop), block) for part, block in ranking.similarities())
    places, values = highest(blocks, k)
    return places, np.sqrt(np.maximum(2 - 2 * values.astype(np.float64), 0))


def spread(distance: np.ndarray, rho: np.ndarray, alpha: float, c: float) -> tuple[np.ndarray, bool]:
    """What each of M references gives to its K nearest [M, K] (rows sum to 1 / M), and whether the lists bound it.

    `distance` rises along a row; `rho` are densities. The step that ends the growth of s is found among those at which some
    reference comes to its next candidate.
    """
    m = len(distance)
    filled = np.cumsum(1 / rho, axis=1)  # the s at which a reference has filled its first candidates
    step = distance[:, 1:] * filled[:, :-1] - np.cumsum(distance / rho, axis=1)[:, :-1]
    added = np.diff(step, axis=1, prepend=0.0)
    order = np.argsort(filled[:, :-1], axis=None, kind="stable")
    total = np.cumsum(added.ravel()[order])
    reached = np.flatnonzero(alpha / c * total >= (1 - alpha) * m)
    s = filled[:, :-1].ravel()[order[reached[0]]] if len(reached) else np.inf
    limit = float(filled[:, -1].min())
    s, bound = min(s, limit), bool(s > limit)
    most = 1 / (m * s * rho)
    before = np.cumsum(most, axis=1) - most
    return np.clip(1 / m - before, 0, most), bound
