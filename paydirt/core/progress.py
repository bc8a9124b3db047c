"""Progress of whatever takes long: bars on a terminal, a line that counts in a notebook, a line a minute in a log.

What enters: items with their size (`track`), and word from the midst of an item: `advance` by who works here, a callable
for those who work in other processes, which in turn `report` to it. What leaves: title, done of total, rate, time spent
and time left, every half second, whether or not an item has ended since. Nothing that is computed depends on it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

T = TypeVar("T")
SHOWN_EVERY = 0.5  # seconds
LOGGED_EVERY = "PAYDIRT_PROGRESS"  # seconds between two lines in a log, by the environment
A_MINUTE = 60.0
RECENT = 30.0  # seconds that the rate is taken over: the first unit may have waited for processes to start

console = Console(stderr=True, highlight=False)


class Bar:
    """One thing under way. `done` are whole items, `part` is what is done of the item at hand, in units."""

    def __init__(self, title: str, total: float, step: float, counts: bool, others: Callable[[], float] | None) -> None:
        self.title, self.total, self.step, self.counts = title, total, step, counts
        self.done = self.part = self._shown = 0.0
        self.began = time.monotonic()
        self._others = others
        self._seen = [(self.began, 0.0)]  # times and units, the last `RECENT` seconds

    def reached(self) -> float:
        """Units done, parts of items included; never less than was said before."""
        others = self._others() if self._others is not None else 0.0
        self._shown = max(self._shown, min(self.done + self.part + others, self.total))
        return self._shown

    def finish(self, units: float) -> None:
        """An item of so many units is done."""
        self.done, self.part = min(self.done + units, self.total), 0.0

    def rate(self) -> float:
        """Units a second of late; 0 before the first."""
        now, reached = time.monotonic(), self.reached()
        self._seen.append((now, reached))
        while len(self._seen) > 2 and now - self._seen[1][0] > RECENT:
            self._seen.pop(0)
        (first, before), whole = self._seen[0], now - self.began
        recent = (reached - before) / (now - first) if now > first else 0.0
        return recent or (reached / whole if whole > 0 else 0.0)

    def words(self) -> tuple[str, str]:
        """`1,200/3,999` and `85.3/s, 14 s, 33 s left`."""
        rate, reached = self.rate(), self.reached()
        left = f", {_time((self.total - reached) / rate)} left" if rate and reached < self.total else ""
        speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        return f"{reached:,.0f}/{self.total:,.0f}", f"{speed}/s, {_time(time.monotonic() - self.began)}{left}"


class _Word:
    """What a worker process has in a bar's place: it tells another process what part of its item is done."""

    def __init__(self, tell: Callable[[float], None], step: float, counts: bool) -> None:
        self.tell, self.step, self.counts, self._part = tell, step, counts, 0.0

    @property
    def part(self) -> float:
        return self._part

    @part.setter
    def part(self, value: float) -> None:
        self._part = value
        self.tell(value)


_open: list[Bar | _Word] = []  # innermost last


def track(
    items: Iterable[T],
    title: str,
    step: int = 1,
    total: int | None = None,
    *,
    counts: bool = False,
    others: Callable[[], float] | None = None,
) -> Iterator[T]:
    """Yield `items` under a bar that counts `step` units each, up to `total`.

    With `counts`, work inside an item says by `advance` how many units it has done; `others` gives the units that are done
    of the items which other processes are at.
    """
    units = total if total is not None else len(items) * step  # type: ignore[arg-type]
    with showing(title, units, step, counts=counts, others=others) as bar:
        for item in items:
            yield item
            bar.finish(step)


@contextmanager
def showing(
    title: str, total: float, step: float = 1, *, counts: bool = True, others: Callable[[], float] | None = None
) -> Iterator[Bar]:
    """A bar for the block."""
    bar = Bar(title, total, step, counts, others)
    _open.append(bar)
    with _screen.with_bar(bar):
        try:
            yield bar
        finally:
            _open.remove(bar)


def advance(units: float = 1) -> None:
    """Of the item at hand so many more units are done; for the innermost bar, if it counts inside its items."""
    if _open and _open[-1].counts:
        _open[-1].part += units


def share(done: float) -> None:
    """The share [0, 1] that is done of the item around the innermost bar: a step of a training is a part of its task."""
    if len(_open) > 1 and not _open[-2].counts:
        _open[-2].part = done * _open[-2].step


@contextmanager
def report(tell: Callable[[float], None], step: float = 1, counts: bool = True) -> Iterator[None]:
    """For an item that a worker process does for another one: `tell` hears the units that are done of it, at the end 0."""
    word = _Word(tell, step, counts)
    _open.append(word)
    try:
        yield
    finally:
        _open.remove(word)
        tell(0.0)


class _Screen:
    """Draws the open bars of this process from a thread, by what the console is."""

    def __init__(self) -> None:
        self._bars: dict[Bar, Any] = {}
        self._lock = threading.RLock()
        self._rich: Progress | None = None
        self._end: threading.Event | None = None

    @contextmanager
    def with_bar(self, bar: Bar) -> Iterator[None]:
        if console.quiet:
            yield
            return
        with self._lock:
            kind = _kind()
            if kind == "bars" and self._rich is None:
                columns = (
                    TextColumn("[bold]{task.description}", markup=True),
                    BarColumn(),
                    TextColumn("{task.fields[units]}  {task.fields[pace]}", markup=False),
                )
                self._rich = Progress(*columns, console=console, transient=True)
                self._rich.start()
            task = None
            if kind == "bars" and self._rich is not None:
                task = self._rich.add_task(_plain(bar.title), total=bar.total, units="", pace="")
            self._bars[bar] = {"kind": kind, "task": task, "said": bar.began, "lines": 0}
            if self._end is None:
                self._end = threading.Event()
                threading.Thread(target=self._beat, args=(self._end,), daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                state = self._bars.pop(bar)
                if state["lines"] or kind == "line":
                    self._say(bar, state, last=True)
                if task is not None and self._rich is not None:
                    self._rich.remove_task(task)
                if not self._bars:
                    if self._end is not None:
                        self._end.set()
                        self._end = None
                    if self._rich is not None:
                        self._rich.stop()
                        self._rich = None

    def _beat(self, end: threading.Event) -> None:
        while not end.wait(min(SHOWN_EVERY, logged_every())):
            with self._lock:
                for bar, state in list(self._bars.items()):
                    self._draw(bar, state)

    def _draw(self, bar: Bar, state: dict[str, Any]) -> None:
        if state["kind"] == "bars" and self._rich is not None:
            units, pace = bar.words()
            self._rich.update(state["task"], completed=bar.reached(), units=units, pace=pace)
        elif state["kind"] == "line":
            if bar is list(self._bars)[-1]:  # one line can show one bar
                self._say(bar, state)
        elif time.monotonic() - state["said"] >= logged_every():
            self._say(bar, state)

    def _say(self, bar: Bar, state: dict[str, Any], last: bool = False) -> None:
        line = f"{bar.title} {'  '.join(bar.words())}"
        if state["kind"] == "line":
            sys.stderr.write(f"\r{line}".ljust(100) + ("\n" if last else ""))
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        state["said"], state["lines"] = time.monotonic(), state["lines"] + 1


_screen = _Screen()


def _kind() -> str:
    """bars, line (a notebook without ipywidgets, which rich's bars need there) or log."""
    if console.is_jupyter:
        return "bars" if _widgets() else "line"
    return "bars" if console.is_terminal else "log"


def _widgets() -> bool:
    try:
        return find_spec("ipywidgets") is not None
    except ValueError:  # of a module that was blocked
        return False


def logged_every() -> float:
    """Seconds between two lines of a bar in a log."""
    try:
        return max(0.05, float(os.environ.get(LOGGED_EVERY) or A_MINUTE))
    except ValueError:
        return A_MINUTE


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _time(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def results_console() -> Console:
    """Standard output for results; in a file or pipe, wide enough that no table is cut."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def say(text: str) -> None:
    """One line to the person, on stderr, so that stdout stays for results."""
    console.print(text, markup=False, soft_wrap=True)


@cache
def say_once(text: str) -> None:
    """The same, once a process: what is read several times need not say it each time."""
    say(text)
