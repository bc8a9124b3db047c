"""What selecting by a method costs before it runs: one function for `cost`, `--dry-run`, budgets, ledger and advisor.

In: a method with its settings, and `Facts`. Out: `Cost` with its parts. The closed form itself stands in the method's own
file (`price`), so a method that somebody adds is priced everywhere; the forms of passes are in `paydirt.cost.forms`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import PER_TOKEN
from paydirt.cost.lookup import find

SAFETY = 1.5
"""Count over closed form at most, both of matrix products: adapters over attention 1.43 (`tests/reference`), and padding."""

ALIASES = {"perplexity": "ppl", "less": "gradient", "rds+": "rds", "lexicon": "bm25", "embedding": "embed"}


def as_counted(facts: Facts) -> Facts:
    """The same in the convention that counts what torch counts."""
    return replace(facts, convention="matmul")


class Priced(Protocol):
    """A method that can tell its price: every scorer."""

    @property
    def needs_model(self) -> bool: ...

    def price(self, facts: Facts) -> Cost: ...


def selection_cost(method: Priced, facts: Facts) -> Cost:
    """FLOPs of selecting by `method`, with parts, in the convention of `facts`; `tokens` are those that it reads.

    Raises ValueError on an unknown convention, on facts that the method needs and lack, and on a cost beyond float64.
    """
    find(PER_TOKEN, facts.convention, "cost convention")
    if method.needs_model:
        facts.model  # noqa: B018 - raises where there is none
    cost = method.price(facts)
    if not math.isfinite(cost.flops):
        raise ValueError(f"a cost of {cost.flops} FLOPs; the sizes given are beyond reason")
    return cost
