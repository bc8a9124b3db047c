"""What a person sees of a training while it runs: reports to other tools, the references' loss, and an end by it.

What enters: names of tools that transformers reports to, encoded references. What leaves: their loss in the history and
the reports, measured every so many optimizer steps, and, where patience is given, an early end and the weights of the best
look (`training.best`). Measuring draws nothing and changes no weight: a training that is only watched has the bytes of one
that nobody watched. What decides an early end is kept in every checkpoint, so that a kill forgets nothing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from paydirt.core.registry import did_you_mean
from paydirt.data.batches import IGNORED, collate
from paydirt.data.encoding import Encoded
from paydirt.training.best import Best

if TYPE_CHECKING:
    from transformers import Trainer

PASS = 4  # sequences in a pass
LOSS = "reference_loss"
PLACES = {"tensorboard": "TENSORBOARD_LOGGING_DIR"}  # tools that write to a folder, which is beside the model
MODULES = {"comet_ml": "comet_ml", "azure_ml": "azureml", "dvclive": "dvclive", "neptune": "neptune"}


def check_reports(names: Sequence[str]) -> None:
    """ValueError for a tool that transformers does not know, or that is not installed."""
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ValueError(
                f"report_to: transformers reports to no {name!r}; {did_you_mean(name, INTEGRATION_TO_CALLBACK)}"
            )
        there = get_available_reporting_integrations()
        if name not in there and importlib.util.find_spec(MODULES.get(name, name)) is None:
            raise ValueError(
                f"report_to: {name} is not installed here (pip install {name}); installed: {', '.join(there) or 'none'}"
            )


@contextmanager
def reports_beside(part: Path, names: Sequence[str]) -> Iterator[None]:
    """Lets tools that write to a folder write to `<model>.logs`, beside the artifact: times of day are no part of it."""
    wanted = {variable: str(logs_of(part)) for name, variable in PLACES.items() if name in names}
    before = {variable: os.environ.get(variable) for variable in wanted}
    os.environ.update({variable: place for variable, place in wanted.items() if not before[variable]})
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)


def logs_of(part: Path) -> Path:
    """Where the reports of a training go that is made in `part`."""
    return part.with_name(part.name.removesuffix(".part") + ".logs")


class Patience(TrainerCallback, ExportableState):
    """The best loss so far and its step, and how many measurements have passed since; kept in every checkpoint."""

    def __init__(self) -> None:
        self.best, self.best_step, self.since, self.measured = float("inf"), 0, 0, 0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": dict(vars(self))}

    def saw(self, loss: float, step: int) -> None:
        """Note one measurement."""
        self.measured, self.since = self.measured + 1, self.since + 1
        if loss < self.best:
            self.best, self.best_step, self.since = loss, step, 0


class Watch(TrainerCallback):
    """Measures the loss of `references` every `every` steps; ends after `patience` looks without a better (0: never).

    `kept`, where there is one, holds the weights of the best look.
    """

    def __init__(
        self, trainer: Trainer, references: Sequence[Encoded], pad_id: int, every: int, patience: int, kept: Best | None
    ) -> None:
        self.trainer, self.references, self.pad_id = trainer, references, pad_id
        self.every, self.patience, self.kept = every, patience, kept

    @property
    def told(self) -> Patience:
        """The counts, which the Trainer makes anew from a checkpoint."""
        return next(c for c in self.trainer.callback_handler.callbacks if isinstance(c, Patience))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        loss = mean_loss(self.trainer.model, self.references, self.pad_id)
        self.trainer.log({LOSS: loss})
        told = self.told
        told.saw(loss, state.global_step)
        if self.kept is not None and told.best_step == state.global_step:
            self.kept.keep(state.global_step)
        if self.patience and told.since >= self.patience:
            control.should_training_stop = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.on_save(args, state, control)  # of a run that continues: its checkpoint may ask for that step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.kept is not None:
            self.kept.held = self.told.best_step


def mean_loss(model: Any, examples: Sequence[Encoded], pad_id: int) -> float:
    """Mean loss of a supervised token, in nats, without dropout; the model goes on as it was, and nothing is drawn."""
    training, total, count = model.training, 0.0, 0
    model.eval()
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            for start in range(0, len(examples), PASS):
                batch = collate(examples[start : start + PASS], pad_id)
                labels = batch.labels[:, 1:].to(device)
                logits = model(
                    input_ids=batch.input_ids.to(device),
                    attention_mask=batch.attention_mask.to(device),
                    use_cache=False,
                ).logits
                losses = torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="sum"
                )
                total, count = total + float(losses), count + int((labels != IGNORED).sum())
    finally:
        model.train(training)
    return total / max(1, count)
