"""Losses of a pool's tokens as methods read them, and a selector tuned on the references: what several methods share.

One forward pass keeps the losses of single tokens as a column, so that perplexity, IFD, loss drop and the features of a
learned score cost one pass between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paydirt.columns import PoolColumn
from paydirt.columns.losses import Losses, known_costs
from paydirt.models.load import ModelConfig, model_identity
from paydirt.scoring.base import Job
from paydirt.training.config import TrainConfig
from paydirt.training.shared import tuned_model


def tuned_on_references(job: Job, model: ModelConfig, config: TrainConfig, seed: int) -> ModelConfig:
    """`model` tuned on the job's references; the tuning is shared, and charged in full whoever did it."""
    ids = [e.id for e in job.target.references]
    purpose = f"references-{job.target.name}"
    tuned = tuned_model(job.shared, purpose, model, job.encoder, job.references, ids, config, seed, job.convention)
    job.meter.charge(tuned)
    return model.model_copy(update={"path": str(tuned.path / "model"), "tokenizer": None})


@dataclass(frozen=True)
class PoolLosses:
    """Losses of single tokens of a pool, as a column; `narrow` where a column of all tokens serves the supervised ones."""

    column: PoolColumn
    job: Job
    narrow: bool = False

    def means(self, rows: np.ndarray) -> np.ndarray:
        """Mean loss [n] in nats over the tokens that count; NaN where an example has none."""
        losses = self.column.read(rows).values["losses"]
        means = np.full(len(rows), np.nan)
        for i, row in enumerate(rows):
            part = losses[i]
            if self.narrow:
                part = part[self.job.tokens[int(row)].supervised[1:]]
            if len(part):
                means[i] = part.mean(dtype=np.float64)
        return means

    def filled_means(self, rows: np.ndarray) -> np.ndarray:
        """Mean losses; an example without a token that counts cannot be ranked by one, and gets the mean of the others.

        Selection leaves it out anyway.
        """
        means = self.means(rows)
        return means if np.isfinite(means).all() else np.where(np.isfinite(means), means, self._mean)

    @cached_property
    def _mean(self) -> float:
        """Over the rows that the job asks for, whatever blocks they are read in."""
        means = np.concatenate([self.means(rows) for rows in self.job.blocks()])
        known = means[np.isfinite(means)]
        return float(known.mean()) if len(known) else 0.0


def pool_losses(job: Job, model: ModelConfig, which: str, token_budget: int) -> PoolLosses:
    """Losses of the job's rows, computed where they are missing and charged: "supervised", "all" or "answers".

    Where all tokens' losses are there already, they serve the supervised ones, at the charge of the supervised alone.
    """
    rows = job.rows
    wanted = losses_column(job, model, which, token_budget)
    if which == "supervised" and (found := losses_column(job, model, "all", token_budget)).present(rows).all():
        flops = found.read(rows, only=["supervised_flops"]).array("supervised_flops")
        job.meter.charge_rows(wanted.place, rows, flops, len(found))
        return PoolLosses(found, job, narrow=True)
    return PoolLosses(job.filled(wanted), job)


def losses_column(job: Job, model: ModelConfig, which: str, token_budget: int) -> PoolColumn:
    """The column of losses, computed or not."""
    spec = Losses(
        tokens=job.tokens_ref,
        model=model,
        identity=model_identity(model),
        of=which,  # type: ignore[arg-type]
        pad_id=job.encoder.pad_id,
        token_budget=token_budget,
    )
    return job.column(spec)


def loss_charges(
    job: Job, model: ModelConfig, which: str, token_budget: int, rows: np.ndarray
) -> dict[str, np.ndarray] | None:
    """What losses of `rows` of the pool will be charged [n], by place; None where too few rows tell."""
    column = losses_column(job, model, which, token_budget)
    found = known_costs(column, rows)
    return None if found is None else {column.place: found}
