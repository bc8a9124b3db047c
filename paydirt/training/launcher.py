"""Which process of a distributed run this is, and what a launcher may start.

Enters: the environment that torchrun and accelerate's launcher set. Only training is shared out between processes:
whatever else tunes or scores runs in one, and refuses to be started in several at once, where one would do the work,
the others' GPUs stand idle, and a Trainer inside would wait for ranks that wait for its lock.
"""

from __future__ import annotations

import os


def world_size() -> int:
    """Processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Number of this process among all; 0 without a launcher."""
    return int(os.environ.get("RANK") or 0)


def refuse_launcher(what: str) -> None:
    """Raises ValueError where a launcher started several processes to do `what`."""
    if world_size() > 1:
        raise ValueError(
            f"{what} runs in one process, but a launcher started {world_size()} (WORLD_SIZE); run it without torchrun or "
            "accelerate launch. `paydirt train`, and `paydirt run` of a train stage's config.yaml, take a launcher"
        )
