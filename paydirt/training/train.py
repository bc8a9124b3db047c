"""The train stage: encoded examples to a tuned model directory.

What enters: a model, a token store, the rows to train on. What leaves: `model/` (an adapter, or a full model, with its
tokenizer), `train.json` (loss history, steps, tokens) and a ledger line. Rows are taken in id order and shuffled by the
seed alone, so the same set of examples trains the same model however it was ranked. A killed run continues from its last
checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback

from paydirt.core.progress import say, showing
from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import CONVENTIONS, forward_flops
from paydirt.cost.ledger import Ledger
from paydirt.data.batches import collate
from paydirt.data.encoding import Encoded, Encoder
from paydirt.gradients.per_example import trainable
from paydirt.models.load import ModelConfig, attach_lora, is_adapter, load_model, resolve_device
from paydirt.models.stack import fold
from paydirt.training.best import Best
from paydirt.training.config import TrainConfig, predict_training_cost
from paydirt.training.devices import OneDevice
from paydirt.training.launcher import rank, world_size
from paydirt.training.saving import adapter_shapes, save_trained
from paydirt.training.trainer import CountingTrainer, Order, TellSteps, TokenDataset
from paydirt.training.watch import Patience, Watch, check_reports, reports_beside

COMPUTE = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass
class Rows(Sequence):
    """Some rows of a token store, read when asked for."""

    tokens: Any
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.tokens[int(self.rows[index])]


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
    references: Sequence[Encoded] = (),
) -> dict[str, Any]:
    """Tune a model on `examples` inside the directory `part`; returns notes. Raises ValueError on a NaN loss.

    The loss of `references` is measured while it trains (`training.watch`).
    """
    check_reports(config.report_to)
    if config.early_stop and not references:
        raise ValueError("early_stop goes by the loss of references, and there are none; give them, or early_stop 0")
    usable = [i for i in range(len(examples)) if examples[i].n_supervised > 0]
    if not usable:
        raise ValueError("no example to train on has a supervised token; check the chat template and max_length")
    if config.method == "full" and model_config.quantization != "none":
        raise ValueError("a quantised base trains LoRA parameters only; use method lora, or quantization none")
    held, precision = held_as(model_config, config)
    model, stacked = load_model(held), config.method == "lora" and is_adapter(held.path)
    if stacked:
        config = resumes_nothing(config)
    architecture = Architecture.from_config(model.config)
    torch.manual_seed(seed)
    if config.method == "lora":
        model = attach_lora(model, config.lora, seed)
    if config.gradient_checkpointing and config.method == "lora":
        model.enable_input_require_grads()
    adapter = adapter_shapes(model)
    parameters = sum(p.numel() for p in trainable(model).values())  # wrappers flatten and cut them
    data = [examples[i] for i in usable] if len(usable) < len(examples) else examples
    lengths = [len(e.ids) for e in data]
    predictions = {c: predict_training_cost(config, architecture, sum(lengths), len(lengths), c) for c in CONVENTIONS}
    predicted = predictions[convention]
    device = resolve_device(model_config.device)
    arguments = _arguments(part, config, precision, seed, fraction, device, len(data))
    with reports_beside(part, config.report_to):
        trainer = CountingTrainer(
            model=model,
            args=arguments,
            train_dataset=TokenDataset(data),
            data_collator=lambda rows: collate([r["example"] for r in rows], encoder.pad_id)._asdict(),
            order=Order(
                len(data),
                arguments.per_device_train_batch_size * world_size() if world_size() > 1 else 1,
                seed,
                lengths if config.group_by_length else None,
                config.batch_size,
            ),
            weighting=config.weighting,
        )
    trainer.remove_callback(PrinterCallback)  # train.json keeps the history
    kept = Best(trainer, part) if config.early_stop else None
    if references:
        trainer.add_callback(Patience())
        trainer.add_callback(Watch(trainer, references, encoder.pad_id, config.watch_every, config.early_stop, kept))
    last = _last_whole_checkpoint(part / "checkpoints")
    # Each rank of a distributed run writes a line of what it did itself; the prediction is for all of them.
    with Ledger(part).record("train", config.method, predicted if rank() == 0 else None, device) as entry:
        with showing("training", 1, counts=False) as bar:
            trainer.add_callback(TellSteps(bar))
            trainer.train(resume_from_checkpoint=last)
        entry.measured_flops, entry.tokens = trainer.work.measured_flops, trainer.work.seen
    watched = _watched(trainer, references, architecture, convention, kept)
    measured = trainer.accelerator.reduce(torch.tensor(entry.measured_flops or 0.0, device=trainer.args.device), "sum")
    if stacked:
        adapter = adapter_shapes(fold(model))
    save_trained(part, trainer, encoder, adapter, config.keep_checkpoints)
    return {
        "examples": len(data),
        "without_supervised_tokens": len(examples) - len(usable),
        "tokens": sum(lengths),
        "steps": trainer.state.global_step,
        "trainable_parameters": parameters,
        "total_parameters": architecture.parameters,
        "learning_rate": config.rate_for(fraction),
        "precision": precision,
        "processes": world_size(),
        "resumed_from": Path(last).name if last else None,
        "predicted_flops": {c: cost.flops for c, cost in predictions.items()},
        "measured_flops": float(measured) or None,
        **watched,
    }


def _watched(
    trainer: CountingTrainer,
    references: Sequence[Encoded],
    architecture: Architecture,
    convention: str,
    kept: Best | None,
) -> dict[str, Any]:
    """What watching saw and took: FLOPs by closed form; nothing where nobody watched. The model becomes the `kept` one."""
    if not references:
        return {}
    told = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Patience))
    if kept is not None:
        kept.restore(told.best_step)
    tokens = sum(len(e.ids) for e in references)
    flops = told.measured * forward_flops(architecture, tokens, tokens / len(references), convention)
    stopped = trainer.state.global_step < trainer.state.max_steps
    saved = (kept is not None and told.best_step) or trainer.state.global_step
    if saved < trainer.state.global_step and rank() == 0:
        say(f"the references' loss was best at step {saved} ({told.best:.3g} nats): its weights are saved")
    return {
        "reference_loss": told.best,
        "looks": told.measured,
        "watching_flops": flops,
        "stopped_early": stopped,
        "saved_step": saved,
    }


def resumes_nothing(config: TrainConfig) -> TrainConfig:
    """Of two adapters at once the Trainer would restore one, so such a training writes no checkpoint; ValueError where
    they are to be kept."""
    if config.keep_checkpoints:
        raise ValueError("training LoRA parameters beside an adapter keeps no checkpoints; leave keep_checkpoints out")
    return config.model_copy(update={"save": "no"})


def held_as(model: ModelConfig, config: TrainConfig) -> tuple[ModelConfig, str]:
    """How the model is held while it trains, and the precision of its products.

    A step is often smaller than what bfloat16 can add to a weight (at a rate of 2e-5 most weights would never move), so
    weights that train are float32 and saved so; a model asked for in bfloat16 or float16 computes in that. A frozen base
    stays as asked, its LoRA parameters are float32 (peft).
    """
    if config.method == "lora":
        return model, config.precision
    precision = config.precision if config.precision != "fp32" else COMPUTE[model.dtype]
    return model.model_copy(update={"dtype": "float32"}), precision


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
    part: Path, config: TrainConfig, precision: str, seed: int, fraction: float, device: str, n_examples: int
) -> OneDevice:
    world = world_size()
    micro = config.micro_batch_size or max(1, config.batch_size // world)
    if config.batch_size % (micro * world):
        raise ValueError(
            f"batch_size {config.batch_size} is not a multiple of micro_batch_size {micro} x {world} processes"
        )
    accumulation = config.batch_size // (micro * world)
    steps = math.ceil(n_examples / (micro * world * accumulation)) * config.epochs
    return OneDevice(
        place=device,
        output_dir=str(part / "checkpoints"),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.rate_for(fraction),
        lr_scheduler_type=config.schedule,
        # The first warm-up step has rate 0, so a training of one step must not consist of it.
        warmup_steps=min(math.ceil(config.warmup_ratio * steps), math.ceil(steps) - 1),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        **_checkpointing(config.gradient_checkpointing),
        save_strategy=config.save,
        save_steps=config.save_steps,
        save_total_limit=None if config.keep_checkpoints else 1,
        logging_steps=1,  # means of several steps would differ after a kill; checkpoint weights need every step's rate
        restore_callback_states_from_checkpoint=True,  # what was counted
        logging_nan_inf_filter=False,
        report_to=list(config.report_to),
        run_name=part.name.removesuffix(".part"),
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=device != "cpu",
        disable_tqdm=True,  # our own bar shows steps
        label_names=["labels"],
    )


def _checkpointing(wanted: bool) -> dict[str, bool]:
    """The Trainer's switch under the name that this transformers has; v5 renames it."""
    names = TrainingArguments.__dataclass_fields__
    return {"activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing": wanted}
