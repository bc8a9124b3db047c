"""Doubly greedy: an example is as good as the one reference it is best for, whatever subtask that belongs to.

Named in arXiv 2602.14696, whose code sorts by the maximum over queries; LESS takes the maximum over subtasks' means.
The same as `top` under `within: max, across: max`, under the name by which people look for it.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from paydirt.selection.policies.base import Policy, Ranking


class DoublyGreedy(Policy):
    """Highest similarity to any one reference first (max within subtasks, max across them)."""

    name: ClassVar[str] = "doubly_greedy"
    cost_note: ClassVar[str] = "one reading of N x R, sorting"
    source: ClassVar[str] = "arXiv 2602.14696, after LESS (arXiv 2402.04333)"
    known_as: ClassVar = {"dg": "doubly_greedy", "max": "doubly_greedy"}
    use_when: ClassVar[str] = "small budgets, references that have little in common"

    @property
    def reads(self) -> frozenset[str]:
        return frozenset()

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        if len(ranking.scores.columns) < 2:
            raise ValueError(
                "doubly_greedy: these scores have one column, whose maximum is itself; use the policy top, or a method "
                "that compares with single references"
            )
        best = np.empty(len(ranking.by_id))
        for part, block in ranking.similarities():
            best[part] = block.max(axis=1)
        if (best == ranking.score[ranking.by_id]).all():  # max all the way, or over subtasks of one reference each
            raise ValueError("doubly_greedy: the score of each example is that maximum already; use the policy top")
        return ranking.best_first(best, ranking.by_id)
