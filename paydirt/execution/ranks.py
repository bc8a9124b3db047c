"""One piece of work by several processes at once: the ranks of a torch process group, started by Ray Train.

Enters: a function of no arguments that pickles (paths travel, arrays don't) and what each rank shall have. Leaves: what
rank 0 returned. Every rank finds torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK ...) and a process group over gloo,
or NCCL where it has a GPU, so the work is the same that a launcher would start. Ray Train (2.60) ends all ranks when one
fails; whether they are started again is decided here: after a death they are, and a training goes on from its last saved
checkpoint, while errors of the work itself are raised as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from paydirt.core.progress import console, say
from paydirt.execution.crew import CARRIED, DEATHS, Share

R = TypeVar("R")
LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL")  # what ranks say when another one is gone


def run_ranks(work: Callable[[], R], share: Share, scratch: Path) -> R:
    """`work()` in `share.workers` processes; rank 0's result. `scratch`, on shared storage, is Ray Train's own and goes.

    Raises what the work raised; ValueError where ranks die again and again or cannot start.
    """
    from ray import train

    for death in range(1, DEATHS + 1):
        try:
            return _fit(work, share, scratch)
        except train.TrainingFailedError as error:
            reason = _reason(error)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if death < DEATHS:
            say(f"a process of {share.workers} was lost ({reason}); all of them begin again from what is saved")
    raise ValueError(
        f"the processes of one training were lost {DEATHS} times, the last time by {reason}; what is saved is kept: run "
        "it again when the cluster is whole, or with fewer --workers"
    )


def _fit(work: Callable[[], R], share: Share, scratch: Path) -> R:
    import ray
    from ray import train
    from ray.train.torch import TorchTrainer

    class Trainer(TorchTrainer):
        """Ctrl-C is ours: Ray's handler would stay after the run, and turns it into another error."""

        controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

    for name in ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_TRAIN_METRICS_ENABLED"):  # relative paths hold; nobody reads the other
        os.environ.setdefault(name, "0")
    resources = {"CPU": float(share.cpus)} | ({"GPU": 1.0} if share.gpu else {})
    carried = {name: os.environ[name] for name in CARRIED if name in os.environ}
    trainer = Trainer(
        _rank,
        train_loop_config={"work": work, "threads": max(1, share.cpus), "environment": carried},
        scaling_config=train.ScalingConfig(
            num_workers=share.workers, use_gpu=share.gpu, resources_per_worker=resources
        ),
        run_config=train.RunConfig(name="train", storage_path=str(scratch)),
    )
    try:
        result = trainer.fit()
    except BaseException:
        if trainer.controller is not None:
            ray.kill(trainer.controller)  # and its ranks with it
        raise
    return result.return_value


def _rank(settings: Mapping[str, Any]) -> Any:
    """On a rank, whose process group and variables are there."""
    os.environ.update(settings["environment"])
    os.environ["OMP_NUM_THREADS"] = str(settings["threads"])
    import torch

    torch.set_num_threads(settings["threads"])
    console.quiet = True
    return settings["work"]()


def _reason(error: Exception) -> str:
    """What was lost; raises what the work itself raised."""
    import torch

    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    for _, failure in sorted(failures.items()):
        rays = type(failure).__module__.startswith("ray.")
        gone = isinstance(failure, torch.distributed.DistError) or any(words in str(failure) for words in LOST)
        if not rays and not gone:
            raise failure from None
    cause = next(iter(failures.values()), getattr(error, "controller_failure", error))
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
