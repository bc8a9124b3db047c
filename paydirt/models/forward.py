"""Forward passes over encoded examples: losses of single tokens, and texts as their mean hidden state.

Enters: a model and examples. Leaves: one result an example, and the FLOPs [n] of each. Neither depends on who else is
read, in which order or in how many calls (see `fixed_shapes`): logits are computed for as many positions at a time
whatever the batch, and padding stands on the right, where no causal model sees it, so there is no mask to depend on.
An example is charged for its own tokens, at what a token of a row of its padded length takes, counted by torch on one
such row: what batches are like, and padding, show in seconds alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from paydirt.core.progress import advance
from paydirt.cost.measure import count_flops
from paydirt.data.batches import IGNORED, collate, fixed_shapes, sent
from paydirt.data.encoding import Encoded
from paydirt.models.waits import no_packed_rows

POSITIONS = 128  # logits computed at a time


class Pass:
    """What losses and hidden states share: the model, its batches and its count of FLOPs."""

    def __init__(self, model: Any, pad_id: int, token_budget: int = 4096) -> None:
        self.model, self.pad_id, self.token_budget = model, pad_id, token_budget
        self.device = next(model.parameters()).device
        self.most = int(getattr(model.config, "max_position_embeddings", 0) or 0) or None
        self._counted: dict[int, int] = {}
        self.spent = 0  # FLOPs of all that ran: padding, rows that fill up and the counting itself included

    def row_flops(self, width: int, length: int) -> int:
        """FLOPs of `length` tokens in a row padded to `width`, without logits."""
        if width not in self._counted:
            ids = torch.full((1, width), self.pad_id, dtype=torch.long, device=self.device)
            self._counted[width] = int(count_flops(lambda: self._one(ids))[0])
            self.spent += self._counted[width]
        return self._counted[width] * length // width

    def _one(self, ids: torch.Tensor) -> Any:
        raise NotImplementedError


class HiddenMeans(Pass):
    """Unit vectors [n, hidden] in float32: last hidden states, position t weighted by t."""

    @torch.no_grad()
    @no_packed_rows()
    def __call__(self, examples: Sequence[Encoded]) -> tuple[np.ndarray, np.ndarray]:
        found: list[tuple[np.ndarray, torch.Tensor]] = []
        flops = np.zeros(len(examples), dtype=np.int64)
        for shape in fixed_shapes([len(e.ids) for e in examples], self.token_budget, self.most):
            batch = collate([examples[i] for i in shape.filled], self.pad_id, shape.width)
            mask = sent(batch.attention_mask, self.device)
            hidden = self._one(sent(batch.input_ids, self.device)).float()
            weight = mask * torch.arange(1, mask.shape[1] + 1, device=self.device)
            mean = (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
            found.append((shape.rows, functional.normalize(mean, dim=1)))
            for row in shape.rows:
                flops[row] = self.row_flops(shape.width, len(examples[row].ids))
            advance(len(shape.rows))
        out = np.empty((len(examples), found[0][1].shape[1]), dtype=np.float32)
        for rows, vectors in found:  # when all of them are on their way: a device is not waited for batch by batch
            out[rows] = vectors[: len(rows)].cpu().numpy()
        return out, flops

    @torch.no_grad()
    def _one(self, ids: torch.Tensor) -> Any:
        return self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state


class TokenLosses(Pass):
    """Negative log-likelihood of every supervised token, in nats.

    Examples longer than the model's positions are read in windows that overlap by one token, so that every token but the
    first is predicted exactly once. ValueError where a loss is not finite.
    """

    def __init__(self, model: Any, pad_id: int, token_budget: int = 4096, window: int | None = None) -> None:
        super().__init__(model, pad_id, token_budget)
        self.window = window
        self._head: int | None = None

    @torch.no_grad()
    @no_packed_rows()
    def __call__(self, examples: Sequence[Encoded]) -> tuple[list[np.ndarray], np.ndarray]:
        """Losses [supervised tokens] in float32 of each example, and FLOPs int64 [n]; an example without one costs none."""
        pieces = [windows(e, self.window) if e.n_supervised else [] for e in examples]
        flat = [piece for parts in pieces for piece in parts]
        losses: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(flat)
        asked: list[tuple[np.ndarray, torch.Tensor, np.ndarray]] = []
        flops = np.zeros(len(flat), dtype=np.int64)
        for shape in fixed_shapes([len(e.ids) for e in flat], self.token_budget, self.most):
            batch = collate([flat[i] for i in shape.filled], self.pad_id, shape.width)
            batch.labels[len(shape.rows) :] = IGNORED  # nothing is asked of rows that fill up
            found, counts = self._supervised(batch)
            asked.append((shape.rows, found, counts))
            for row, count in zip(shape.rows, counts):
                flops[row] = self.row_flops(shape.width, len(flat[row].ids)) + self.logit_flops * int(count)
            advance(len(shape.rows) * len(examples) / len(flat))
            self.spent += self._counted[shape.width] * len(shape.filled)
            self.spent += self.logit_flops * (len(found) + -len(found) % POSITIONS)
        for rows, on_device, counts in asked:  # when all of them are on their way
            values = on_device.cpu().numpy()
            if not np.isfinite(values).all():
                raise ValueError(
                    f"the loss is {values[~np.isfinite(values)][0]}: the model's weights or precision are broken"
                )
            for row, part in zip(rows, np.split(values, np.cumsum(counts)[:-1])):
                losses[row] = part
        edges = np.cumsum([0, *map(len, pieces)])
        nothing = np.zeros(0, dtype=np.float32)
        joined = [np.concatenate([nothing, *losses[a:b]]) for a, b in itertools.pairwise(edges)]
        return joined, np.asarray([flops[a:b].sum() for a, b in itertools.pairwise(edges)], dtype=np.int64)

    @property
    def logit_flops(self) -> int:
        """FLOPs of one position's logits."""
        if self._head is None:
            head = self.model.get_output_embeddings()
            if head is None:
                self._head = 0
            else:
                one = torch.zeros(1, 1, head.weight.shape[-1], dtype=head.weight.dtype, device=head.weight.device)
                self._head = int(count_flops(lambda: head(one))[0])
        return self._head

    def _supervised(self, batch: Any) -> tuple[torch.Tensor, np.ndarray]:
        """Losses of all supervised positions of a batch, row after row, on the device, and how many each row [B] has."""
        mask = functional.pad(batch.labels[:, 1:] != IGNORED, (0, 1))  # [B, T]: positions that predict one
        places = mask.flatten().nonzero()[:, 0]
        logits = self._logits(sent(batch.input_ids, self.device), sent(places, self.device))
        targets = sent(batch.labels[:, 1:][mask[:, :-1]], logits.device)
        return functional.cross_entropy(logits.float(), targets, reduction="none"), mask.sum(dim=1).numpy()

    def _logits(self, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The model's own logits [n, V] at the `wanted` positions b T + t [n], in that order.

        The other positions are left out in front of the output head, and the rest is the model's: Granite and Cohere
        scale their logits, Gemma squashes them, and a head that is called from outside knows nothing of it.
        """
        with _head_at(self.model.get_output_embeddings(), ids.shape, wanted) as seen:
            logits = self.model(input_ids=ids, use_cache=False).logits
        if not seen:
            self._head = 0  # it is counted with the row
        return logits[0] if seen else logits.flatten(0, 1).index_select(0, wanted.to(logits.device))

    @torch.no_grad()
    def _one(self, ids: torch.Tensor) -> Any:
        return self._logits(ids, ids.new_empty(0))


@contextmanager
def _head_at(head: Any, shape: torch.Size, wanted: torch.Tensor) -> Iterator[list[bool]]:
    """Let an output head see `wanted` positions of [B, T] alone, `POSITIONS` at a time; yields a list that is empty if it
    did not."""
    seen: list[bool] = []
    if head is None:
        yield seen
        return
    whole, own = head.forward, "forward" in head.__dict__

    def some(hidden: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        if hidden.shape[:2] != shape:  # a head of another form sees everything
            return whole(hidden, *rest, **more)
        seen.append(True)
        chosen = hidden.flatten(0, 1).index_select(0, wanted.to(hidden.device))
        padded = functional.pad(chosen, (0, 0, 0, -len(chosen) % POSITIONS))
        parts = [whole(part[None], *rest, **more) for part in padded.split(POSITIONS)] if len(padded) else []
        return torch.cat(parts, dim=1)[:, : len(chosen)] if parts else whole(padded[None], *rest, **more)

    head.forward = some
    try:
        yield seen
    finally:
        if own:
            head.forward = whole
        else:
            del head.forward


def windows(example: Encoded, size: int | None) -> list[Encoded]:
    """Pieces of at most `size` tokens; each begins with the last token of the one before, which is not scored again.

    A piece without a supervised token is left out.
    """
    if size is None or len(example.ids) <= size:
        return [example]
    starts = range(0, len(example.ids) - 1, size - 1)
    pieces = [Encoded(example.ids[at : at + size], example.supervised[at : at + size]) for at in starts]
    return [piece for piece in pieces if piece.supervised[1:].any()]
