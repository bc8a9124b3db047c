"""The trained weights of the best look at the references, kept until the training ends, however it ends.

Enters: a trainer, and the steps that were the best so far. Leaves: the weights of the last of them, in the model that is
saved. Only what trains is written, to `part/best/STEP`: a file for each rank that holds shards, one where every rank holds
all. The step that the last checkpoint names stays beside a later one, so that a killed run finds what its checkpoint means.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from paydirt.gradients.per_example import trainable
from paydirt.training.launcher import rank

if TYPE_CHECKING:
    from transformers import Trainer


class Best:
    """Weights by the step that they are of; `held` is the step that the last checkpoint may ask for."""

    def __init__(self, trainer: Trainer, part: Path) -> None:
        self.trainer, self.folder, self.held = trainer, part / "best", 0

    def keep(self, step: int) -> None:
        """Write the weights as they are now; those of other steps go, but for `held`. ValueError under ZeRO-3."""
        if self._writes:
            place = self._place(step)
            place.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: value.cpu().contiguous() for name, value in self._weights().items()}, place)
        if rank() == 0:
            for old in self.folder.glob("*"):
                if old.name not in (str(step), str(self.held)):
                    shutil.rmtree(old, ignore_errors=True)

    def restore(self, step: int) -> None:
        """Put the weights of `step` back into the model, on every rank that wrote some, and remove what was kept.

        Step 0 is none: no loss was a number, and the model stays as it is.
        """
        if self._writes and step not in (0, self.trainer.state.global_step):
            kept = load_file(self._place(step))
            with torch.no_grad():
                for name, value in self._weights().items():
                    value.copy_(kept[name])
        self.trainer.accelerator.wait_for_everyone()
        if rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _writes(self) -> bool:
        """Rank 0 saves a model that every rank holds; shards are every rank's own."""
        return rank() == 0 or self.trainer.is_fsdp_enabled

    def _place(self, step: int) -> Path:
        return self.folder / str(step) / f"rank-{rank()}.safetensors"

    def _weights(self) -> dict[str, torch.Tensor]:
        """What this rank holds of each parameter that trains, by name; writing to it changes the model."""
        held: dict[str, Any] = {name: p.detach() for name, p in trainable(self.trainer.model).items()}
        if any(hasattr(p, "ds_id") for p in trainable(self.trainer.model).values()):
            raise ValueError(
                "early_stop keeps the best weights, and DeepSpeed's ZeRO-3 hides them; take FSDP, or ZeRO-2"
            )
        return {name: p.to_local() if hasattr(p, "to_local") else p for name, p in held.items()}
