"""IFD: instruction-following difficulty, the loss of an answer with its instruction over the loss without it.

Two forward passes over the answers, one over the prompts (arXiv 2308.12032). A ratio near 1 says that the instruction does
not help; above 1 it misleads, and such examples rank last, as the authors drop them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from paydirt.artifacts import Artifact
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.data.encoding import Encoded
from paydirt.models.load import load_model
from paydirt.scorers.base import Job, Scorer
from paydirt.scorers.perplexity import pool_losses, read_mean_losses
from paydirt.types import Cost


class IFD(Scorer):
    """Loss ratio of the answer with and without its instruction."""

    name: ClassVar[str] = "ifd"
    needs_model: ClassVar[bool] = True
    uses_target: ClassVar[bool] = False
    cost_note: ClassVar[str] = "2 P (T + answers)"
    use_when: ClassVar[str] = "no target at hand: general instruction following"

    keep_misleading: bool = Field(False, description="rank ratios above 1 by their value instead of last")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def price(self, facts: Facts) -> Cost:
        """A forward pass over everything and one over the supervised tokens alone (arXiv 2308.12032)."""
        pool, answers = facts.pool, facts.answer_lengths
        parts = {"with the instruction": forward_flops(facts.model, pool.total, pool.mean, facts.convention)}
        parts["without it"] = forward_flops(facts.model, answers.total, answers.mean, facts.convention)
        return Cost(sum(parts.values()), round(pool.total + answers.total), parts)

    def prepare(self, job: Job) -> tuple[Artifact, Any]:
        losses = pool_losses(job, job.selector, "supervised", self.token_budget)
        job.meter.charge(losses)
        return losses, load_model(job.selector)

    def score_rows(self, job: Job, state: tuple[Artifact, Any], start: int, stop: int) -> np.ndarray:
        from paydirt.evaluation.loss import mean_losses, token_losses

        losses, model = state
        conditioned = read_mean_losses(job, losses, start, stop, "supervised")
        alone = [_answer_alone(job.tokens[row]) for row in range(start, stop)]
        bare = mean_losses(token_losses(model, alone, job.encoder.pad_id, self.token_budget, job.meter))
        ratio = np.where(np.isfinite(bare), conditioned / np.maximum(bare, 1e-9), 0.0)
        return ratio if self.keep_misleading else np.where(ratio > 1, -ratio, ratio)


def _answer_alone(example: Encoded) -> Encoded:
    """The supervised tokens after the first token, which stands for the beginning of a text."""
    kept = np.flatnonzero(example.supervised[1:]) + 1
    ids = np.concatenate([example.ids[:1], example.ids[kept]])
    mask = np.ones(len(ids), dtype=bool)
    mask[0] = False
    return Encoded(ids, mask)
