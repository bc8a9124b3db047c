"""What gradients are taken of: a padded batch whose labels are shifted, and what the host must know of it beforehand.

Padding stands on the right: under a causal mask no real token sees it, so it needs no attention mask and receives no
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paydirt.data.batches import IGNORED, collate, sent
from paydirt.data.encoding import Encoded


@dataclass(frozen=True, slots=True)
class GradientBatch:
    """`input_ids`, `labels` [B, T] and `supervised` [B], the number of scored tokens of each example (all above 0).

    `labels[:, t]` is already shifted: it is the token that position t must predict. `counts` are the numbers in
    `supervised` as the host knows them, `places` [n] the scored positions b T + t in order: nothing has to wait for a
    device to say them.
    """

    input_ids: Tensor
    labels: Tensor
    supervised: Tensor
    counts: tuple[int, ...]
    places: Tensor

    @classmethod
    def of(cls, input_ids: Tensor, labels: Tensor, device: torch.device | str = "cpu") -> GradientBatch:
        """A batch of tensors that lie on the host, sent to `device`."""
        scored = labels != IGNORED
        supervised, places = scored.sum(1), scored.flatten().nonzero()[:, 0]
        counts = tuple(supervised.tolist())
        ids, targets, numbers = (sent(t, device) for t in (input_ids, labels, supervised))
        return cls(ids, targets, numbers, counts, sent(places, device))

    @property
    def size(self) -> int:
        return self.input_ids.shape[0]

    @property
    def length(self) -> int:
        return self.input_ids.shape[1]


def gradient_batch(
    examples: Sequence[Encoded], device: torch.device | str = "cpu", pad_id: int = 0, width: int = 0
) -> GradientBatch:
    """Pad `examples` on the right to the longest or to `width`, labels shifted one step to the left.

    Raises ValueError for an example that has no token to predict: its loss is undefined, and a silent 0 / 0 would make
    its score a lottery.
    """
    padded = collate(examples, pad_id, width)
    labels = torch.full_like(padded.labels, IGNORED)
    labels[:, :-1] = padded.labels[:, 1:]
    batch = GradientBatch.of(padded.input_ids, labels, device)
    if 0 in batch.counts:
        raise ValueError(
            f"example {batch.counts.index(0)} of a batch has no supervised token after the first; "
            "drop it, or raise the length limit that cut its answer off"
        )
    return batch
