"""ToV: how much easier an example becomes when the model, on its way through the pool, is tuned on the references.

At each checkpoint theta_k of a warm-up on a share of the pool (that of `gradient`, shared with it), a copy is tuned on the
references for one epoch, rank-1 LoRA at a tenth of the warm-up's rate, to theta'_k. s(z) = sum_k l(z; theta_k) -
l(z; theta'_k), l the mean loss over supervised tokens in nats (train on validation, arXiv 2510.00386; METHODS section 8).

Two passes a checkpoint; those by theta_k serve every target. Beside a warm-up's adapter the copy gets a second one, folded
into it afterwards (`paydirt.models.stack`), so nothing is rounded into weights.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.config import parse
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops, lora_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.scorers.drop import Ends, LowRank
from paydirt.scorers.gradient import Gradient
from paydirt.scoring.base import Job, Scorer
from paydirt.scoring.losses import pool_losses, tuned_on_references
from paydirt.training.config import TrainConfig, predict_training_cost


class ToV(Scorer):
    """Loss that a short tuning on the references removes, summed over a warm-up's checkpoints (train on validation)."""

    name: ClassVar[str] = "tov"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = (
        "warm-up + checkpoints x 4 P T, one half shared by all targets; + tuning on the references"
    )
    source: ClassVar[str] = "train on validation (arXiv 2510.00386)"
    use_when: ClassVar[str] = "gradient's warm-up is there already, and losses are cheaper than gradients"

    gradient: Gradient = Field(default_factory=Gradient, description="whose warm-up and checkpoints are taken")
    epochs: int = Field(1, ge=1, description="on the references, from every checkpoint")
    rate: float | None = Field(None, gt=0, description="learning rate, constant; null: a tenth of the warm-up's")
    lora: LowRank = Field(default_factory=LowRank, description="shape of the LoRA parameters: rank 1 as published")
    tune_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the tuning")
    tune_seed: int = Field(0, description="of the references' order and fresh LoRA parameters")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def training(self) -> TrainConfig:
        rate = self.gradient.warmup_learning_rate / 10 if self.rate is None else self.rate
        values = {"method": "lora", "learning_rate": rate, "epochs": self.epochs, "batch_size": self.tune_batch_size}
        values |= {"lora": self.lora.model_dump(), "schedule": "constant", "save": "no"}
        return parse(TrainConfig, values)

    def price(self, facts: Facts) -> Cost:
        """The warm-up; at each checkpoint a tuning and two passes over the pool, one of them for all targets."""
        pool, shown, passes = facts.pool, facts.references, self.gradient.passes
        warmup = self.gradient.fixed_price(facts).parts.get("warm-up", 0.0) / facts.tasks
        read = forward_flops(facts.model, pool.total, pool.mean, facts.convention)
        before, after = read, read + lora_flops(facts.model, pool.total, self.lora.r, self.lora.targets)
        config = self.training()
        tuning = predict_training_cost(config, facts.model, shown.total, shown.count, facts.convention).flops
        if self.gradient.warmup_epochs and self.gradient.warmup_method == "lora":  # its adapters are read too
            wide = self.gradient.lora
            before += lora_flops(facts.model, pool.total, wide.r, wide.targets)
            after += lora_flops(facts.model, pool.total, wide.r, wide.targets)
            tuning += 2 * lora_flops(facts.model, self.epochs * shown.total, wide.r, wide.targets)
        parts = {"warm-up": warmup, "before": passes * before / facts.tasks, "after": passes * after}
        parts["tuning"] = passes * tuning
        return Cost(sum(parts.values()), 2 * passes * round(pool.total), parts)

    def kept_bytes(self, facts: Facts) -> float:
        """Losses in float32 before and after, at every checkpoint; of the gradients it keeps none, but says so itself."""
        return 2 * self.gradient.passes * (4.0 * facts.answer_lengths.total + 32 * facts.pool.count)

    def ceiling(self, facts: Facts) -> float:
        """Batches of trainings are drawn at random, and padded to their longest."""
        parts = selection_cost(self, as_counted(facts)).parts
        warmup = parts["warm-up"] * facts.root.padded(self.gradient.warmup().micro_batch_size or 1)
        tuning = parts["tuning"] * facts.references.padded(self.tune_batch_size)
        return SAFETY * (warmup + tuning + self.padding(facts) * (parts["before"] + parts["after"]))

    def prepare(self, job: Job) -> list[Ends]:
        """Losses before and after the tuning at each checkpoint."""
        from paydirt.scoring.gradient_passes import checkpoints

        ends = []
        for step in checkpoints(self.gradient, job):
            model = job.selector.model_copy(update={"path": step.path, "tokenizer": None})
            before = pool_losses(job, model, "supervised", self.token_budget)
            tuned = tuned_on_references(job, model, self.training(), self.tune_seed)
            ends.append(Ends(before, pool_losses(job, tuned, "supervised", self.token_budget)))
        job.remarks["tov"] = {"checkpoints": len(ends)}
        return ends

    def score_rows(self, job: Job, state: list[Ends], rows: np.ndarray) -> np.ndarray:
        """What cannot be ranked, for want of a token that counts, gets 0; selection leaves it out anyway."""
        total = np.zeros(len(rows))
        for ends in state:
            before, after = ends.means(rows)
            total += np.nan_to_num(before - after, nan=0.0)
        return total
