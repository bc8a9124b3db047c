"""Quota: every group of examples gets its share of any budget, its best examples first.

A group is a source, the subtask that an example is best for, or the value of any field of its record (a language); shares
are of examples or of tokens. The order interleaves the groups by their shares (the one furthest behind its share goes next),
so any prefix meets the quota to within one example; when a group runs dry, its examples come again, as often as `repeat`
allows, and then its share falls to the others.
"""

from __future__ import annotations

import heapq
import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.core.registry import did_you_mean
from paydirt.selection.policies.base import Policy, PolicyField, Ranking, make_policy


class Quota(Policy):
    """Fixed shares of the selection by source, subtask or any field of the records, in another policy's order."""

    name: ClassVar[str] = "quota"
    cost_note: ClassVar[str] = "its inner policy's; one reading of the records for a field"
    source: ClassVar[str] = "Webster's rule; temperature as in arXiv 1907.05019"
    use_when: ClassVar[str] = "a mixture must keep its proportions"
    shares: dict[str, float] = Field(default_factory=dict, description="group: weight; empty keeps the pool's mix")
    by: str = Field("source", description="what groups are: source, subtask, or a field of the records (meta.language)")
    unit: Literal["examples", "tokens"] = Field("examples", description="what shares are of")
    temperature: float = Field(1.0, gt=0, description="shares to the power 1 / temperature: above 1 evens them out")
    repeat: int = Field(1, ge=1, description="how often an example may be taken when its group has run dry")
    policy: PolicyField = Field(default_factory=lambda: make_policy("top"), description="order inside the groups")

    @property
    def draws(self) -> bool:
        return self.policy.draws

    @property
    def repeats(self) -> bool:
        return self.repeat > 1

    @property
    def reads(self) -> frozenset[str]:
        return self.policy.reads | ({"within"} if self.by == "subtask" else set())

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        if self.policy.repeats:
            raise ValueError(
                f"quota: its inner policy {self.policy.name} takes examples more than once; use repeat instead"
            )
        inner = self.policy.order(ranking, len(ranking.rows), seed)
        groups = ranking.groups(self.by)[inner]
        lengths = np.asarray(
            ranking.scores.tokens[inner] if self.unit == "tokens" else np.ones(len(inner)), dtype=float
        )
        present, of = np.unique(groups.astype(str), return_inverse=True)
        if len(present) < 2:
            raise ValueError(
                f"quota by {self.by}: all {len(inner)} examples are of one group, {str(present[0])!r}, so there is nothing "
                f"to share; use the policy {self.policy.name}, or another field"
            )
        shares = self._shares(dict(zip(present.tolist(), np.bincount(of, lengths).tolist())))
        places = {
            group: np.flatnonzero(of == number) for number, group in enumerate(present.tolist()) if group in shares
        }
        # A group's next falls due at (taken + half of it) / share: Webster's rule, whose prefixes keep the proportions.
        due = [(0.5 * lengths[places[group][0]] / share, group) for group, share in shares.items()]
        heapq.heapify(due)
        taken, held = dict.fromkeys(shares, 0), dict.fromkeys(shares, 0.0)
        out: list[int] = []
        while due and len(out) < limit:
            _, group = heapq.heappop(due)
            own = places[group]
            place = own[taken[group] % len(own)]
            out.append(int(inner[place]))
            taken[group] += 1
            held[group] += lengths[place]
            if taken[group] < len(own) * self.repeat:
                after = lengths[own[taken[group] % len(own)]]
                heapq.heappush(due, ((held[group] + after / 2) / shares[group], group))
        return np.asarray(out)

    def _shares(self, sizes: dict[str, float]) -> dict[str, float]:
        """Weights of the groups that have examples; ValueError for a name that the pool lacks."""
        shares = self.shares or sizes
        for group, weight in self.shares.items():
            if group not in sizes:
                raise ValueError(f"quota: the pool has no {self.by} {group!r}; {did_you_mean(group, sizes)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"quota: the share of {group!r} is {weight}; shares are finite and not negative")
        if not any(shares.values()):
            raise ValueError("quota: every share is 0, so nothing can be chosen; give one group a share above 0")
        most = max(shares.values())
        even = {
            group: (weight / most) ** (1 / self.temperature) for group, weight in sorted(shares.items()) if weight > 0
        }
        if not all(even.values()):
            raise ValueError(
                f"quota: a share is nothing beside the others at temperature {self.temperature:g}; raise it"
            )
        return even
