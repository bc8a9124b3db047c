"""A pool cut into ranges of rows, each worked on by whoever is free, each leaving one file: host steps over an executor.

Enters: a pool by its path, a function of a `Range` that pickles, and `spread`, which is an executor's `map` (data knows
no executors); without one, this process does all. Leaves: the ranges' files in order. A file that is there is not made
again, so a killed run continues; nothing of the pool but one range is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from paydirt.core.artifacts import Artifact, write_atomic
from paydirt.core.progress import track
from paydirt.data.pool import Pool

ROWS = 8192

Spread = Callable[[Callable[[Any], Any], Iterable[Any], str], list[Any]]
"""`work(task)` of every task, in task order, anywhere; see `paydirt.execution.base.Executor.map`."""


class Range(NamedTuple):
    """Rows [start, stop) of the pool at `pool`; what is asked of them; the file that answers."""

    pool: str
    start: int
    stop: int
    asked: Any
    file: str

    def open(self) -> Pool:
        return open_pool(self.pool)


@lru_cache(maxsize=2)
def open_pool(path: str) -> Pool:
    """The pool at `path`, opened once a process."""
    return Pool(Artifact(Path(path)))


def here(work: Callable[[Any], Any], tasks: Iterable[Any], title: str) -> list[Any]:
    """All tasks in this process."""
    items = list(tasks)
    return [work(item) for item in track(items, title)]


def over_ranges(
    pool: Pool, work: Callable[[Range], bytes], asked: Any, folder: Path, title: str, spread: Spread
) -> list[Path]:
    """`folder/<number>` of every range of the pool, filled with what `work` makes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(pool), ROWS)
    ranges = [
        Range(str(pool.path), start, min(start + ROWS, len(pool)), asked, str(folder / f"{number:06d}"))
        for number, start in enumerate(starts)
    ]
    spread(_Fill(work), [r for r in ranges if not Path(r.file).exists()], title)
    return [Path(r.file) for r in ranges]


class _Fill:
    """`work`, and its bytes in the range's file; nothing travels back."""

    def __init__(self, work: Callable[[Range], bytes]) -> None:
        self.work = work

    def __call__(self, asked: Range) -> None:
        if not Path(asked.file).exists():
            write_atomic(Path(asked.file), self.work(asked))
