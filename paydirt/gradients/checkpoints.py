"""Checkpoints of a training: the moments that Trainer, FSDP or DeepSpeed left in one, and the weights of several.

Enters: checkpoint directories and the model they belong to. Leaves: `Moments` checked against the model, a digest of the
files that they were read from, and eta_i of each checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from paydirt.core.artifacts import fingerprint
from paydirt.gradients import deepspeed
from paydirt.gradients.moments import Moments, moments_from_state, read
from paydirt.models.identity import remembered_digest


def load_moments(checkpoint: str | Path, model: nn.Module) -> Moments:
    """Moments from a checkpoint directory (or an optimizer file in it) for `model`'s trainable parameters.

    Raises ValueError where nothing usable is found, or where names, counts or shapes do not fit.
    """
    files = _files(checkpoint)
    if deepspeed.is_checkpoint(Path(checkpoint)) and files == deepspeed.files(Path(checkpoint)):
        return replace(deepspeed.load(Path(checkpoint), model), source=source_of(checkpoint))
    return replace(moments_from_state(read(files[0]), model, str(files[0])), source=source_of(checkpoint))


def source_of(checkpoint: str | Path) -> str:
    """Digest of the optimizer files that `load_moments` reads."""
    return fingerprint([remembered_digest(file) for file in _files(checkpoint)])


def _files(checkpoint: str | Path) -> Sequence[Path]:
    """The optimizer files of a checkpoint directory (or the one that is named); ValueError where there are none."""
    path = Path(checkpoint)
    if path.is_dir():
        files = [path / name for name in ("optimizer.pt", "optimizer.bin") if (path / name).exists()]
        if not files and deepspeed.is_checkpoint(path):
            return deepspeed.files(path)
        if not files:
            raise ValueError(
                f"{path}: no optimizer.pt, optimizer.bin (FSDP, full state) or DeepSpeed state; has "
                f"{sorted(p.name for p in path.iterdir())}. Sharded FSDP state: convert it with "
                "torch.distributed.checkpoint.format_utils.dcp_to_torch_save; or save with save_only_model=False"
            )
        return files[:1]
    return [path]


def checkpoint_weights(checkpoints: Sequence[str | Path]) -> list[float]:
    """eta_i: mean learning rate of the epoch that ended in each checkpoint, normalised to sum 1.

    Read from each checkpoint's `trainer_state.json`: the log entries after the previous checkpoint's step up to its
    own. Raises ValueError where a file is missing or says nothing about its epoch.
    """
    means: list[float] = []
    previous = 0
    for directory in map(Path, checkpoints):
        path = directory / "trainer_state.json"
        if not path.exists():
            raise ValueError(f"{path} is missing; checkpoint weights are read from it, never assumed")
        state = json.loads(path.read_text(encoding="utf-8"))
        last = int(state["global_step"])
        logged = [entry for entry in state["log_history"] if "learning_rate" in entry]
        rates = [float(entry["learning_rate"]) for entry in logged if previous < int(entry["step"]) <= last]
        if not rates or not all(math.isfinite(rate) for rate in rates):
            raise ValueError(
                f"{path}: no finite learning rate logged for steps {previous + 1} to {last}; train with "
                "logging_steps small enough to log each epoch, and pass the checkpoints in the order of their steps"
            )
        means.append(sum(rates) / len(rates))
        previous = last
    if sum(means) <= 0:
        raise ValueError(f"checkpoint learning rates {means} do not sum to a positive number")
    return [value / sum(means) for value in means]
