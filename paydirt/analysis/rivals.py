"""Simple ways to choose, which the advisor must beat: fixed habits, mean rank, ridge, the pilot's winner, no tuning.

Each is given what the advisor is given: the held-out panel's options and costs, and the cases that may be learned from. Each
returns the row it would run among those that a budget affords.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paydirt.analysis.cases import Case
from paydirt.analysis.names import method_name
from paydirt.analysis.points import Points
from paydirt.analysis.results import ZERO_SHOT, Floats


def largest(case: Case, open_: np.ndarray, rows: np.ndarray) -> int | None:
    """Of `rows` that are affordable, the one with most data."""
    found = np.flatnonzero(open_ & rows)
    return int(found[case.at.n[found].argmax()]) if len(found) else None


def habit(case: Case, open_: np.ndarray, label: str) -> int:
    """Always this method, at its largest affordable size; Random's where the budget does not pay its selection."""
    row = largest(case, open_, case.label == label)
    if row is None:
        row = largest(case, open_, case.at.method == "random")
    return row if row is not None else int(np.flatnonzero(open_)[0])


def mean_ranks(learned: Sequence[Case]) -> dict[str, float]:
    """Mean over panels and sizes of a method's rank among the panel's methods at equal data, 0 (best) to 1."""
    seen: dict[str, list[float]] = {}
    for c in learned:
        for x in np.unique(np.round(c.at.x[c.trained], 6)):
            rows = np.flatnonzero((np.round(c.at.x, 6) == x) & (c.at.x < 0.999))
            if len(rows) < 2:
                continue
            rank = (-c.score[rows]).argsort().argsort() / (len(rows) - 1)
            for r, value in zip(rows, rank):
                seen.setdefault(str(c.at.method[r]), []).append(float(value))
    return {m: float(np.mean(v)) for m, v in seen.items()}


def by_rank(case: Case, open_: np.ndarray, ranks: dict[str, float]) -> int:
    """The affordable method of best mean rank elsewhere (one never seen counts as middling), at its largest size."""
    methods = {str(m) for m, ok in zip(case.at.method, open_ & (case.at.x > 0) & (case.at.x < 0.999)) if ok}
    if not methods:
        return habit(case, open_, "Random")
    best = min(sorted(methods), key=lambda m: ranks.get(m, 0.5))
    row = largest(case, open_, case.at.method == best)
    return row if row is not None else int(np.flatnonzero(open_)[0])


class Ridge:
    """Ridge regression of a panel's standardised scores on data, representation, rule, task, model and their products."""

    def __init__(self, learned: Sequence[Case], alpha: float = 3.0) -> None:
        self.columns: dict[str, int] = {}
        at = [c.at for c in learned]
        target = np.concatenate([(c.score - c.score.mean()) / max(c.score.std(), 1e-6) for c in learned])
        for one in at:
            self._matrix(one, grow=True)
        x = np.concatenate([self._matrix(one) for one in at])
        self.weights = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ target)

    def _names(self, at: Points, i: int) -> dict[str, float]:
        name = method_name(str(at.method[i]))
        z = float(np.log10(max(at.n[i], 300.0)) - 3.5)
        kind, rule = f"r:{name.representation}", f"q:{name.rule}"
        found = {kind: 1.0, f"{kind}*z": z, "z": z, "one": 1.0, rule: 1.0}
        for where in (f"t:{at.task[i]}", f"m:{at.model[i]}"):
            found |= {f"{kind}|{where}": 1.0, f"{where}*z": z}
        return found

    def _matrix(self, at: Points, grow: bool = False) -> Floats:
        rows = [self._names(at, i) for i in range(len(at))]
        if grow:
            for row in rows:
                for name in row:
                    self.columns.setdefault(name, len(self.columns))
            return np.empty((0, len(self.columns)))
        x = np.zeros((len(rows), len(self.columns)))
        for i, row in enumerate(rows):
            for name, value in row.items():
                if name in self.columns:
                    x[i, self.columns[name]] = value
        return x

    def choose(self, case: Case, open_: np.ndarray) -> int:
        value = self._matrix(case.at) @ self.weights
        rows = np.flatnonzero(open_)
        return int(rows[value[rows].argmax()])


def pilot_rows(case: Case, ranks: dict[str, float], count: int = 3, open_: np.ndarray | None = None) -> np.ndarray:
    """A pilot: the smallest run of the best-ranked method of each of `count` representations, zero-shot beside them."""
    smallest = case.at.x <= case.at.x[case.trained].min() * 1.01
    rows = np.flatnonzero(smallest & case.trained & (np.ones(len(case), bool) if open_ is None else open_))
    kept: dict[str, int] = {}
    for r in sorted(rows, key=lambda r: (ranks.get(str(case.at.method[r]), 0.5), str(case.at.method[r]))):
        kept.setdefault(method_name(str(case.at.method[r])).representation, int(r))
    zero = np.flatnonzero(case.at.method == ZERO_SHOT)
    return np.concatenate([zero, np.array(list(kept.values())[:count], dtype=np.int64)]).astype(np.int64)


def pilots_winner(case: Case, open_: np.ndarray, pilot: np.ndarray) -> int:
    """The method that did best in the pilot, at its largest affordable size; the pilot's own runs stay on offer."""
    for r in pilot[np.argsort(-case.score[pilot], kind="stable")]:
        row = largest(case, open_, case.label == case.label[r])
        if row is not None:
            return row
    return habit(case, open_, "Random")
