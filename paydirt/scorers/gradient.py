"""Gradient influence (LESS): how far a step on an example would move the model towards each reference.

Warm up on a random share of the pool, keep a checkpoint an epoch; at each, project every example's update direction and
every reference's gradient to k numbers; influence is the checkpoint-weighted cosine, averaged over a subtask's references
(arXiv 2402.04333; METHODS section 2). The passes are in `gradient_passes`, the arithmetic in `paydirt.gradients`.

The projected pool is a store that serves every target. With `store: false` nothing is kept but similarities, which is
cheaper on disk when there is one target. `checkpoints`, `layers`, `max_tokens`, `warmup_epochs` and `k` each cut the cost;
docs/selection-cost.md holds what each does to the selection. A study's seeds vary training, not the warm-up, its share or
the projection (`warmup_seed`, `projection_seed`): the spread that it shows covers training alone, unless these vary too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from paydirt.columns import PoolColumn
from paydirt.columns.gradients import stored_rows
from paydirt.core.config import parse
from paydirt.core.types import Cost, Target
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import Facts, Lengths
from paydirt.cost.forms import forward_flops, training_flops
from paydirt.cost.methods import SAFETY, as_counted
from paydirt.models.load import LoraSpec
from paydirt.scoring.base import OWN, Job, Scorer
from paydirt.selection.scores import Column, Reduction
from paydirt.training.config import MOST_EPOCHS, TrainConfig, predict_training_cost

STORED_BYTES = {"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}


class Gradient(Scorer):
    """Gradient influence on the references (LESS)."""

    name: ClassVar[str] = "gradient"
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    spread: ClassVar[bool] = True
    cost_note: ClassVar[str] = "warm-up + checkpoints x 4 P T (LoRA)"
    source: ClassVar[str] = "LESS (arXiv 2402.04333)"
    known_as: ClassVar = {"less": "gradient", "gradients": "gradient", "influence": "gradient"}
    use_when: ClassVar[str] = "targets that words do not give away; several targets share one store"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="max")

    warmup_fraction: float = Field(0.05, gt=0, le=1, description="share of the pool to warm up on")
    warmup_epochs: int = Field(
        4, ge=0, le=MOST_EPOCHS, description="epochs, each a checkpoint; 0 takes the model as it is (sgd, sign)"
    )
    warmup_method: Literal["lora", "full"] = Field("lora", description="parameters that train and give gradients")
    warmup_learning_rate: float = Field(2e-5, gt=0, description="highest rate of the warm-up's linear schedule")
    warmup_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the warm-up")
    warmup_weighting: Literal["tokens", "sequences"] = Field(
        "tokens", description="a warm-up batch's loss: mean over tokens, or over sequences' means (published code)"
    )
    warmup_seed: int = Field(0, description="of the warm-up's share, its order and fresh LoRA parameters")
    lora: LoraSpec = Field(default_factory=LoraSpec, description="shape of the LoRA parameters")
    checkpoints: int | None = Field(None, ge=1, description="use only the last so many checkpoints")
    layers: int | None = Field(None, ge=1, description="gradients of the last so many layers; backward stops there")
    max_tokens: int | None = Field(
        None, ge=8, description="of each pool example, a window of so many tokens around the start of its answer"
    )
    direction: Literal["adam_published", "adam_textbook", "sgd", "sign"] = Field(
        "adam_published", description="update direction of pool examples; references always use the gradient"
    )
    projection: Literal["sketch", "rademacher"] = Field("sketch", description="random projection")
    k: int = Field(8192, ge=1, description="dimension after projection")
    projection_seed: int = Field(0, description="of the random projection")
    per: Literal["reference", "subtask"] = Field("reference", description="columns kept: each reference, or means")
    store: bool = Field(True, description="keep the projected pool for other targets")
    store_dtype: Literal["int8", "float16", "bfloat16", "float32"] = Field(
        "int8", description="precision of the stored features"
    )
    token_budget: int = Field(2048, ge=1, description="padded tokens in a batch")

    def columns(self, target: Target) -> list[Column]:
        if self.per == "subtask":
            return [Column(name, name) for name in target.subtasks]
        return super().columns(target)

    def warmup(self) -> TrainConfig:
        values = {"method": self.warmup_method, "learning_rate": self.warmup_learning_rate, "lora": self.lora}
        # Four sequences a pass: whole batches of unlike lengths would be mostly padding.
        micro = math.gcd(4, self.warmup_batch_size)
        values |= {"epochs": self.warmup_epochs, "batch_size": self.warmup_batch_size, "micro_batch_size": micro}
        kept = {"weighting": self.warmup_weighting, "save": "epoch", "keep_checkpoints": True}
        return parse(TrainConfig, values | kept)

    @property
    def passes(self) -> int:
        """How often the pool is read: the checkpoints that are used."""
        return min(self.checkpoints or self.warmup_epochs or 1, self.warmup_epochs or 1)

    def price(self, facts: Facts) -> Cost:
        """Warm-up, then forward and backward over pool and references at each checkpoint; projection and matching.

        Where tasks share a warm-up and a store, each is charged its part of them.
        """
        fixed, variable = self.fixed_price(facts), self.variable_price(facts, facts.pool)
        shared = facts.tasks if self.store else 1
        parts = {k: v / (facts.tasks if k == "warm-up" else 1) for k, v in fixed.parts.items()}
        parts |= {k: v / (1 if k == "matching" else shared) for k, v in variable.parts.items()}
        return Cost(sum(parts.values()), fixed.tokens + variable.tokens, parts)

    def fixed_price(self, facts: Facts) -> Cost:
        """What is paid however few examples are scored: the warm-up and the references' features."""
        parts: dict[str, float] = {}
        if self.warmup_epochs:
            pool, share = facts.root, self.warmup_fraction
            n = round(share * pool.count)
            parts["warm-up"] = predict_training_cost(
                self.warmup(), facts.model, share * pool.total, n, facts.convention
            ).flops
        shown = facts.references
        parts["references"] = self.passes * self.pass_flops(facts, shown)
        parts["reference projection"] = self.passes * self._projection_flops(facts, shown)
        return Cost(sum(parts.values()), self.passes * round(shown.total), parts)

    def variable_price(self, facts: Facts, lengths: Lengths) -> Cost:
        """What pool examples of `lengths` add: their gradients and projections at every checkpoint, and matching."""
        columns = facts.subtasks if self.per == "subtask" else facts.references.count
        seen = lengths.capped(self.max_tokens)
        parts = {"gradients": self.passes * self.pass_flops(facts, seen)}
        parts["projection"] = self.passes * self._projection_flops(facts, seen)
        parts["matching"] = 2.0 * lengths.count * self.passes * self.k * columns
        return Cost(sum(parts.values()), self.passes * round(seen.total), parts)

    def kept_bytes(self, facts: Facts) -> float:
        """A row of k numbers, a norm and counts an example and checkpoint; adapters with two moments a checkpoint."""
        each = self.k * STORED_BYTES[self.store_dtype] + 40
        rows = self.passes * each * facts.pool.count if self.store else 0.0
        whole = self.warmup_method == "full"
        size = facts.model.parameters if whole else facts.model.lora_parameters(self.lora.r, self.lora.targets)
        return rows + 4.0 * size * (1 + 3 * self.warmup_epochs if self.warmup_epochs else 0)

    def ceiling(self, facts: Facts) -> float:
        return self.fixed_ceiling(facts) + SAFETY * self.variable_price(as_counted(facts), facts.pool).flops

    def fixed_ceiling(self, facts: Facts, warmup: bool = True) -> float:
        """What the count of the fixed part will not exceed; without the warm-up where it is paid already."""
        parts = self.fixed_price(as_counted(facts)).parts
        training = parts.pop("warm-up", 0.0) * facts.root.padded(self.warmup().micro_batch_size or 1)
        return SAFETY * (sum(parts.values()) + (training if warmup else 0.0))

    def row_charges(self, job: Job, rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Features at every checkpoint by the counts that their columns were begun with, and matching."""
        from paydirt.columns.gradients import known_costs
        from paydirt.scoring import gradient_passes as passes

        if not self.store:
            return None
        steps = list(passes.checkpoints(self, job))
        charges = {OWN: np.full(len(rows), 2.0 * len(steps) * self.k * len(self.columns(job.target)))}
        for step in steps:
            column = job.column(passes.features_of(self, job, step, self.direction))
            found = known_costs(column, rows)
            if found is None:
                return None
            charges[column.place] = found
        return charges

    def _upper(self, whole: Architecture) -> Architecture:
        return replace(whole, layers=min(self.layers or whole.layers, whole.layers))

    def pass_flops(self, facts: Facts, lengths: Lengths) -> float:
        """Forward through all layers, backward through those whose gradients are asked for."""
        whole, tokens, length = facts.model, lengths.total, lengths.mean
        upper = self._upper(whole)
        below = forward_flops(whole, tokens, length, facts.convention)
        below -= forward_flops(upper, tokens, length, facts.convention)
        return below + training_flops(
            upper,
            tokens,
            length,
            facts.convention,
            lora=self.warmup_method == "lora",
            lora_rank=self.lora.r,
            lora_targets=self.lora.targets,
        )

    def _projection_flops(self, facts: Facts, lengths: Lengths) -> float:
        """Of projecting one gradient a text: 2 a parameter by the sketch, 2 k by the dense matrix."""
        upper = self._upper(facts.model)
        if self.warmup_method == "lora":
            parameters = upper.lora_parameters(self.lora.r, self.lora.targets)
        else:
            parameters = upper.parameters if self.layers is None else upper.non_embedding_parameters
        return 2.0 * parameters * (1 if self.projection == "sketch" else self.k) * lengths.count

    def prepare(self, job: Job) -> list[_End]:
        from paydirt.scoring import gradient_passes as passes

        ends = []
        for step in passes.checkpoints(self, job):
            references = passes.reference_columns(self, job, passes.reference_features(self, job, step))
            pool = job.filled(passes.pool_column(self, job, step, references))
            pool.close()  # one checkpoint in memory at a time
            ends.append(_End(step.weight, references, pool))
        return ends

    def score_rows(self, job: Job, state: list[_End], rows: np.ndarray) -> np.ndarray:
        import torch

        from paydirt.gradients.influence import match

        columns = len(self.columns(job.target))
        job.meter.add(2.0 * len(state) * len(rows) * self.k * columns)  # matching
        total = torch.zeros(len(rows), columns)
        for end in state:
            block = end.pool.read(rows)
            if self.store:
                total += end.weight * match(stored_rows(block, self.store_dtype), end.references)
            else:
                total += end.weight * torch.from_numpy(block.array("similarity"))
        return total.numpy()


class _End(NamedTuple):
    """A checkpoint's weight, its references [C, k], and the pool's features, or their similarities with these."""

    weight: float
    references: Any
    pool: PoolColumn
