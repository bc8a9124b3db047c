"""Per-source quota: every source gets its share of any budget, its best examples first.

The order interleaves the sources by their shares (the source furthest behind its share goes next), so any prefix meets
the quota to within one example; when a source runs dry its share falls to the others.
"""

from __future__ import annotations

import heapq
import math
from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.registry import did_you_mean
from paydirt.selection.policies.base import Policy, Ranking


class Quota(Policy):
    """Fixed shares of the selection by source."""

    name: ClassVar[str] = "quota"
    use_when: ClassVar[str] = "a mixture must keep its proportions"
    shares: dict[str, float] = Field(default_factory=dict, description="source: weight; empty keeps the pool's mix")

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        sources = ranking.sources[ranking.rows]
        present, counts = np.unique(sources.astype(str), return_counts=True)
        shares = self._shares(dict(zip(present.tolist(), counts.tolist())))
        queues: dict[str, np.ndarray] = {}
        for source in shares:
            rows = ranking.rows[sources == source]
            queues[source] = ranking.best_first(ranking.score[rows], rows)
        # The next of source s falls due at (taken + 1/2) / share: Webster's rule, whose prefixes keep the proportions.
        due = [(0.5 / share, source) for source, share in shares.items()]
        heapq.heapify(due)
        taken = dict.fromkeys(shares, 0)
        out: list[int] = []
        while due:
            _, source = heapq.heappop(due)
            out.append(int(queues[source][taken[source]]))
            taken[source] += 1
            if taken[source] < len(queues[source]):
                heapq.heappush(due, ((taken[source] + 0.5) / shares[source], source))
        return np.asarray(out)

    def _shares(self, counts: dict[str, int]) -> dict[str, float]:
        """Weights of the sources that have examples; ValueError for a name that the pool lacks."""
        if not self.shares:
            return {source: float(n) for source, n in counts.items()}
        for source, weight in self.shares.items():
            if source not in counts:
                raise ValueError(f"quota: the pool has no source {source!r}; {did_you_mean(source, counts)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"quota: the share of {source!r} is {weight}; shares are finite and not negative")
        if not any(self.shares.values()):
            raise ValueError("quota: every share is 0, so nothing can be chosen; give one source a share above 0")
        return {source: weight for source, weight in sorted(self.shares.items()) if weight > 0}
