"""Pre-training of small models on the spot, so that tests, examples and benchmarks need no download.

Enters: documents, a tokenizer, a causal language model with fresh weights. Leaves: the model, trained. Everything is
counted in steps, never in seconds. Summing order depends on the number of threads; whoever wants the same bytes
everywhere runs in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@dataclass(frozen=True)
class Schedule:
    """AdamW over `steps` batches of `batch` rows of `length` tokens: a linear rise over `warmup` steps, linear decay."""

    steps: int = 800
    batch: int = 16
    length: int = 256
    learning_rate: float = 2e-3
    warmup: int = 40
    beta2: float = 0.98

    @property
    def tokens(self) -> int:
        """Tokens read in all."""
        return self.steps * self.batch * self.length


def pack(documents: Sequence[str], tokenizer: Any, schedule: Schedule) -> torch.Tensor:
    """Documents as `<s> text </s>` one after another, cut into rows: int64 [steps * batch, length].

    They are read in order and again from the front when they run out.
    """
    stream: list[int] = []
    encoded = tokenizer(list(documents), add_special_tokens=False)["input_ids"]
    while len(stream) < schedule.tokens:
        for ids in encoded:
            stream += [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor(stream[: schedule.tokens]).view(schedule.steps * schedule.batch, schedule.length)


def pretrain(model: Any, rows: torch.Tensor, schedule: Schedule, progress: bool = True) -> float:
    """Train `model` in place on `rows` [steps * batch, length]; returns the mean loss in nats of the last tenth."""
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=schedule.learning_rate,
        betas=(0.9, schedule.beta2),
        weight_decay=0.01,
        foreach=True,
    )

    def rate(step: int) -> float:
        if step < schedule.warmup:
            return (step + 1) / schedule.warmup
        return max(0.02, (schedule.steps - step) / max(1, schedule.steps - schedule.warmup))

    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    losses = []
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("pre-training the base model", total=schedule.steps, loss=float("nan"))
        for batch in rows.split(schedule.batch):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
            bar.update(task, advance=1, loss=losses[-1])
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
