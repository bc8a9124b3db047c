"""What an executor does: fill columns and map independent tasks, anywhere.

Enters: a column and units of it that are missing, or a function and its tasks. Leaves: files in the column's folder, or
results in task order. Only specs, paths and numbers travel; workers read and write the shared storage themselves, so a
result depends neither on who did which unit nor on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from paydirt.columns import PoolColumn, Unit

A = TypeVar("A")
R = TypeVar("R")


class Executor(Protocol):
    """Small and picklable itself: a job carries it.

    For another machine, `column.spec`, `column.shared` and `column.shard_rows` make the same `PoolColumn`;
    `spec.placed(device)` puts it on a device; `column.do(unit)` computes a unit, or says False where another process is
    at it. A unit that is done twice is harmless.
    """

    def fill(self, column: PoolColumn, units: Sequence[Unit]) -> None:
        """Do all `units` (see `PoolColumn.plan`), in any order. A ValueError of a worker is raised as on one machine."""
        ...

    def map(self, work: Callable[[A], R], tasks: Iterable[A], title: str) -> list[R]:
        """`work(task)` of every task, in task order; `work`, tasks and results must pickle."""
        ...

    def together(self, work: Callable[[], R], device: str, *places: Path, inputs: Sequence[str] = ()) -> R:
        """`work()` as one piece shared out between processes that know of each other, as torchrun's do; rank 0's result.

        `work` must pickle; `device` is where it computes, `places` what it writes to, `inputs` what it reads.
        """
        ...

    def check(self, *places: Path) -> None:
        """ValueError unless every machine that will work is there and sees these folders."""
        ...
