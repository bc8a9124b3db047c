"""Progress bars with rate and remaining time, on a terminal and in a notebook; a log gets none.

A notebook without ipywidgets, which rich's bars need there, gets a line that counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
SHOWN_EVERY = 0.5  # seconds

console = Console(stderr=True, highlight=False)


def track(items: Iterable[T], title: str, step: int = 1, total: int | None = None) -> Iterator[T]:
    """Yield `items` under a progress bar that counts `step` units each, up to `total`."""
    units = total if total is not None else len(items) * step  # type: ignore[arg-type]
    if console.is_jupyter and not _widgets():
        yield from _counted(items, title, step, units)
        return
    if not (console.is_terminal or console.is_jupyter):
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


def _widgets() -> bool:
    try:
        return find_spec("ipywidgets") is not None
    except ValueError:  # of a module that was blocked
        return False


def _counted(items: Iterable[T], title: str, step: int, units: int) -> Iterator[T]:
    """Yield `items` under one line on stderr that is written over twice a second and stays, full, at the end."""
    began = shown = time.monotonic()
    done = 0

    def line() -> str:
        seconds = max(time.monotonic() - began, 1e-9)
        left = f", {(units - done) * seconds / done:,.0f} s left" if 0 < done < units else ""
        return f"\r{title} {done:,}/{units:,}  {done / seconds:,.0f}/s, {seconds:,.0f} s{left}".ljust(100)

    for item in items:
        yield item
        done = min(done + step, units)
        if time.monotonic() - shown > SHOWN_EVERY and not console.quiet:
            sys.stderr.write(line())
            shown = time.monotonic()
    if not console.quiet:
        sys.stderr.write(f"{line()}\n")


def results_console() -> Console:
    """Standard output for results; in a file or pipe, wide enough that no table is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def say(text: str) -> None:
    """One line to the person, on stderr, so that stdout stays for results."""
    console.print(text, markup=False, soft_wrap=True)
