"""Execution: where work runs. Stages know an `Executor`, and nothing of what stands behind it."""

from __future__ import annotations

from paydirt.execution.base import Executor
from paydirt.execution.local import Local, local
from paydirt.execution.ray import Ray, ray_executor

__all__ = ["Executor", "Local", "Ray", "executor"]


def executor(
    name: str = "local", address: str | None = None, workers: int | None = None, gpus: str | None = None
) -> Executor:
    """What `--execution`, `--address`, `--workers` and `--gpus`, or the keys of a recipe, ask for; ValueError where they
    do not go together."""
    if name == "ray":
        return ray_executor(address, workers, gpus)
    if name != "local":
        raise ValueError(f"--execution {name}: give local or ray")
    if address is not None:
        raise ValueError(f"--address {address} is a Ray cluster's: add --execution ray")
    return local(workers, gpus)
