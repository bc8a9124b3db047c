"""Execution: where work runs. Stages know an `Executor`, and nothing of what stands behind it."""

from paydirt.execution.base import Executor
from paydirt.execution.local import Local

__all__ = ["Executor", "Local"]
