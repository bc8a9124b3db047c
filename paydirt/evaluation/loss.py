"""Loss of a model on examples: mean negative log-likelihood of the supervised tokens, in nats.

Batched by length, logits only where they are scored. An example's loss does not depend on its batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from paydirt.cost.measure import FlopMeter
from paydirt.data.batches import IGNORED, collate, length_bucketed
from paydirt.data.encoding import Encoded


@torch.no_grad()
def token_losses(
    model: Any,
    examples: Sequence[Encoded],
    pad_id: int,
    token_budget: int = 4096,
    meter: FlopMeter | None = None,
    window: int | None = None,
) -> list[np.ndarray]:
    """Negative log-likelihood [supervised tokens] in float32 of each example.

    Examples longer than `window` tokens are read in windows that overlap by one token, so that every token but the first
    is predicted exactly once.
    """
    if window is not None and any(len(e.ids) > window for e in examples):
        pieces = [_windows(e, window) for e in examples]
        flat = token_losses(model, [p for parts in pieces for p in parts], pad_id, token_budget, meter)
        edges = np.cumsum([0, *map(len, pieces)])
        return [np.concatenate(flat[a:b]) for a, b in itertools.pairwise(edges)]
    device = next(model.parameters()).device
    out: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(examples)
    for rows in length_bucketed([len(e.ids) for e in examples], token_budget):
        batch = collate([examples[i] for i in rows], pad_id)
        forward = lambda batch=batch: _supervised_nll(model, batch, device)  # noqa: E731
        losses, counts = meter.run(forward, batch.input_ids.numel()) if meter else forward()
        if not np.isfinite(losses).all():
            raise ValueError(
                f"the loss is {losses[~np.isfinite(losses)][0]}: the model's weights or precision are broken"
            )
        for row, part in zip(rows, np.split(losses, np.cumsum(counts)[:-1])):
            out[row] = part
    return out


def _windows(example: Encoded, size: int) -> list[Encoded]:
    """Pieces of at most `size` tokens; each begins with the last token of the one before, which is not scored again."""
    if len(example.ids) <= size:
        return [example]
    starts = range(0, len(example.ids) - 1, size - 1)
    return [Encoded(example.ids[at : at + size], example.supervised[at : at + size]) for at in starts]


def _supervised_nll(model: Any, batch: Any, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Losses of all supervised positions of a batch, row after row, and how many each row [B] has."""
    mask = torch.nn.functional.pad(batch.labels[:, 1:] != IGNORED, (0, 1))  # [B, T]: positions that predict one
    logits = _logits_at(model, batch.input_ids.to(device), batch.attention_mask.to(device), mask.to(device))
    targets = batch.labels[:, 1:][mask[:, :-1]].to(logits.device)
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return losses.cpu().numpy(), mask.sum(dim=1).numpy()


def _logits_at(model: Any, ids: torch.Tensor, attention: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The model's own logits [n, V] at `wanted` [B, T] positions, row after row.

    The other positions are left out in front of the output head, and the rest is the model's: Granite and Cohere scale
    their logits, Gemma squashes them, and a head that is called from outside knows nothing of it.
    """
    kept = False

    def select(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal kept
        hidden = args[0]
        if hidden.shape[:2] != wanted.shape:  # a head of another form sees everything
            return args
        kept = True
        return (hidden[wanted.to(hidden.device)].unsqueeze(0), *args[1:])

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(select) if head is not None else None
    try:
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits
    finally:
        if hook is not None:
            hook.remove()
    return logits[0] if kept else logits[wanted.to(logits.device)]


def mean_losses(losses: Sequence[np.ndarray]) -> np.ndarray:
    """Mean loss [N] of each example; NaN where an example has no supervised token."""
    return np.asarray([part.mean(dtype=np.float64) if len(part) else np.nan for part in losses])
