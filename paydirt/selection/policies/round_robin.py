"""Round robin: each reference (or subtask) in turn takes its best example that nobody has taken yet.

Keeps a broad target from being served by its easiest part alone (RDS+, arXiv 2503.01807, selects so). Nobody's whole order
is sorted: each begins with a few times its share, and with as much again of what is left where that was not enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.selection.policies.base import Policy, Ranking
from paydirt.selection.policies.highest import highest
from paydirt.selection.scores import by_subtask

SHARES = 4  # times its share of what is to be chosen that a queue holds
LEAST = 64  # of a queue; where one ends too soon, all are made anew of what is left


class RoundRobin(Policy):
    """References or subtasks take turns."""

    name: ClassVar[str] = "round_robin"
    cost_note: ClassVar[str] = "one reading of N x R, or a few"
    source: ClassVar[str] = "RDS+ (arXiv 2503.01807)"
    known_as: ClassVar = {"rr": "round_robin"}
    use_when: ClassVar[str] = "targets with several distinct subtasks"
    over: Literal["subtask", "reference"] = Field("subtask", description="who takes turns")

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"within"} if self.over == "subtask" else ())

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        turns, limit = self._turns(ranking), min(limit, len(ranking.rows))
        taken, out, turn = np.zeros(len(ranking.rows), dtype=bool), list[int](), 0
        while len(out) < limit:
            depth = max(LEAST, SHARES * -(-(limit - len(out)) // turns))
            turn = take_turns(highest(self._values(ranking, taken), depth)[0], turn, taken, out, limit)
        return ranking.by_id[out]

    def _values(self, ranking: Ranking, taken: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Places in `by_id` that nobody has taken, and what each who takes turns finds of them [n, turns], in blocks."""
        for part, block in ranking.similarities():
            left = ~taken[part]
            found = block[left]
            if self.over == "subtask":
                found = by_subtask(found, ranking.scores.columns, ranking.reduction.within)
            yield np.flatnonzero(left) + part.start, found

    def _turns(self, ranking: Ranking) -> int:
        """How many take turns; ValueError where only one could."""
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
        return turns


def take_turns(queues: np.ndarray, turn: int, taken: np.ndarray, out: list[int], limit: int) -> int:
    """From `turn` on each of `queues` [turns, depth] takes its first place that nobody has, into `taken` and `out`.

    Until there are `limit`, or until a queue ends; returns whose turn is next.
    """
    at = [0] * len(queues)
    while len(out) < limit:
        queue = queues[turn]
        while at[turn] < len(queue) and taken[queue[at[turn]]]:
            at[turn] += 1
        if at[turn] == len(queue):
            break
        taken[queue[at[turn]]] = True
        out.append(int(queue[at[turn]]))
        turn = (turn + 1) % len(queues)
    return turn
