"""Which process of a distributed run this is, and which device it computes on.

Enters: the environment that torchrun or accelerate's launcher sets, and a device's name. Leaves: ranks and one device a
process. Only training is shared out by a launcher; whatever else tunes or scores runs in one process and says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate.utils import DistributedType
from transformers import TrainingArguments


def world_size() -> int:
    """Processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among all; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


@dataclass
class OneDevice(TrainingArguments):
    """Arguments that keep the Trainer on the device it was told.

    By itself it takes the first GPU, and without a launcher wraps all of them in DataParallel, which multiplies the
    batch and so trains another model.
    """

    place: str = "cpu"

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        if self.distributed_state is None or self.distributed_state.distributed_type != DistributedType.NO:
            return device  # LOCAL_RANK's
        wanted = torch.device(self.place)
        if wanted.type == "cuda":
            wanted = torch.device("cuda", wanted.index or 0)
            torch.cuda.set_device(wanted)
            self._n_gpu = 1
        self.distributed_state.device = wanted  # what accelerate moves models and batches to
        return wanted


def refuse_launcher(what: str) -> None:
    """Raises ValueError under a launcher: `what` runs in one process, and the others would wait for it for ever."""
    if world_size() > 1:
        raise ValueError(
            f"{what} runs in one process, but a launcher started {world_size()} (WORLD_SIZE); run it without torchrun or "
            "accelerate launch, and give the finished data to `paydirt train` under the launcher"
        )
