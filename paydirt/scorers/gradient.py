"""Gradient influence (LESS): how far a step on an example would move the model towards each reference.

Warm up on a random share of the pool, keep a checkpoint an epoch; at each, project every example's update direction and
every reference's gradient to k numbers; influence is the checkpoint-weighted cosine, averaged over a subtask's references
(arXiv 2402.04333; METHODS section 2). The passes are in `gradient_passes`, the arithmetic in `paydirt.gradients`.

The projected pool is a store that serves every target. With `store: false` nothing is kept but similarities, which is
cheaper on disk when there is one target. `checkpoints`, `layers`, `max_tokens`, `warmup_epochs` and `k` each cut the cost;
docs/selection-cost.md holds what each does to the selection.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from paydirt.artifacts import Artifact
from paydirt.config import parse
from paydirt.cost.forms import forward_flops, training_flops
from paydirt.models.load import LoraSpec
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import Column, Reduction
from paydirt.training.config import TrainConfig
from paydirt.types import Cost, Target


class Gradient(Scorer):
    """Gradient influence on the references (LESS)."""

    name: ClassVar[str] = "gradient"
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "warm-up + checkpoints x 4 P T (LoRA)"
    use_when: ClassVar[str] = "targets that words do not give away; several targets share one store"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="max")

    warmup_fraction: float = Field(0.05, gt=0, le=1, description="share of the pool to warm up on")
    warmup_epochs: int = Field(4, ge=0, description="epochs, each a checkpoint; 0 takes the model as it is (sgd, sign)")
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

    def inputs(self, job: Job) -> dict[str, str]:
        return {"warmup_pool": job.root.pool.fingerprint} if job.whole else {}

    def predict_cost(self, job: Job) -> Cost:
        """Warm-up, then forward and backward over pool and references at each checkpoint; projection and matching."""
        return self.fixed_cost(job) + self.variable_cost(job, job.tokens.lengths)

    def fixed_cost(self, job: Job) -> Cost:
        """What is paid however few examples are scored: the warm-up and the references' gradients."""
        from paydirt.training.train import predict_training_cost

        parts: dict[str, float] = {}
        if self.warmup_epochs:
            pool = job.root.tokens
            share, n = self.warmup_fraction * pool.total, round(self.warmup_fraction * len(pool))
            parts["warmup"] = predict_training_cost(self.warmup(), job.architecture, share, n, job.convention).flops
        lengths = np.asarray([len(e.ids) for e in job.references])
        parts["references"] = self.passes * self._pass_flops(job, float(lengths.sum()), float(lengths.mean()))
        return Cost(sum(parts.values()), self.passes * int(lengths.sum()), parts)

    def variable_cost(self, job: Job, lengths: np.ndarray) -> Cost:
        """What pool examples of `lengths` tokens add: their gradients at every checkpoint, and matching."""
        one = self._pass_cost(job, lengths)
        parts = {"gradients": self.passes * one.flops}
        parts["matching"] = 2.0 * len(lengths) * self.passes * self.k * len(self.columns(job.target))
        return Cost(sum(parts.values()), self.passes * one.tokens, parts)

    def pass_cost(self, job: Job) -> Cost:
        """Forward and backward over the pool at one checkpoint."""
        return self._pass_cost(job, job.tokens.lengths)

    def _pass_cost(self, job: Job, lengths: np.ndarray) -> Cost:
        seen = np.minimum(lengths, self.max_tokens) if self.max_tokens else lengths
        total = int(seen.sum())
        return Cost(self._pass_flops(job, total, total / max(1, len(seen))), total)

    def _pass_flops(self, job: Job, tokens: float, length: float) -> float:
        """Forward through all layers, backward through those whose gradients are asked for."""
        whole = job.architecture
        upper = replace(whole, layers=min(self.layers or whole.layers, whole.layers))
        below = forward_flops(whole, tokens, length, job.convention)
        below -= forward_flops(upper, tokens, length, job.convention)
        return below + training_flops(
            upper,
            tokens,
            length,
            job.convention,
            lora=self.warmup_method == "lora",
            lora_rank=self.lora.r,
            lora_targets=self.lora.targets,
        )

    def prepare(self, job: Job) -> _State:
        from paydirt.scorers import gradient_passes as passes

        steps = list(passes.checkpoints(self, job))
        pairs = [(step, passes.reference_features(self, job, step)) for step in steps]
        stores = [passes.write_pool(self, job, step) if self.store else None for step in steps]
        similarities = None if self.store else passes.score_without_store(self, job, pairs)
        return _State(pairs, stores, similarities)

    def score_rows(self, job: Job, state: _State, start: int, stop: int) -> np.ndarray:
        import torch

        from paydirt.gradients.influence import match
        from paydirt.gradients.store import Store
        from paydirt.scorers.gradient_passes import reference_columns, sum_of_steps

        shard = start // job.shard_rows
        job.meter.add(2.0 * len(state.steps) * (stop - start) * self.k * len(self.columns(job.target)))  # matching
        if state.similarities is not None:
            return sum_of_steps(state.similarities, shard, [step.weight for step, _ in state.steps])
        total = torch.zeros(stop - start, len(self.columns(job.target)))
        for (step, references), artifact in zip(state.steps, state.stores):
            assert artifact is not None
            rows = Store(artifact.path / "store").rows(shard)
            total += step.weight * match(rows, reference_columns(self, job, references))
        return total.numpy()


class _State(NamedTuple):
    """Checkpoints with the references' features [R, k]; the pool's stores, or scratch similarities instead."""

    steps: list[tuple[Any, Any]]
    stores: list[Artifact | None]
    similarities: Path | None
