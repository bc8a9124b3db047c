"""How a model is tuned, and the recipes known by name.

A recipe is a set of defaults; keys given beside it win. `seeds` is the training of the source documents (METHODS
sections 2 and 4), `warmup` its four-epoch warm-up for gradient selection.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paydirt.core.config import Aside, Config
from paydirt.core.registry import did_you_mean
from paydirt.core.types import Cost
from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import training_flops
from paydirt.models.load import LoraSpec

VERSION = 5  # raise when the same config, examples and seed train another model: tuned models are then stale

MOST_EPOCHS = 10_000  # a training of more would never end, and nobody means it

RECIPES: dict[str, dict[str, Any]] = {
    "seeds": {
        "method": "lora",
        "learning_rate": 2e-5,
        "small_fraction": 0.05,
        "small_fraction_learning_rate": 4e-5,
        "epochs": 1,
        "batch_size": 32,
        "micro_batch_size": 1,
        "warmup_ratio": 0.03,
        "precision": "bf16",
    },
    "warmup": {
        "method": "lora",
        "learning_rate": 2e-5,
        "epochs": 4,
        "batch_size": 32,
        "micro_batch_size": 1,
        "warmup_ratio": 0.03,
        "precision": "bf16",
        "save": "epoch",
        "keep_checkpoints": True,
    },
}


class TrainConfig(Config):
    """Fine-tuning with AdamW; trained weights are float32, whatever they are computed in."""

    recipe: str | None = Field(None, description="named defaults: seeds, warmup")
    method: Literal["lora", "full"] = Field("lora", description="train LoRA parameters or all")
    lora: LoraSpec = Field(default_factory=LoraSpec)
    learning_rate: float = Field(2e-5, gt=0)
    small_fraction: float = Field(0.0, ge=0, description="selections up to this share of the pool use the next rate")
    small_fraction_learning_rate: float | None = Field(None, gt=0)
    epochs: float = Field(1, gt=0, le=MOST_EPOCHS)
    batch_size: int = Field(32, ge=1, description="sequences an optimizer step, by accumulation")
    micro_batch_size: int | None = Field(None, ge=1, description="sequences a pass; default: the whole batch")
    weighting: Literal["tokens", "sequences"] = Field(
        "tokens",
        description="a batch's loss: mean over its supervised tokens, or over its sequences' means (published)",
    )
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="of the learning rate: falling to 0 at the end, or the same throughout, without warm-up"
    )
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of a linear schedule's steps that raise the rate")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of the computation; full training of a model in bfloat16 or float16 takes that"
    )
    gradient_checkpointing: bool = False
    group_by_length: bool = Field(False, description="batches of similar lengths: less padding, less random")
    save: Literal["epoch", "steps", "no"] = Field("epoch", description="when to write a checkpoint to resume from")
    save_steps: int = Field(500, ge=1)
    keep_checkpoints: bool = Field(False, description="keep checkpoints with optimizer state after training ends")
    report_to: Annotated[list[str], Aside("where people watch; it decides no number")] = Field(
        [],
        description="tools that see the training as it runs: tensorboard, trackio, wandb, whatever transformers takes",
    )
    watch_every: int = Field(20, ge=1, description="optimizer steps between two looks at the references' loss")
    early_stop: int = Field(
        0,
        ge=0,
        description="looks without a better loss of the references after which training ends; 0: never. The weights of the "
        "best look are saved",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("recipe"):
            return values
        name = values["recipe"]
        if not isinstance(name, str) or name not in RECIPES:
            raise ValueError(f"unknown training recipe {name!r}; {did_you_mean(str(name), RECIPES)}")
        return {**RECIPES[name], **values}

    @model_validator(mode="after")
    def _divides(self) -> TrainConfig:
        if self.batch_size % (self.micro_batch_size or self.batch_size):
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}"
            )
        return self

    def rate_for(self, fraction: float) -> float:
        """Learning rate for a selection that is `fraction` of its pool."""
        if self.small_fraction_learning_rate is not None and fraction <= self.small_fraction:
            return self.small_fraction_learning_rate
        return self.learning_rate


def predict_training_cost(
    config: TrainConfig, architecture: Architecture, tokens: float, examples: float, convention: str
) -> Cost:
    """Closed form over real tokens: epochs x (forward + backward), the frozen half left out under LoRA."""
    flops = training_flops(
        architecture,
        tokens,
        tokens / examples if examples else 0.0,
        convention,
        lora=config.method == "lora",
        lora_rank=config.lora.r,
        lora_targets=config.lora.targets,
        epochs=config.epochs,
    )
    return Cost(flops, int(tokens * config.epochs))
