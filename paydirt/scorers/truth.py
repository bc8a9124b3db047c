"""True influence of some rows of a pool, computed when asked for and never twice; and what it has cost.

The gradients of a part are a shared artifact (see `gradient_passes`), so a killed run finds what it had computed, and a
second target finds the pool side of equal parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paydirt.scorers.base import Job

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient


class Truth:
    """Influence [C] of rows of `job.pool` by `gradient`. `predicted` is the closed form of all that was computed."""

    def __init__(self, job: Job, gradient: Gradient) -> None:
        self.job, self.gradient = job, gradient
        self.columns = gradient.columns(job.target)
        self._values: dict[int, np.ndarray] = {}
        self._calls = 0
        self.predicted = 0.0
        self.fixed = gradient.fixed_cost(job).flops

    def __len__(self) -> int:
        return len(self._values)

    @property
    def rows(self) -> np.ndarray:
        """Rows whose influence is known, ascending."""
        return np.asarray(sorted(self._values), dtype=np.int64)

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Influence [n, C] of rows that are known."""
        return np.array([self._values[int(row)] for row in rows]).reshape(len(rows), len(self.columns))

    def cost(self, rows: np.ndarray) -> float:
        """FLOPs by closed form of those of `rows` that are not known; warm-up and references with the first ones."""
        new = np.asarray([row for row in rows if int(row) not in self._values], dtype=np.int64)
        if not len(new):
            return 0.0
        variable = self.gradient.variable_cost(self.job, self.job.tokens.lengths[new]).flops
        return variable + (0.0 if self._values else self.fixed)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Influence [n, C] of `rows`, computed where it is not known."""
        new = np.sort([int(row) for row in rows if int(row) not in self._values]).astype(np.int64)
        if len(new):
            cost = self.cost(new)
            out = self.job.scratch / f"truth-{self._calls}"
            out.mkdir(exist_ok=True)
            part = self.job.part(new, out)
            self._values.update(zip(new.tolist(), self.gradient.values(part)))
            self._calls += 1
            self.predicted += cost
            self.job.meter.absorb(part.meter)
        return self.known(rows)
