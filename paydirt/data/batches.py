"""Batches of similar lengths under a token budget, padded on the right.

Which rows share a batch depends on their lengths and ids alone, never on worker or order of arrival, so that a resumed
or sharded run computes the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paydirt.data.encoding import Encoded

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label that torch's cross-entropy leaves out


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


def collate(examples: Sequence[Encoded], pad_id: int) -> Batch:
    """Pad a list of encoded examples to one batch."""
    import torch

    width = max(len(e.ids) for e in examples)
    ids = np.full((len(examples), width), pad_id, dtype=np.int64)
    attention = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = example.ids
        attention[row, :n] = 1
        labels[row, :n] = np.where(example.supervised, example.ids, IGNORED)
    return Batch(torch.from_numpy(ids), torch.from_numpy(attention), torch.from_numpy(labels))
