"""Adam's moments by parameter name, out of the state of an optimizer.

Enters: a state that Trainer (moments by parameter *index*) or FSDP (by *name*) left behind, and the model it belongs to;
`deepspeed` reads its own. Leaves: `Moments` keyed by clean names, every shape checked.
Files are read with `weights_only=True`: nothing that a file contains is ever executed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paydirt.gradients.directions import AdamSettings
from paydirt.gradients.per_example import clean_name, trainable

Shapes = Mapping[str, tuple[int, ...]]
_NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]  # as transformers' Trainer


@dataclass(frozen=True)
class Moments:
    """Adam's first and second moments by clean parameter name, with the optimizer's constants and step.

    `source` is a digest of the files that they were read from, "" where they come from memory.
    """

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    settings: AdamSettings
    source: str = ""

    def digest(self) -> str:
        """16 hex digits for what they are: of the files' bytes, else the tensors'; the same on any number of threads."""
        if self.source:
            return self.source
        found = hashlib.blake2b(digest_size=8)
        for name in sorted(self.first):
            for moment in (self.first[name], self.second[name]):
                found.update(f"{name} {tuple(moment.shape)} {moment.dtype}".encode())
                found.update(moment.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()

    def check(self, shapes: Shapes) -> None:
        """Raises ValueError, naming the parameter, unless every trainable parameter has moments of its own shape."""
        missing = [name for name in shapes if name not in self.first or name not in self.second]
        if missing:
            raise ValueError(
                f"no optimizer moments for {len(missing)} of {len(shapes)} trainable parameters, first {missing[0]!r}; "
                f"the file has {len(self.first)}, such as {sorted(self.first)[:3]}. "
                "Is this the optimizer of the same adapter?"
            )
        for name, shape in shapes.items():
            for moments in (self.first, self.second):
                if tuple(moments[name].shape) != tuple(shape):
                    raise ValueError(
                        f"optimizer moments of {name!r} have shape {tuple(moments[name].shape)}, the parameter {shape}; "
                        "the optimizer file belongs to another model, rank, or order of parameters"
                    )


def read(path: Path) -> Any:
    """torch.load without pickle's powers; ValueError with the remedy where a file wants them."""
    for mmap in (True, False):  # a file in the old, non-zip format cannot be mapped
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except Exception as error:
            if mmap and "mmap" in str(error):
                continue
            raise ValueError(
                f"{path}: refused to load, it holds more than tensors and plain values, or is damaged ({error})"
            ) from error
    raise AssertionError("unreachable")


def moments_from_state(state: Any, model: nn.Module, where: str = "optimizer state") -> Moments:
    """Resolve an optimizer `state_dict` by name (FSDP, named optimizers) or by index (Trainer), then check shapes."""
    if isinstance(state, dict) and "optimizer" in state and "state" not in state:
        state = state["optimizer"]
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        raise ValueError(f"{where}: not an optimizer state_dict; it needs the key 'state'")
    groups = state.get("param_groups", [])
    entries = state["state"]
    if all(isinstance(key, str) for key in entries):
        named = {clean_name(key): entry for key, entry in entries.items()}
    else:
        order = [name for group in groups for name in group.get("param_names", ())] or _trainer_order(
            model, groups, where
        )
        indices = [index for group in groups for index in group["params"]]
        named = {clean_name(name): entries[i] for i, name in zip(indices, order, strict=True) if i in entries}
    lacking = [name for name, entry in named.items() if "exp_avg" not in entry or "exp_avg_sq" not in entry]
    if lacking:
        raise ValueError(
            f"{where}: {lacking[0]!r} has {sorted(named[lacking[0]])}, no exp_avg and exp_avg_sq; only Adam's moments "
            "can be used (an 8-bit or factored optimizer has none): use direction 'sgd' or 'sign'"
        )
    settings = adam_settings(groups, next((entry.get("step") for entry in named.values()), 0))
    first = {name: entry["exp_avg"] for name, entry in named.items()}
    second = {name: entry["exp_avg_sq"] for name, entry in named.items()}
    moments = Moments(first, second, settings)
    moments.check({clean_name(name): tuple(p.shape) for name, p in trainable(model).items()})
    return moments


def adam_settings(groups: Sequence[Mapping[str, Any]], step: Any) -> AdamSettings:
    """Constants from the first parameter group; torch's defaults where the file does not say."""
    group = groups[0] if groups else {}
    beta1, beta2 = group.get("betas", (0.9, 0.999))
    return AdamSettings(float(beta1), float(beta2), float(group.get("eps", 1e-8)), int(step or 0))


def _trainer_order(model: nn.Module, groups: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    """Names in the order of the optimizer's indices: Trainer puts decayed parameters first, the others after."""
    from transformers.trainer_pt_utils import get_parameter_names

    names = list(trainable(model))
    decayed = set(get_parameter_names(model, [nn.LayerNorm], _NO_DECAY))
    split = [name for name in names if name in decayed] + [name for name in names if name not in decayed]
    counts = [len(group["params"]) for group in groups]
    if sum(counts) != len(names):
        raise ValueError(f"{where}: moments for {sum(counts)} parameters, but the model trains {len(names)}")
    return names if len(groups) == 1 else split
