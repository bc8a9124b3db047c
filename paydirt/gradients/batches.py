"""Encoded examples in, right-padded batches out: length-bucketed, under a token budget.

An example's batch is decided by its shard alone (`plan_batches` looks at nothing but the lengths it is given), so a
shard that is computed again is computed in the same batches and gives the same bytes. Padding stands on the right:
under a causal mask no real token sees it, so it needs no attention mask and receives no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paydirt.data.batches import sent

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tokenised example: `input_ids` [T] and `labels` [T], -100 where the loss does not look."""

    id: str
    input_ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True)
class Batch:
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
    def of(cls, input_ids: Tensor, labels: Tensor, device: torch.device | str = "cpu") -> Batch:
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


def plan_batches(lengths: Sequence[int], token_budget: int, max_examples: int = 512) -> list[list[int]]:
    """Row numbers grouped into batches of similar length, longest first, each at most `token_budget` padded tokens.

    Longest first, so that a budget that does not fit memory fails at once. An example longer than the budget gets a
    batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[list[int]] = []
    for row in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and len(batches[-1]) < max_examples and longest * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def collate(examples: Sequence[Encoded], device: torch.device | str = "cpu", pad_id: int = 0, width: int = 0) -> Batch:
    """Pad `examples` on the right to the longest or to `width`, labels shifted one step to the left.

    Raises ValueError for an example whose ids and labels differ in length or that has no token to predict: its loss
    is undefined, and a silent 0 / 0 would make its score a lottery.
    """
    length = max(width, max((len(example.input_ids) for example in examples), default=0))
    input_ids = torch.full((len(examples), length), pad_id, dtype=torch.long)
    labels = torch.full((len(examples), length), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        n = len(example.input_ids)
        if len(example.labels) != n:
            raise ValueError(f"example {example.id!r}: {n} input ids but {len(example.labels)} labels")
        input_ids[row, :n] = torch.as_tensor(example.input_ids, dtype=torch.long)
        labels[row, : max(n - 1, 0)] = torch.as_tensor(example.labels, dtype=torch.long)[1:]
    batch = Batch.of(input_ids, labels, device)
    if 0 in batch.counts:
        empty = examples[batch.counts.index(0)]
        raise ValueError(
            f"example {empty.id!r} has no supervised token after the first; "
            "drop it, or raise the length limit that cut its answer off"
        )
    return batch
