"""Adam moments out of DeepSpeed checkpoints: universal (by name), ZeRO 1 and 2, ZeRO 3 (flat partitions).

Partition layouts as DeepSpeed's own `zero_to_fp32.py` reads them: stages 1 and 2 concatenate the ranks' flat buffers
per parameter group and cut them in the order of `param_shapes`; stage 3 gives every rank ceil(numel / ranks) entries
of every parameter. DeepSpeed's files name a few of its classes; inert stand-ins take their place while loading.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paydirt.gradients.moments import Moments, adam_settings, read
from paydirt.gradients.per_example import clean_name, trainable

_KEYS = ("exp_avg", "exp_avg_sq")


class _Inert:
    """Takes the place of DeepSpeed's classes: accepts anything, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __int__(self) -> int:
        return int(self.args[0])


_STAND_INS: list[Any] = [
    (_Inert, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    (_Inert, "deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    (_Inert, "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    (_Inert, "deepspeed.utils.tensor_fragment.fragment_address"),
]


def is_checkpoint(path: Path) -> bool:
    """Whether a directory, or the newest `global_step*` in it, holds DeepSpeed optimizer state."""
    root = _step_directory(path)
    return (root / "zero").is_dir() or any(root.glob("*optim_states.pt"))


def load(path: Path, model: nn.Module) -> Moments:
    """Moments of `model`'s trainable parameters; raises ValueError with the remedy for layouts it does not know."""
    root = _step_directory(path)
    moments = _universal(root / "zero") if (root / "zero").is_dir() else _zero(root)
    moments.check({clean_name(name): tuple(p.shape) for name, p in trainable(model).items()})
    return moments


def files(path: Path) -> list[Path]:
    """The files that `load` reads, in order of name."""
    root = _step_directory(path)
    if (root / "zero").is_dir():
        return sorted((root / "zero").rglob("*.pt"))
    return sorted([*root.glob("*optim_states.pt"), *root.glob("*model_states.pt")])


def _step_directory(path: Path) -> Path:
    latest = path / "latest"
    if latest.exists():
        return path / Path(latest.read_text(encoding="utf-8").strip()).name
    steps = [p for p in path.glob("global_step*") if p.is_dir()]
    return max(steps, key=lambda p: int((re.findall(r"\d+", p.name) or ["0"])[0]), default=path)


def _universal(zero: Path) -> Moments:
    """`zero/<parameter name>/exp_avg.pt`, what `ds_to_universal` writes."""
    found: dict[str, dict[str, Tensor]] = {key: {} for key in _KEYS}
    step: Any = 0
    for directory in sorted(p for p in zero.iterdir() if (p / "exp_avg.pt").exists()):
        for key in _KEYS:
            value = read(directory / f"{key}.pt")
            found[key][clean_name(directory.name)] = value["param"] if isinstance(value, dict) else value
        if (directory / "step.pt").exists():
            step = read(directory / "step.pt")
    return Moments(found["exp_avg"], found["exp_avg_sq"], adam_settings([], step))


def _zero(root: Path) -> Moments:
    with torch.serialization.safe_globals(_STAND_INS):
        files = sorted(root.glob("*optim_states.pt"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)])
        ranks = [read(file)["optimizer_state_dict"] for file in files]
        models = sorted(root.glob("*model_states.pt"))
        if not models:
            raise ValueError(f"{root}: no *model_states.pt, which holds the parameters' names")
        shapes = read(models[0])["param_shapes"]
    groups = shapes if isinstance(shapes, list) else [shapes]
    stage = int(ranks[0].get("zero_stage", 0))
    if stage not in (1, 2, 3):
        raise ValueError(f"{root}: ZeRO stage {stage} is not known; convert with deepspeed.checkpoint.ds_to_universal")
    count = ranks[0].get("partition_count", len(ranks))
    expected = max(count) if isinstance(count, list) else int(count)
    if expected != len(ranks):
        raise ValueError(f"{root}: the optimizer was cut into {expected} partitions, {len(ranks)} files are here")
    base = [_base_state(rank, stage) for rank in ranks]
    found = {key: _cut([_flat(b, key) for b in base], groups, stage, str(root)) for key in _KEYS}
    step = base[0]["state"][0].get("step", 0)
    return Moments(found["exp_avg"], found["exp_avg_sq"], adam_settings(base[0].get("param_groups", []), step))


def _base_state(rank: dict[str, Any], stage: int) -> dict[str, Any]:
    """The wrapped Adam's own state_dict (an elastic checkpoint has only its groups' states, as a list)."""
    state = rank["optimizer_state_dict"] if stage == 3 else rank["base_optimizer_state"]
    return {"state": dict(enumerate(state))} if isinstance(state, list) else state


def _flat(base: dict[str, Any], key: str) -> list[Tensor]:
    """One flat buffer per parameter group."""
    return [base["state"][index][key].flatten() for index in sorted(base["state"])]


def _cut(ranks: list[list[Tensor]], groups: list[dict[str, Any]], stage: int, where: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if stage == 3:  # all groups lie one after another in each rank's buffers
        ranks, groups = [[torch.cat(rank)] for rank in ranks], [{n: s for group in groups for n, s in group.items()}]
    for number, shapes in enumerate(groups):
        parts = [rank[number] for rank in ranks]
        whole = torch.cat(parts) if stage < 3 else None
        position = 0
        for name, shape in shapes.items():
            size = math.prod(shape)
            share = size if whole is not None else -(-size // len(parts))
            source = [whole] if whole is not None else parts
            values = torch.cat([flat[position : position + share] for flat in source])[:size]
            if values.numel() != size:
                raise ValueError(f"{where}: the flat buffers end inside {name!r}; is a rank's file missing?")
            found[clean_name(name)] = values.view(tuple(shape))
            position += share
    return found
