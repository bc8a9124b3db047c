"""Round robin: each reference (or subtask) in turn takes its best example that nobody has taken yet.

Keeps a broad target from being served by its easiest part alone (RDS+, arXiv 2503.01807, selects so).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Policy, Ranking
from paydirt.selection.scores import apply_statistic


class RoundRobin(Policy):
    """References or subtasks take turns."""

    name: ClassVar[str] = "round_robin"
    cost_note: ClassVar[str] = "sorting, once for each who takes turns"
    source: ClassVar[str] = "RDS+ (arXiv 2503.01807)"
    known_as: ClassVar = {"rr": "round_robin"}
    use_when: ClassVar[str] = "targets with several distinct subtasks"
    over: Literal["subtask", "reference"] = Field("subtask", description="who takes turns")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"within"} if self.over == "subtask" else ())

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        limit = min(limit, len(ranking.rows))
        queues = [ranking.best_first(values, ranking.rows)[:limit] for values in self._columns(ranking)]
        taken = np.zeros(len(ranking.score), dtype=bool)
        at = [0] * len(queues)
        out: list[int] = []
        while len(out) < limit:
            for turn, queue in enumerate(queues):
                while at[turn] < len(queue) and taken[queue[at[turn]]]:
                    at[turn] += 1
                if at[turn] < len(queue) and len(out) < limit:
                    row = int(queue[at[turn]])
                    taken[row] = True
                    out.append(row)
        return np.asarray(out)

    def _columns(self, ranking: Ranking) -> list[np.ndarray]:
        """Similarity [len(rows)] of every eligible row, for each who takes turns; ValueError where only one could."""
        scores = ranking.scores
        turns = len(scores.columns) if self.over == "reference" else len(scores.subtasks)
        if turns < 2:
            other = ", `over: reference` (these scores have several)" if len(scores.columns) > 1 else ""
            raise ValueError(
                f"round_robin over {self.over}: these scores have one {self.over}, and one alone takes no turns; use the "
                f"policy top{other}, or a target with several"
            )
        if self.over == "reference" and all(column.id == column.subtask for column in scores.columns):
            raise ValueError(
                "round_robin over reference: these scores hold one column a subtask, so references cannot take turns; "
                "use `over: subtask`, or a method that compares with single references"
            )
        if self.over == "reference":
            return [scores.column(i)[ranking.rows].astype(np.float64) for i in range(len(scores.columns))]
        out = []
        for name in scores.subtasks:
            group = [i for i, c in enumerate(scores.columns) if c.subtask == name]
            parts = [apply_statistic(ranking.reduction.within, np.asarray(b[:, group])) for _, b in scores.blocks()]
            out.append(np.concatenate(parts)[ranking.rows])
        return out
