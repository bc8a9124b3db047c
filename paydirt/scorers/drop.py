"""Drop: how much easier an example becomes for a model that is tuned on the references, and on nothing else.

s(z) = (l_first(z) - l_last(z)) / max(l_first(z), eps), l the mean loss over supervised tokens in nats: TACS, arXiv
2605.09404; METHODS section 8. The tuned part is kept small (rank-1 LoRA), so that it learns what the references share
rather than the references. theta_t is the model after t epochs at a constant rate, one trajectory whatever the depth.

First end: `base`, the model as it is, whose one pass over the pool serves every target; or `first`, the model after one
epoch, as published. Both ends are columns of single tokens' losses, kept, so `tokens` and `normalise` can be changed
without another pass. A row's losses depend on that row alone, means and differences are in float64, and equal models give
exactly 0. In bfloat16 small rates drown in rounding; the manifest counts the examples whose loss did not move.

`calibrate: true` finds depth and rate by the references alone, by three folds (`paydirt.training.calibration`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from paydirt.core.config import parse
from paydirt.core.progress import say
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops, lora_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.models.load import LoraSpec, ModelConfig
from paydirt.scoring.base import Job, Scorer
from paydirt.scoring.losses import PoolLosses, loss_charges, pool_losses, tuned_on_references
from paydirt.training.calibration import PASS, Grid, calibrated, calibration_flops
from paydirt.training.config import TrainConfig, predict_training_cost

EPSILON = 1e-6  # nats: what a first loss counts as at least


class LowRank(LoraSpec):
    """LoRA of low capacity, as published for loss drop."""

    r: int = Field(1, ge=1)
    alpha: float = 4.0


class Drop(Scorer):
    """Share of an example's loss that tuning on the references removes (loss drop, TACS)."""

    name: ClassVar[str] = "drop"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "4 P T, one half shared by all targets; + tuning on the references"
    source: ClassVar[str] = "TACS (arXiv 2605.09404)"
    known_as: ClassVar = {"tacs": "drop", "lossdrop": "drop"}
    use_when: ClassVar[str] = "targets that words do not give away, at a fraction of gradient's cost; many targets"
    seedless: ClassVar[frozenset[str]] = frozenset({"base"})  # parts of the price that no seed changes

    first_end: Literal["base", "first"] = Field(
        "base", description="what is compared with: the untuned model, or the one after an epoch (as published)"
    )
    normalise: bool = Field(True, description="divide by the first end's loss (as published); else nats a token")
    tokens: Literal["supervised", "all"] = Field("supervised", description="tokens whose loss is averaged")
    depth: int = Field(2, ge=0, description="epochs on the references; published: 2, or 64 of nine references")
    rate: float = Field(1e-5, gt=0, description="learning rate, constant")
    method: Literal["lora", "full"] = Field("lora", description="parameters tuned on the references")
    lora: LowRank = Field(default_factory=LowRank, description="shape of the LoRA parameters: rank 1 as published")
    tune_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the tuning")
    tune_seed: int = Field(0, description="of the references' order, fresh LoRA parameters and calibration's folds")
    calibrate: bool = Field(False, description="find depth and rate among those listed, by three folds of references")
    depths: tuple[int, ...] = Field((2, 4, 8, 12, 16, 32, 64), min_length=1, description="depths to calibrate over")
    rates: tuple[float, ...] = Field((1e-5, 2e-5, 5e-5), min_length=1, description="rates to calibrate over")
    generic: int = Field(100, ge=1, description="pool examples that stand for unrelated texts in a calibration")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    @model_validator(mode="after")
    def _has_two_ends(self) -> Drop:
        if self.first_end == "first" and self.depth < 1:
            raise ValueError(
                "first_end 'first' is the model after one epoch; give depth 1 or more, or first_end 'base'"
            )
        if min(self.depths) < 1 or min(self.rates) <= 0:
            raise ValueError(f"a grid needs depths of 1 or more and rates above 0, not {self.depths} x {self.rates}")
        return self

    def training(self, depth: int, rate: float) -> TrainConfig:
        """So many epochs; of one trajectory, whatever the depth."""
        values: dict[str, Any] = {"lora": self.lora.model_dump(), "schedule": "constant", "save": "no"}
        values |= {"method": self.method, "learning_rate": rate, "epochs": depth, "batch_size": self.tune_batch_size}
        return parse(TrainConfig, values)

    def grid(self) -> Grid:
        return Grid(tuple(sorted(self.depths)), tuple(sorted(self.rates)), self.generic)

    # ---- cost -----------------------------------------------------------------------------------------------------
    def price(self, facts: Facts) -> Cost:
        """Two passes over the pool, the base model's shared by all targets; the tunings; the calibration.

        A calibration may choose any depth of its grid: the deepest is charged.
        """
        pool, model = facts.pool, facts.model
        depth = max(self.depths) if self.calibrate else self.depth
        read = forward_flops(model, pool.total, pool.mean, facts.convention)
        through = read
        if self.method == "lora":
            through += lora_flops(model, pool.total, self.lora.r, self.lora.targets)
        parts = {"base": read / facts.tasks} if self.first_end == "base" else {"first end": through}
        if depth and not (self.first_end == "first" and depth == 1):
            parts["last end"] = through
        parts["tuning"] = sum(self._tuning(facts, epochs) for epochs in self._epochs(depth))
        if self.calibrate:
            parts["calibration"] = calibration_flops(self.training(depth, self.rate), self.grid(), facts)
        return Cost(sum(parts.values()), 2 * round(pool.total), parts)

    def kept_bytes(self, facts: Facts) -> float:
        """Losses in float32 at both ends, with counts of every example."""
        counted = facts.answer_lengths if self.tokens == "supervised" else facts.pool
        return 2 * (4.0 * counted.total + 32 * facts.pool.count)

    def ceiling(self, facts: Facts) -> float:
        """Batches of references are drawn at random, and padded to their longest."""
        cost = selection_cost(self, as_counted(facts))
        tuning, calibration = cost.parts["tuning"], cost.parts.get("calibration", 0.0)
        reading = self.padding(facts) * (cost.flops - tuning - calibration)
        shown = facts.references.padded(self.tune_batch_size)
        return SAFETY * (reading + shown * tuning + max(shown, facts.root.padded(PASS)) * calibration)

    def row_charges(self, job: Job, rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Losses at both ends, as the rows that were read tell."""
        depth, rate = self._calibrated(job) if self.calibrate else (self.depth, self.rate)
        charges: dict[str, np.ndarray] = {}
        for epochs in self._ends(depth):
            found = loss_charges(job, self._after(job, epochs, rate), self.tokens, self.token_budget, rows)
            if found is None:
                return None
            charges |= found
        return charges

    def _ends(self, depth: int) -> tuple[int, int]:
        """Epochs of tuning before and after."""
        return (0 if self.first_end == "base" else 1), depth

    def _epochs(self, depth: int) -> set[int]:
        """Of the trainings that a score takes."""
        return {epochs for epochs in self._ends(depth) if epochs}

    def _tuning(self, facts: Facts, epochs: int) -> float:
        shown = facts.references
        config = self.training(epochs, self.rate)
        return predict_training_cost(config, facts.model, shown.total, shown.count, facts.convention).flops

    # ---- work -----------------------------------------------------------------------------------------------------
    def prepare(self, job: Job) -> Ends:
        depth, rate = self._calibrated(job) if self.calibrate else (self.depth, self.rate)

        def losses(epochs: int) -> PoolLosses:
            model = self._after(job, epochs, rate)
            return pool_losses(job, model, self.tokens, self.token_budget)

        ends = Ends(*(losses(epochs) for epochs in self._ends(depth)))
        job.remarks["drop"] = {"depth": depth, "rate": rate, **job.remarks.get("drop", {}), **self._unmoved(job, ends)}
        return ends

    def score_rows(self, job: Job, state: Ends, rows: np.ndarray) -> np.ndarray:
        """What cannot be ranked, for want of a token that counts, gets 0; selection leaves it out anyway."""
        first, last = state.means(rows)
        scale = np.maximum(first, EPSILON) if self.normalise else 1.0
        return np.nan_to_num((first - last) / scale, nan=0.0)

    def _after(self, job: Job, epochs: int, rate: float) -> ModelConfig:
        if not epochs:
            return job.selector
        return tuned_on_references(job, job.selector, self.training(epochs, rate), self.tune_seed)

    def _calibrated(self, job: Job) -> tuple[int, float]:
        grid = self.grid()
        config = self.training(max(grid.depths), min(grid.rates))
        found = calibrated(job, config, grid, self.tune_seed)
        job.meter.charge(found)
        notes = found.notes
        say(f"drop: calibrated to depth {notes['depth']}, rate {notes['rate']:g} (of {len(notes['curve'])} cells)")
        job.remarks["drop"] = {"curve": notes["curve"]}
        return int(notes["depth"]), float(notes["rate"])

    def _unmoved(self, job: Job, ends: Ends) -> dict[str, Any]:
        """How many examples have the same loss at both ends: more than a few mean that rounding ate the tuning."""
        unmoved = 0
        for rows in job.blocks():
            first, last = ends.means(rows)
            unmoved += int((first == last).sum())
        if ends.first.column.place != ends.last.column.place and unmoved > len(job.rows) // 10:
            say(f"drop: {unmoved} of {len(job.rows)} losses did not move; raise depth or rate, or use dtype float32")
        return {"unmoved": unmoved}


class Ends(NamedTuple):
    """Losses of single tokens before and after."""

    first: PoolLosses
    last: PoolLosses

    def means(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses [n] of both in float64; NaN where no token counts."""
        return self.first.means(rows), self.last.means(rows)
