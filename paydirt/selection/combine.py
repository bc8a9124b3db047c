"""Several targets at once: one order out of the orders that a policy gives for each.

`turns`: targets take turns as their weights say (Webster's rule), each its best example that nobody has taken yet, so any
prefix serves every target by its weight. `ranks`: by the weighted sum of an example's ranks, so what is good for all comes
first. Scores themselves are never added: those of different targets are of different sizes.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from paydirt.core.config import Config, PathText
from paydirt.selection.policies.base import Policy, Ranking
from paydirt.selection.scores import Scores

Combine = Literal["turns", "ranks"]


class OtherScores(Config):
    """Scores of the same pool for another target."""

    scores: PathText = Field(description="directory of finished scores")
    weight: float = Field(1.0, gt=0, description="the target's, beside the others'")


@dataclass(frozen=True)
class Weighted:
    """Scores of the same pool for another target, and the target's weight."""

    scores: Scores
    weight: float = 1.0


def combined(
    rankings: Sequence[Ranking], policy: Policy, how: Combine, weights: Sequence[float], limit: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the first ranking in one order, minus the weighted mean rank [N], and each target's score [N, targets].

    The i-th eligible row of every ranking is the same example. ValueError for a policy that takes an example more than once.
    """
    if policy.repeats:
        raise ValueError(
            f"several targets: the policy {policy.name} takes examples more than once here; do without that"
        )
    first = rankings[0]
    whole = len(first.rows) if how == "ranks" else limit
    own = np.full((len(first.score), len(rankings)), np.nan, dtype=np.float32)
    total = np.zeros(len(first.score))
    orders = []
    for number, (ranking, weight) in enumerate(zip(rankings, weights)):
        row_of = np.full(len(ranking.score), -1, dtype=np.int64)
        row_of[ranking.rows] = first.rows
        own[first.rows, number] = ranking.score[ranking.rows]
        order = row_of[policy.order(ranking, whole, seed)]
        rank = np.full(len(first.score), len(first.rows), dtype=np.float64)  # what the policy leaves out comes last
        rank[order] = np.arange(1, len(order) + 1)
        total += weight / sum(weights) * rank
        orders.append(order)
    if how == "ranks":
        return first.best_first(-total[first.rows], first.rows), -total, own
    return _turns(orders, weights, len(first.score), limit), -total, own


def _turns(orders: Sequence[np.ndarray], weights: Sequence[float], n: int, limit: int) -> np.ndarray:
    taken = np.zeros(n, dtype=bool)
    at, turns = [0] * len(orders), [0] * len(orders)
    due = [(0.5 / weight, number) for number, weight in enumerate(weights)]
    heapq.heapify(due)
    out: list[int] = []
    while due and len(out) < limit:
        _, number = heapq.heappop(due)
        order = orders[number]
        while at[number] < len(order) and taken[order[at[number]]]:
            at[number] += 1
        if at[number] == len(order):
            continue
        row = int(order[at[number]])
        taken[row] = True
        out.append(row)
        turns[number] += 1
        heapq.heappush(due, ((turns[number] + 0.5) / weights[number], number))
    return np.asarray(out)


def distinct_names(scores: Sequence[Scores]) -> list[str]:
    """A name for each target's scores: its folder's, numbered where two are alike."""
    names = [each.path.name for each in scores]
    return [f"{name}-{names[:i].count(name) + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
