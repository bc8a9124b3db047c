"""Progress bars with rate and remaining time, on a terminal; on a log, one line when the work is long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True, highlight=False)


def track(items: Iterable[T], title: str, step: int = 1, total: int | None = None) -> Iterator[T]:
    """Yield `items` under a progress bar that counts `step` units each, up to `total`."""
    units = total if total is not None else len(items) * step  # type: ignore[arg-type]
    if not console.is_terminal:
        yield from items
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=units, rate="")
        for item in items:
            yield item
            done = bar.tasks[0]
            rate = f"{done.speed:,.0f}/s" if done.speed else ""
            bar.update(task, advance=min(step, units - done.completed), rate=rate)


def results_console() -> Console:
    """Standard output for results; in a file or pipe, wide enough that no table is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def say(text: str) -> None:
    """One line to the person, on stderr, so that stdout stays for results."""
    console.print(text, markup=False, soft_wrap=True)
