"""The train stage: encoded examples to a tuned model directory.

What enters: a model, a token store, the rows to train on. What leaves: `model/` (an adapter, or a full model, with its
tokenizer), `train.json` (loss history, steps, tokens) and a ledger line. Rows are taken in id order and shuffled by the
seed alone, so the same set of examples trains the same model however it was ranked. A killed run continues from its last
checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from paydirt.artifacts import write_atomic
from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import CONVENTIONS
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.data.batches import collate
from paydirt.data.encoding import Encoded, Encoder
from paydirt.models.load import ModelConfig, attach_lora, load_model, resolve_device, trainable
from paydirt.training.config import TrainConfig, predict_training_cost

SAMPLED_STEPS = 2


class TokenDataset(torch.utils.data.Dataset):
    """Encoded examples as a map-style data set; grouped sampling looks for lengths under `input_ids`."""

    def __init__(self, examples: Sequence[Encoded]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        return {"example": example, "input_ids": example.ids}


@dataclass
class Rows(Sequence):
    """Some rows of a token store, read when asked for."""

    tokens: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.tokens[int(self.rows[index])]


class _CountingTrainer(Trainer):
    """Counts the FLOPs of the first steps and the tokens of all."""

    counted_flops = 0.0
    counted_tokens = 0
    counted_steps = 0
    tokens_seen = 0

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        padded = int(inputs["input_ids"].numel())
        self.tokens_seen += padded
        if self.counted_steps >= SAMPLED_STEPS:
            return super().training_step(model, inputs, *args, **kwargs)
        self.counted_steps += 1
        flops, loss = count_flops(lambda: super(_CountingTrainer, self).training_step(model, inputs, *args, **kwargs))
        self.counted_flops += flops
        self.counted_tokens += padded
        return loss

    @property
    def measured_flops(self) -> float | None:
        """By proportion over padded tokens, which are what the processor multiplies."""
        return self.counted_flops * self.tokens_seen / self.counted_tokens if self.counted_tokens else None


class _StopOnNaN(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in ("loss", "grad_norm", "train_loss"):  # the last is the mean of all steps, told at the end
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(float(value)):
                raise ValueError(
                    f"training step {state.global_step}: {name} is {value}; lower the learning rate "
                    f"({args.learning_rate:g}), or use precision bf16 or fp32 if it is fp16"
                )


def train_model(
    part: Path,
    model_config: ModelConfig,
    encoder: Encoder,
    examples: Sequence[Encoded],
    config: TrainConfig,
    *,
    seed: int,
    fraction: float = 1.0,
    convention: str = "architectural",
) -> dict[str, Any]:
    """Tune a model on `examples` inside the directory `part`; returns notes. Raises ValueError on a NaN loss."""
    usable = [i for i in range(len(examples)) if examples[i].n_supervised > 0]
    if not usable:
        raise ValueError("no example to train on has a supervised token; check the chat template and max_length")
    model = load_model(model_config)
    architecture = Architecture.from_config(model.config)
    torch.manual_seed(seed)
    if config.method == "lora":
        model = attach_lora(model, config.lora, seed)
    elif model_config.quantization != "none":
        raise ValueError("a quantised base trains LoRA parameters only; use method lora, or quantization none")
    if config.gradient_checkpointing and config.method == "lora":
        model.enable_input_require_grads()
    data = [examples[i] for i in usable] if len(usable) < len(examples) else examples
    lengths = [len(e.ids) for e in data]
    predictions = {c: predict_training_cost(config, architecture, sum(lengths), len(lengths), c) for c in CONVENTIONS}
    predicted = predictions[convention]
    device = resolve_device(model_config.device)
    trainer = _CountingTrainer(
        model=model,
        args=_arguments(part, config, seed, fraction, device, len(data)),
        train_dataset=TokenDataset(data),
        data_collator=lambda rows: collate([r["example"] for r in rows], encoder.pad_id)._asdict(),
        callbacks=[_StopOnNaN()],
    )
    trainer.remove_callback(PrinterCallback)  # train.json keeps the history
    checkpoints = part / "checkpoints"
    last = _last_whole_checkpoint(checkpoints)
    # Each rank of a distributed run writes a line of what it did itself; the prediction is for all of them.
    with Ledger(part).record("train", config.method, predicted if _rank() == 0 else None, device) as entry:
        trainer.train(resume_from_checkpoint=last)
        entry.measured_flops, entry.tokens = trainer.measured_flops, trainer.tokens_seen
    measured = trainer.accelerator.reduce(torch.tensor(entry.measured_flops or 0.0, device=trainer.args.device), "sum")
    trainer.accelerator.wait_for_everyone()  # rank 0 renames the directory, so the others must have left it
    if trainer.is_world_process_zero():
        _save(part, trainer, encoder, config)
    return {
        "examples": len(data),
        "without_supervised_tokens": len(examples) - len(usable),
        "tokens": sum(lengths),
        "steps": trainer.state.global_step,
        "trainable_parameters": sum(p.numel() for _, p in trainable(model)),
        "total_parameters": architecture.parameters,
        "learning_rate": config.rate_for(fraction),
        "resumed_from": Path(last).name if last else None,
        "predicted_flops": {c: cost.flops for c, cost in predictions.items()},
        "measured_flops": _of_all_steps(float(measured), last, trainer.state.global_step),
    }


def _of_all_steps(measured: float, resumed: str | None, steps: int) -> float | None:
    """FLOPs of the whole training by proportion, where a resumed run measured only the steps that it did itself."""
    done = steps - (int(resumed.rsplit("-", 1)[-1]) if resumed else 0)
    return measured * steps / done if done else None


def _last_whole_checkpoint(checkpoints: Path) -> str | None:
    """The last checkpoint that was written to its end, which is its state file; a kill can leave a half-written one."""
    found = {int(p.name.rsplit("-", 1)[-1]): p for p in checkpoints.glob("checkpoint-*")}
    for step in sorted(found, reverse=True):
        try:
            json.loads((found[step] / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(found[step])
    return None


def _arguments(
    part: Path, config: TrainConfig, seed: int, fraction: float, device: str, n_examples: int
) -> TrainingArguments:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    micro = config.micro_batch_size or max(1, config.batch_size // world)
    if config.batch_size % (micro * world):
        raise ValueError(
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {micro} x {world} processes"
        )
    accumulation = config.batch_size // (micro * world)
    steps = math.ceil(n_examples / (micro * world * accumulation)) * config.epochs
    return TrainingArguments(
        output_dir=str(part / "checkpoints"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.rate_for(fraction),
        lr_scheduler_type="linear",
        # The first warm-up step has rate 0, so a training of one step must not consist of it.
        warmup_steps=min(math.ceil(config.warmup_ratio * steps), math.ceil(steps) - 1),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        **_checkpointing(config.gradient_checkpointing),
        train_sampling_strategy="group_by_length" if config.group_by_length else "random",
        save_strategy=config.save,
        save_steps=config.save_steps,
        save_total_limit=None if config.keep_checkpoints else 1,
        logging_steps=1 if config.keep_checkpoints else 10,  # checkpoint weights are means of every step's rate
        logging_first_step=True,
        logging_nan_inf_filter=False,
        report_to=[],
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=device != "cpu",
        disable_tqdm=not _on_terminal(),
        label_names=["labels"],
    )


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _checkpointing(wanted: bool) -> dict[str, bool]:
    """The Trainer's switch under the name that this transformers has; v5 renames it."""
    names = TrainingArguments.__dataclass_fields__
    return {"activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing": wanted}


def _on_terminal() -> bool:
    from paydirt.progress import console

    return console.is_terminal


def _save(part: Path, trainer: Trainer, encoder: Encoder, config: TrainConfig) -> None:
    trainer.save_model(str(part / "model"))
    encoder.tokenizer.save_pretrained(str(part / "model"))
    (part / "model" / "training_args.bin").unlink(missing_ok=True)  # a pickle of what config.yaml says
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    write_atomic(part / "train.json", json.dumps({"steps": trainer.state.global_step, "history": history}, indent=1))
    if not config.keep_checkpoints:
        shutil.rmtree(part / "checkpoints", ignore_errors=True)
