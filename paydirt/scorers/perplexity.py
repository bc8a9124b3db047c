"""Perplexity: how surprising an example is to a model that was tuned on the references.

One forward pass over the pool with logits only where they are scored. Losses of single tokens are kept as a shared
artifact: with `tokens: all` every token's, from which the supervised-only score is read without another pass.
Top, mid and low are selection policies, not scorers; the published scripts' shuffle inside thirds is their option
`shuffle_third`. Higher score = higher perplexity (METHODS section 2), and the default policy is `low`: what was measured
here, and what the published script called "top" does, though its text says the highest. Texts longer than the model's
positions are read in windows, each token counted once, so the mean weighs windows by their tokens.

`tune_epochs: 0` is response-only perplexity under the model as it is: the references are not read, and the score is one of
quality without a target. Its one pass is the column of losses that `drop` compares with and `ifd` begins with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.columns import PoolColumn
from paydirt.columns.losses import Losses
from paydirt.config import parse
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops, lora_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.data.tokens import TokenStore
from paydirt.models.load import ModelConfig, model_identity
from paydirt.scorers.base import Job, Scorer
from paydirt.training.config import MOST_EPOCHS, TrainConfig, predict_training_cost
from paydirt.training.shared import tuned_model
from paydirt.types import Cost

MAX_LOG = 80.0  # exp beyond this leaves float32


class Perplexity(Scorer):
    """exp(mean negative log-likelihood) under a model tuned on the references."""

    name: ClassVar[str] = "ppl"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P T + tuning on the references"
    use_when: ClassVar[str] = (
        "train model at least 5x the selector; mid and top are policies too; tune_epochs 0: no target at hand"
    )
    default_policy: ClassVar[str] = "low"

    tokens: Literal["supervised", "all"] = Field("supervised", description="tokens whose loss is averaged")
    tune_epochs: float = Field(
        25, ge=0, le=MOST_EPOCHS, description="epochs on the references; 0 scores with the model as it is"
    )
    tune_method: Literal["lora", "full"] = Field("lora", description="parameters tuned on the references")
    tune_learning_rate: float = Field(2e-5, gt=0, description="highest rate of the tuning's linear schedule")
    tune_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the tuning")
    tune_seed: int = Field(0, description="of the references' order and fresh LoRA parameters")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def training(self) -> TrainConfig:
        return parse(
            TrainConfig,
            {
                "method": self.tune_method,
                "learning_rate": self.tune_learning_rate,
                "epochs": self.tune_epochs,
                "batch_size": self.tune_batch_size,
            },
        )

    def price(self, facts: Facts) -> Cost:
        """Tuning on the references, then one forward pass over the pool's real tokens."""
        pool, shown = facts.pool, facts.references
        forward = forward_flops(facts.model, pool.total, pool.mean, facts.convention)
        cost = Cost(forward, round(pool.total), {"forward": forward})
        if self.tune_epochs:
            config = self.training()
            tuning = predict_training_cost(config, facts.model, shown.total, shown.count, facts.convention)
            cost = cost + Cost(tuning.flops, tuning.tokens, {"tuning": tuning.flops})
            if config.method == "lora":  # the pool is read through the adapters, which stay beside the weights
                adapters = lora_flops(facts.model, pool.total, config.lora.r, config.lora.targets)
                cost = cost + Cost(adapters, 0, {"adapters": adapters})
        return cost

    def ceiling(self, facts: Facts) -> float:
        """Batches of references are drawn at random, and padded to their longest."""
        cost = selection_cost(self, as_counted(facts))
        tuning = cost.parts.get("tuning", 0.0)
        reading = self.padding(facts) * (cost.flops - tuning)
        return SAFETY * (reading + facts.references.padded(self.tune_batch_size) * tuning)

    def prepare(self, job: Job) -> PoolLosses:
        """Per-token losses of the whole pool, under the tuned model."""
        model = job.selector
        if self.tune_epochs:
            model = tuned_on_references(job, model, self.training(), self.tune_seed)
        return pool_losses(job, model, self.tokens, self.token_budget)

    def score_rows(self, job: Job, state: PoolLosses, start: int, stop: int) -> np.ndarray:
        return np.exp(np.minimum(state.filled_means(job.rows(start, stop)), MAX_LOG))


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
    tokens: TokenStore
    narrow: bool
    shard_rows: int

    def means(self, rows: np.ndarray) -> np.ndarray:
        """Mean loss [n] in nats over the tokens that count; NaN where an example has none."""
        losses = self.column.read(rows).values["losses"]
        means = np.full(len(rows), np.nan)
        for i, row in enumerate(rows):
            part = losses[i]
            if self.narrow:
                part = part[self.tokens[int(row)].supervised[1:]]
            if len(part):
                means[i] = part.mean(dtype=np.float64)
        return means

    def filled_means(self, rows: np.ndarray) -> np.ndarray:
        """Mean losses; an example without a token that counts cannot be ranked by one, and gets the mean of `rows`.

        Selection leaves it out anyway.
        """
        means = self.means(rows)
        known = means[np.isfinite(means)]
        return np.where(np.isfinite(means), means, known.mean() if len(known) else 0.0)


def pool_losses(job: Job, model: ModelConfig, which: str, token_budget: int) -> PoolLosses:
    """Losses of the job's rows, computed where they are missing and charged: "supervised", "all" or "answers".

    Where all tokens' losses are there already, they serve the supervised ones, at the charge of the supervised alone.
    """

    def column(of: str) -> PoolColumn:
        spec = Losses(
            tokens=job.tokens_ref,
            model=model,
            identity=model_identity(model),
            of=of,  # type: ignore[arg-type]
            pad_id=job.encoder.pad_id,
            token_budget=token_budget,
        )
        return job.column(spec)

    rows = job.rows()
    if which == "supervised" and (found := column("all")).present(rows).all():
        flops = found.read(rows, only=["supervised_flops"]).array("supervised_flops")
        job.meter.charge_rows(column("supervised").spec.folder, rows, flops, len(found))
        return PoolLosses(found, job.root.tokens, True, job.shard_rows)
    return PoolLosses(job.filled(column(which)), job.root.tokens, False, job.shard_rows)
