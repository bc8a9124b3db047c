"""Batches of similar lengths under a token budget, padded on the right.

A kernel may sum in another order when a batch has another shape, so a result could tell in its last bits who shared the
batch. `fixed_shapes` rules that out: a row's length alone decides the shape of its batch, and within one shape neither
neighbours nor place enter a row's result. The same row gives the same bytes in any shard, order or resumed run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paydirt.data.encoding import Encoded

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that torch's cross-entropy leaves out
MOST_ROWS = 64  # of a batch: what short rows fill up for their last batch stays small


class Batch(NamedTuple):
    """Right-padded int64 tensors [B, T]; labels are `IGNORED` where not supervised."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def length_bucketed(lengths: Sequence[int] | np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Row numbers in groups whose padded size (longest x count) stays within `token_budget` tokens.

    Longest first, so that memory trouble shows at once. A row longer than the budget gets a batch of its own.
    """
    lengths = np.asarray(lengths)
    order = np.lexsort((np.arange(len(lengths)), -lengths))
    groups: list[np.ndarray] = []
    start = 0
    while start < len(order):
        size = max(1, token_budget // max(1, int(lengths[order[start]])))
        groups.append(order[start : start + size])
        start += size
    return groups


def sent(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A host's tensor on `device`, without waiting for the copy: from pinned memory where CUDA is there."""
    import torch

    if torch.device(device).type == "cpu":
        return tensor
    return (tensor.pin_memory() if torch.cuda.is_available() else tensor).to(device, non_blocking=True)


class Shape(NamedTuple):
    """`rows` share a batch that is padded to `width` tokens and filled up to `size` rows."""

    rows: np.ndarray
    width: int
    size: int

    @property
    def filled(self) -> np.ndarray:
        """`rows`, repeated from the first on until the batch is full."""
        return np.resize(self.rows, self.size)


def fixed_shapes(lengths: Sequence[int] | np.ndarray, token_budget: int, most: int | None = None) -> list[Shape]:
    """Batches [size, width] whose shape is decided by the width alone, and the width by a row's length; longest first.

    Widths are eight to an octave (multiples of 8), at most `most`, what the model can read.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    widths = np.asarray([width_of(int(n), most) for n in lengths], dtype=np.int64)
    shapes = []
    for width in np.unique(widths)[::-1].tolist():
        size = int(np.clip(token_budget // width, 1, MOST_ROWS))
        inside = np.flatnonzero(widths == width)
        shapes += [Shape(inside[at : at + size], width, size) for at in range(0, len(inside), size)]
    return shapes


def width_of(length: int, most: int | None = None) -> int:
    """Padded length of a row of `length` tokens: at most an eighth more, or 7."""
    step = max(8, 1 << max(0, (length - 1).bit_length() - 4))
    width = max(8, -(-length // step) * step)
    return max(length, min(width, most)) if most else width


def collate(examples: Sequence[Encoded], pad_id: int, width: int = 0) -> Batch:
    """Pad a list of encoded examples to one batch, as wide as the longest or `width`."""
    import torch

    width = max(width, *(len(e.ids) for e in examples))
    ids = np.full((len(examples), width), pad_id, dtype=np.int64)
    attention = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = example.ids
        attention[row, :n] = 1
        labels[row, :n] = np.where(example.supervised, example.ids, IGNORED)
    return Batch(torch.from_numpy(ids), torch.from_numpy(attention), torch.from_numpy(labels))
