"""True influence of some rows of a pool, computed when asked for and never twice; and what it has cost.

The gradients are rows of a shared column (see `gradient_passes`), so a killed run finds what it had computed, and a
second target finds the pool side of the same rows. How many rows a budget buys is told from lengths alone, by the closed
form of matrix products; once some rows are computed, by their count over it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from paydirt.cost.facts import Lengths
from paydirt.cost.methods import SAFETY, as_counted
from paydirt.scoring.base import Job

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient

MARGIN = 1.1  # over what was counted so far: later rows are of other lengths


class Truth:
    """Influence [C] of rows of `job.pool` by `gradient`. `predicted` is the closed form of all that was computed."""

    def __init__(self, job: Job, gradient: Gradient) -> None:
        self.job, self.gradient = job, gradient
        self.columns = gradient.columns(job.target)
        self._values: dict[int, np.ndarray] = {}
        self._calls = 0
        self._variable = 0.0  # closed form of matrix products for the rows that were computed
        self._before = self._pool_side
        self.predicted = 0.0
        self.fixed = gradient.fixed_price(job.facts).flops

    def __len__(self) -> int:
        return len(self._values)

    @property
    def rows(self) -> np.ndarray:
        """Rows whose influence is known, ascending."""
        return np.asarray(sorted(self._values), dtype=np.int64)

    @property
    def _pool_side(self) -> float:
        """FLOPs counted but for warm-up and references, which are charged as artifacts of their own."""
        meter = self.job.meter
        return meter.flops - sum(v for k, v in meter.charges.items() if k.split("/")[0] in ("tuned", "references"))

    @property
    def factor(self) -> float:
        """What to expect of the next rows' count over their closed form; the ceiling until some are counted."""
        return MARGIN * (self._pool_side - self._before) / self._variable if self._variable else SAFETY

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Influence [n, C] of rows that are known."""
        return np.array([self._values[int(row)] for row in rows]).reshape(len(rows), len(self.columns))

    def expected(self, lengths: Lengths) -> float:
        """FLOPs that computing more rows will be counted at, at most; warm-up and references apart."""
        return self.factor * self.gradient.variable_price(as_counted(self.job.facts), lengths).flops

    def affordable(
        self, ranked: np.ndarray, flops: float, more: Callable[[int], float] = lambda rows: 0.0
    ) -> np.ndarray:
        """The longest prefix of unknown rows that `flops` pay for; `more` FLOPs come with so many of them."""
        if (known := self._row_costs(ranked)) is not None:
            total = np.concatenate([[0], np.cumsum(known)])
            return ranked[: longest_prefix(total, flops, lambda some: some.total + more(int(some.count)))]
        most = self.gradient.max_tokens
        lengths = self.job.pool_facts.pool.at(ranked).capped(most).each
        assert lengths is not None
        total = np.concatenate([[0], np.cumsum(lengths)])
        return ranked[: longest_prefix(total, flops, lambda some: self.expected(some) + more(int(some.count)))]

    def _row_costs(self, rows: np.ndarray) -> np.ndarray | None:
        """What each of `rows` will be charged, matching included; None before the first are computed."""
        from paydirt.columns.gradients import known_costs
        from paydirt.scoring import gradient_passes as passes

        if not self._values or not self.gradient.store:
            return None
        gradient = self.gradient
        each = np.zeros(len(rows))
        for step in passes.checkpoints(gradient, self.job):
            found = known_costs(self.job.column(passes.features_of(gradient, self.job, step, gradient.direction)), rows)
            if found is None:
                return None
            each += found + 2.0 * gradient.k * len(self.columns)
        return each

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Influence [n, C] of `rows`, computed where it is not known."""
        new = np.sort([int(row) for row in rows if int(row) not in self._values]).astype(np.int64)
        if len(new):
            facts, lengths = self.job.facts, self.job.pool_facts.pool.at(new)
            first = 0.0 if self._values else self.fixed
            out = self.job.scratch / f"truth-{self._calls}"
            out.mkdir(exist_ok=True)
            part = self.job.asking(new, out)
            self._values.update(zip(new.tolist(), self.gradient.values(part)))
            self._calls += 1
            self.predicted += first + self.gradient.variable_price(facts, lengths).flops
            self._variable += self.gradient.variable_price(as_counted(facts), lengths).flops
            self.job.meter.absorb(part.meter)
        return self.known(rows)


def longest_prefix(total: np.ndarray, flops: float, price: Callable[[Lengths], float]) -> int:
    """The largest n whose price is at most `flops`; `total` [n + 1] are the tokens of every prefix."""
    low, high = 0, len(total) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if price(Lengths(middle, float(total[middle]))) <= flops:
            low = middle
        else:
            high = middle - 1
    return low
