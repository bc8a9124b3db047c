"""A dear score of some rows of a pool, computed when asked for and never twice; and what it has cost.

The truth is any scorer: influence, loss drop, a consensus. What it computes are rows of shared columns, so that a killed run
finds what it had computed, and a second target the pool side of the same rows. How many rows a budget buys is told by the
scorer's own cost model: from lengths alone by its ceiling, and once some rows are computed by what it then knows of the
others (`Scorer.row_charges`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from paydirt.cost.methods import selection_cost
from paydirt.scoring.base import Job, Scorer


class Truth:
    """Values [C] of rows of `job.pool` by `method`. `predicted` is the closed form of all that was computed."""

    def __init__(self, job: Job, method: Scorer) -> None:
        self.job, self.method = job, method
        self.columns = method.columns(job.target)
        self._raw: dict[int, np.ndarray] = {}
        self._among: dict[int, np.ndarray] = {}
        self._calls = 0
        self._again = 0.0  # work of a call that belongs to no row: it comes with every call
        self.predicted = 0.0
        self.fixed = method.fixed_price(job.facts).flops

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def rows(self) -> np.ndarray:
        """Rows whose values are known, ascending."""
        return np.asarray(sorted(self._raw), dtype=np.int64)

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Values [n, C] of rows that are known; where values are ranks, among all that are known."""
        if len(self._among) < len(self._raw):
            order = self.rows
            self._among = dict(zip(order.tolist(), self.method.among(np.stack([self._raw[int(r)] for r in order]))))
        return np.array([self._among[int(row)] for row in rows]).reshape(len(rows), len(self.columns))

    def expected(self, rows: np.ndarray) -> float:
        """FLOPs that computing `rows` more will be counted at, at most; what is paid once apart."""
        if not len(rows):
            return 0.0
        if (charges := self._charges(rows)) is not None:
            return float(charges.sum())
        part = self.job.pool_facts.part(rows)
        return max(0.0, self.method.ceiling(part) - self.method.fixed_ceiling(part)) + self._again

    def affordable(
        self, ranked: np.ndarray, flops: float, more: Callable[[int], float] = lambda rows: 0.0
    ) -> np.ndarray:
        """The longest prefix of unknown rows that `flops` pay for; `more` FLOPs come with so many of them."""
        if (charges := self._charges(ranked)) is not None:
            total = np.concatenate([[0.0], np.cumsum(charges)])
            return ranked[: longest_prefix(len(ranked), flops, lambda n: float(total[n]) + more(n))]
        return ranked[: longest_prefix(len(ranked), flops, lambda n: self.expected(ranked[:n]) + more(n))]

    def _charges(self, rows: np.ndarray) -> np.ndarray | None:
        """What each of `rows` will be charged [n]; None before the first are computed, or where nobody knows."""
        charges = self.method.row_charges(self.job, rows) if self._raw else None
        return None if charges is None else np.sum([np.zeros(len(rows)), *charges.values()], axis=0)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Values [n, C] of `rows`, computed where they are not known."""
        new = np.sort([int(row) for row in rows if int(row) not in self._raw]).astype(np.int64)
        if len(new):
            out = self.job.scratch / f"truth-{self._calls}"
            out.mkdir(exist_ok=True)
            part = self.job.asking(new, out)
            values = self.method.raw_values(part)
            own = part.meter.own_flops
            self._again = min(self._again, own) if self._calls else own
            paid = self.fixed if self._raw else 0.0
            self._raw.update(zip(new.tolist(), values))
            self._calls += 1
            self.predicted += selection_cost(self.method, self.job.pool_facts.part(new)).flops - paid
            self.job.meter.absorb(part.meter)
        return self.known(rows)


def longest_prefix(most: int, flops: float, price: Callable[[int], float]) -> int:
    """The largest n up to `most` whose price is at most `flops`."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if price(middle) <= flops:
            low = middle
        else:
            high = middle - 1
    return low
