"""Work for executors that a test can watch: slow, refusing, freezing or deadly, and otherwise the real thing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paydirt.columns import Block
from paydirt.columns.losses import Losses


class SlowLosses(Losses):
    """Losses that take `pause` seconds more a unit; row `refused` is an error, row `frozen` stops its process once."""

    name: ClassVar[str] = "slow_losses"
    places: ClassVar[frozenset[str]] = frozenset({"model", "pause", "refused", "frozen", "notes"})

    pause: float = 0.0
    refused: int = -1
    frozen: int = -1
    notes: str = ""

    def open(self, folder: Path) -> Any:
        worker = super().open(folder)
        return _Slow(self, worker)


class _Slow:
    def __init__(self, spec: SlowLosses, worker: Any) -> None:
        self.spec, self.worker, self.device = spec, worker, worker.device

    def __call__(self, rows: np.ndarray) -> Block:
        time.sleep(self.spec.pause)
        if self.spec.refused in rows:
            note(self.spec.notes)
            raise ValueError(f"row {self.spec.refused} is refused")
        if self.spec.frozen in rows and note(self.spec.notes) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.worker(rows)  # type: ignore[no-any-return]


def note(path: str) -> int:
    """Add one to the count that a file holds, as its length."""
    with open(path, "a") as file:
        file.write("x")
    return os.path.getsize(path)


def double(task: tuple[int, str]) -> int:
    """Twice a number; 13 is refused, 99 is deadly; both are noted."""
    number, notes = task
    if number == 13:
        note(notes)
        raise ValueError("13 is refused")
    if number == 99:
        note(notes)
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def steps(count: int) -> int:
    """A task that says how far it is, as a training in a study does."""
    from paydirt.core.progress import share, showing

    with showing("training", count, counts=False) as bar:
        for done in range(1, count + 1):
            time.sleep(0.25)
            bar.done = done
            share(done / count)
    return count
