"""IFD: instruction-following difficulty, the loss of an answer with its instruction over the loss without it.

Two forward passes over the answers, one over the prompts (arXiv 2308.12032). A ratio near 1 says that the instruction does
not help; above 1 it misleads, and such examples rank last, as the authors drop them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.scoring.base import Job, Scorer
from paydirt.scoring.losses import PoolLosses, pool_losses


class IFD(Scorer):
    """Loss ratio of the answer with and without its instruction."""

    name: ClassVar[str] = "ifd"
    needs_model: ClassVar[bool] = True
    uses_target: ClassVar[bool] = False
    cost_note: ClassVar[str] = "2 P (T + answers)"
    source: ClassVar[str] = "arXiv 2308.12032"
    use_when: ClassVar[str] = "no target at hand: general instruction following"

    keep_misleading: bool = Field(False, description="rank ratios above 1 by their value instead of last")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def price(self, facts: Facts) -> Cost:
        """A forward pass over everything and one over the supervised tokens alone (arXiv 2308.12032)."""
        pool, answers = facts.pool, facts.answer_lengths
        parts = {"with the instruction": forward_flops(facts.model, pool.total, pool.mean, facts.convention)}
        parts["without it"] = forward_flops(facts.model, answers.total, answers.mean, facts.convention)
        return Cost(sum(parts.values()), round(pool.total + answers.total), parts)

    def prepare(self, job: Job) -> tuple[PoolLosses, PoolLosses]:
        """Losses of the answers after their prompts, and alone."""
        return (
            pool_losses(job, job.selector, "supervised", self.token_budget),
            pool_losses(job, job.selector, "answers", self.token_budget),
        )

    def score_rows(self, job: Job, state: tuple[PoolLosses, PoolLosses], rows: np.ndarray) -> np.ndarray:
        conditioned, bare = state[0].filled_means(rows), state[1].means(rows)
        ratio = np.where(np.isfinite(bare), conditioned / np.maximum(bare, 1e-9), 0.0)
        return ratio if self.keep_misleading else np.where(ratio > 1, -ratio, ratio)
