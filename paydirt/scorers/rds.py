"""RDS+: cosine between representations of the base model itself, one forward pass over the pool.

A text's representation is the mean of its last hidden states, position t weighted by t (later tokens have seen more);
arXiv 2503.01807, section 3. One pass over the pool serves every target, as embeddings do.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.columns import PoolColumn
from paydirt.columns.hidden import Hidden
from paydirt.columns.products import products
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.models.load import model_identity
from paydirt.scoring.base import Job, Scorer
from paydirt.selection.scores import Reduction


class RDS(Scorer):
    """Cosine of position-weighted mean hidden states (RDS+)."""

    name: ClassVar[str] = "rds"
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P T"
    source: ClassVar[str] = "RDS+ (arXiv 2503.01807)"
    known_as: ClassVar = {"rdsplus": "rds"}
    use_when: ClassVar[str] = "large pools; policy round_robin over references, as published"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="mean")

    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    @property
    def reads_answers(self) -> bool:
        return False

    def price(self, facts: Facts) -> Cost:
        """One forward pass over pool and references (the vocabulary head is left out of the work, not of the form)."""
        pool, shown = facts.pool, facts.references
        parts = {"forward": forward_flops(facts.model, pool.total, pool.mean, facts.convention)}
        parts["references"] = forward_flops(facts.model, shown.total, shown.mean, facts.convention)
        return Cost(sum(parts.values()), round(pool.total + shown.total), parts)

    def kept_bytes(self, facts: Facts) -> float:
        """A vector in float32 and counts an example."""
        return facts.pool.count * (4.0 * facts.model.hidden + 24)

    def prepare(self, job: Job) -> tuple[PoolColumn, np.ndarray]:
        """The pool's vectors, made once for all targets, and the references' [R, hidden]."""
        config = job.selector
        spec = Hidden(
            tokens=job.tokens_ref,
            model=config,
            identity=model_identity(config),
            pad_id=job.encoder.pad_id,
            token_budget=self.token_budget,
        )
        column = job.filled(job.column(spec))
        references, flops = column.worker.means(job.shown)  # type: ignore[attr-defined]
        job.meter.add(float(flops.sum()))
        return column, references

    def score_rows(self, job: Job, state: tuple[PoolColumn, np.ndarray], rows: np.ndarray) -> np.ndarray:
        column, references = state
        return products(column.read(rows).array("vectors"), references)
