"""The contract of a policy: turn scores into an order of pool rows, best first.

A policy never sees the budget, only `limit`, the most rows that will be kept: orders are the same for every budget, so
selections are nested. Ties are broken by example id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny

from paydirt.named import Named, make
from paydirt.registry import Registry
from paydirt.scores import Reduction, Scores


@dataclass(frozen=True)
class Ranking:
    """What a policy may look at: `rows` are the eligible pool rows; score float64 [N] and the stored similarities.

    `reduction` is the one that made `score`: the selection's own, where it has one, else the method's.
    """

    scores: Scores
    score: np.ndarray
    rows: np.ndarray
    reduction: Reduction = field(default_factory=Reduction)

    @property
    def ids(self) -> np.ndarray:
        return self.scores.ids

    @property
    def sources(self) -> np.ndarray:
        return self.scores.sources

    def best_first(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`rows` by descending `values` [len(rows)]; equal values by id."""
        order = np.argsort(-values, kind="stable")
        ranked, sorted_values = rows[order], values[order]
        edges = np.flatnonzero(np.diff(sorted_values) != 0) + 1
        starts, stops = np.r_[0, edges], np.r_[edges, len(ranked)]
        for start, stop in zip(starts, stops):
            if stop - start > 1:
                run = ranked[start:stop]
                ranked[start:stop] = run[np.argsort(self.ids[run].astype(str), kind="stable")]
        return ranked


POLICIES: Registry[Policy] = Registry("policy", "paydirt.selection.policies", "paydirt.policies")


class Policy(Named):
    """Base of every selection policy."""

    registry: ClassVar = POLICIES
    use_when: ClassVar[str] = ""

    @property
    def draws(self) -> bool:
        """Whether the order depends on the seed."""
        return False

    @property
    def reads(self) -> frozenset[str]:
        """Which parts of a reduction the order depends on: within, across, both or neither."""
        return frozenset({"within", "across"})

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        """At least `limit` of `ranking.rows`, each once, best first."""
        raise NotImplementedError(f"{type(self).__name__} must define order")


def make_policy(values: Any) -> Any:
    """A policy from `{name: ..., option: ...}` or a bare name."""
    return make(POLICIES, values)


PolicyField = Annotated[SerializeAsAny[Policy], BeforeValidator(make_policy)]
