"""transformers' Trainer with what Paydirt promises of a training: order by seed, exact batches, counted work.

The order of examples is a function of seed and epoch alone, so a run that was killed, or runs on other processes, reads
the same batches. Where processes do not divide the data, blank examples fill the last batch: they have no supervised
token, so nothing is trained twice. The loss of a batch is the mean over its supervised tokens, or over its sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import get_length_grouped_indices

from paydirt.core.progress import Bar, share
from paydirt.cost.measure import count_flops
from paydirt.data.batches import IGNORED
from paydirt.data.encoding import Encoded

SAMPLED_STEPS = 2
BLANK = Encoded(np.zeros(2, dtype=np.int32), np.zeros(2, dtype=bool))  # two tokens: the least that has a prediction


class TokenDataset(torch.utils.data.Dataset):
    """Encoded examples as a map-style data set; rows beyond the last are blank."""

    def __init__(self, examples: Sequence[Encoded]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"example": self.examples[index] if index < len(self.examples) else BLANK}


class Order(torch.utils.data.Sampler):
    """Row numbers of an epoch, shuffled by seed and epoch; blank rows bring them to a multiple of `unit`.

    With `lengths` [N], neighbours among `group` rows are of similar length.
    """

    def __init__(self, rows: int, unit: int, seed: int, lengths: Sequence[int] | None = None, group: int = 1) -> None:
        self.rows, self.seed, self.lengths, self.group, self.epoch = rows, seed, lengths, group, 0
        self.blank = -rows % unit

    def __len__(self) -> int:
        return self.rows + self.blank

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        if self.lengths is None:
            order = torch.randperm(self.rows, generator=generator).tolist()
        else:
            order = get_length_grouped_indices(self.lengths, self.group, generator=generator)
        yield from [*order, *range(self.rows, self.rows + self.blank)]


class TellEpoch(TrainerCallback):
    """Tells the order which epoch begins; what libraries tell a sampler gets lost when batches are skipped to resume."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.order.epoch = int(state.epoch or 0)


class Work(TrainerCallback, ExportableState):
    """FLOPs of the first passes and padded tokens of all, kept in every checkpoint, so that a kill forgets neither.

    Counting sends a pass through other kernels, which round otherwise: the same passes are counted whether or not a run
    was killed, or its bytes would tell.
    """

    def __init__(self) -> None:
        self.flops, self.tokens, self.passes, self.seen = 0.0, 0, 0, 0

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": dict(vars(self))}

    @property
    def measured_flops(self) -> float | None:
        """By proportion over padded tokens, which are what the processor multiplies."""
        return self.flops * self.seen / self.tokens if self.tokens else None


class TellSteps(TrainerCallback):
    """Moves a bar with the optimizer's steps; in a study's worker, the share of its task with it."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.total = state.max_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.done = state.global_step
        share(state.global_step / max(1, state.max_steps))


class CountingTrainer(Trainer):
    """Trains on `order` with the loss of `weighting`, and counts the work."""

    def __init__(self, *args: Any, order: Order, weighting: Literal["tokens", "sequences"], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order, self.weighting = order, weighting
        for callback in (TellEpoch(order), Work(), StopOnNaN()):
            self.add_callback(callback)
        if weighting == "sequences" or not self.model_accepts_loss_kwargs:
            self.compute_loss_func = self._loss

    @property
    def work(self) -> Work:
        """The counts, which the Trainer makes anew from a checkpoint."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, Work))

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        padded, work = int(inputs["input_ids"].numel()), self.work
        work.seen += padded
        if work.passes >= SAMPLED_STEPS:
            return super().training_step(model, inputs, *args, **kwargs)
        work.passes += 1
        flops, loss = count_flops(lambda: super(CountingTrainer, self).training_step(model, inputs, *args, **kwargs))
        work.flops += flops
        work.tokens += padded
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """What a batch's loss is divided by: supervised tokens, or sequences that have one, over all processes."""
        if self.weighting == "tokens":
            return super()._get_num_items_in_batch(batch_samples, device)
        count = sum((b["labels"][:, 1:] != IGNORED).any(dim=1).sum() for b in batch_samples)
        return self.accelerator.gather(torch.as_tensor(count, device=device)).sum()

    def _loss(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        """Sum over a pass of token losses, or of sequences' mean losses, divided by the batch's number of them."""
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        targets = labels[:, 1:].to(logits.device)
        each = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        if self.weighting == "sequences":
            each = each.sum(dim=1) / (targets != IGNORED).sum(dim=1).clamp_min(1)
        return each.sum() / num_items_in_batch.to(each.device)


class StopOnNaN(TrainerCallback):
    """Ends a training whose numbers have left the finite ones."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in ("loss", "grad_norm", "train_loss"):  # the last is the mean of all steps, told at the end
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(float(value)):
                raise ValueError(
                    f"training step {state.global_step}: {name} is {value}; lower the learning rate "
                    f"({args.learning_rate:g}), or use precision bf16 or fp32 if it is fp16"
                )
