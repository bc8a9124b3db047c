"""The device that a training computes on: one a process, the one it was told.

Enters: a device's name. Leaves: training arguments whose Trainer uses it and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from accelerate.utils import DistributedType
from transformers import TrainingArguments


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
