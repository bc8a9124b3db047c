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

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.core.config import parse
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops, lora_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.scoring.base import Job, Scorer
from paydirt.scoring.losses import PoolLosses, pool_losses, tuned_on_references
from paydirt.training.config import MOST_EPOCHS, TrainConfig, predict_training_cost

MAX_LOG = 80.0  # exp beyond this leaves float32


class Perplexity(Scorer):
    """exp(mean negative log-likelihood) under a model tuned on the references."""

    name: ClassVar[str] = "ppl"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P T + tuning on the references"
    source: ClassVar[str] = "CCDS (arXiv 2410.16208)"
    known_as: ClassVar = {
        "perplexity": "ppl",
        "topppl": "ppl with the policy top (the published script: low)",
        "ppltop": "ppl with the policy top (the published script: low)",
        "midppl": "ppl with the policy mid",
        "pplmid": "ppl with the policy mid",
    }
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

    @property
    def reads_answers(self) -> bool:
        return self.tune_epochs > 0

    @property
    def uses_target(self) -> bool:  # type: ignore[override]
        """Without tuning no reference is read."""
        return self.tune_epochs > 0

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

    def kept_bytes(self, facts: Facts) -> float:
        """Losses in float32 of the tokens that count, with counts of every example; the tuned parameters."""
        counted = facts.answer_lengths if self.tokens == "supervised" else facts.pool
        tuned = 0.0
        if self.tune_epochs:
            lora = self.training().lora
            size = facts.model.lora_parameters(lora.r, lora.targets)
            tuned = 4.0 * (size if self.tune_method == "lora" else facts.model.parameters)
        return 4.0 * counted.total + 32 * facts.pool.count + tuned

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

    def score_rows(self, job: Job, state: PoolLosses, rows: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(state.filled_means(rows), MAX_LOG))
