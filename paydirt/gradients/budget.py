"""How many padded tokens a batch may hold: measured on a GPU, the cache's size on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from paydirt.gradients.batches import Batch
from paydirt.gradients.per_example import PerExample, UsedTwice, trainable

CPU_BUDGET = 2048
"""Tokens: on CPUs larger batches gain nothing and leave the cache (measured: 1024 to 2048 is the flat optimum)."""


def fit_token_budget(model: nn.Module, longest: int, share: float = 0.8, most: int = 1 << 17) -> int:
    """The token budget B x T whose passes stay within `share` of the free memory of the model's device.

    On CUDA, random batches of `longest` tokens a row are run, doubling, until the next would not fit. Raises
    ValueError if not even one example fits. Keep the result: another budget gives other bytes (see `pool`).
    """
    device = next(iter(trainable(model).values())).device
    if device.type != "cuda":
        return max(CPU_BUDGET, longest)
    room = share * torch.cuda.mem_get_info(device)[0]
    held = torch.cuda.memory_allocated(device)
    rows = 1
    with PerExample(model) as runner:
        while True:
            try:
                used = _peak(runner, rows, longest, device) - held
            except torch.cuda.OutOfMemoryError:
                used = int(2 * room) + 1
            if used > room:
                if rows == 1:
                    raise ValueError(
                        f"one example of {longest} tokens needs more than {share:.0%} of the free GPU memory; "
                        "enable gradient checkpointing, load the base in 8 or 4 bits, or lower the length limit"
                    )
                return rows // 2 * longest
            if 2 * used > room or 2 * rows * longest > most:
                return rows * longest
            rows *= 2


def _peak(runner: PerExample, rows: int, length: int, device: torch.device) -> int:
    """Bytes at the height of one pass over random tokens, every one supervised: the worst case."""
    vocabulary = runner.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    ids = torch.randint(0, vocabulary, (rows, length), device=device)
    batch = Batch(ids, ids.clone(), torch.full((rows,), length, device=device))
    torch.cuda.reset_peak_memory_stats(device)
    try:
        runner.run(batch, lambda name, lo, hi, gradient: None)
    except UsedTwice as error:
        runner.hold_back(error)
        runner.run(batch, lambda name, lo, hi, gradient: None)
    return torch.cuda.max_memory_allocated(device)
