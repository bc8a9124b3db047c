"""What a scorer tells who buys its scores row by row (`paydirt.prediction.truth`): what is paid once, and what rows add.

The defaults ask the scorer's own price and ceiling, of no rows and of some; a method that knows more says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.methods import selection_cost

if TYPE_CHECKING:
    from paydirt.scoring.base import Job

NONE = np.zeros(0, dtype=np.int64)  # rows of an empty part
OWN = "own"  # place of FLOPs that no artifact or column is charged with


class RowByRow:
    """A part of every scorer, which has the rest."""

    if TYPE_CHECKING:  # no fields of a config
        needs_model: Any
        price: Any
        ceiling: Any
        values: Any

    def fixed_price(self, facts: Facts) -> Cost:
        """What is paid however few examples are scored (a tuning, the references' vectors): the price of none."""
        return selection_cost(self, facts.part(NONE))

    def fixed_ceiling(self, facts: Facts, warmup: bool = True) -> float:
        """What the count of that will not exceed; without the `warmup` where it is paid already."""
        return self.ceiling(facts.part(NONE))

    def row_charges(self, job: Job, rows: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """What `rows` of the job's pool will be counted at [n] each, by the place that is charged (`OWN`: the job itself).

        None where only the ceiling is known; asked for after some rows were scored.
        """
        return None

    def raw_values(self, job: Job) -> np.ndarray:
        """What is known of each row alone [N, ...], which `among` makes values of."""
        return self.values(job)

    def among(self, raw: np.ndarray) -> np.ndarray:
        """Values [N, C] of rows among each other, for a method whose values are ranks."""
        return raw
