"""The ledger: one line for every piece of work, predicted beside measured, only ever appended.

What enters: a work's name and predicted `Cost`. What leaves: a JSON line with predicted and measured FLOPs, tokens,
seconds, device and peak memory: on CUDA the block's own, on the CPU the process's so far. A resumed run appends a line for
each part it did, so the sum is what was spent.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import reading
from paydirt.core.types import Cost


@dataclass
class Entry:
    """One ledger line. FLOPs, tokens, seconds, bytes; `measured_flops` is None where nothing could be counted."""

    stage: str
    what: str = ""
    predicted_flops: float = 0.0
    measured_flops: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    device: str = "cpu"
    finished: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """Appends entries to `ledger.jsonl` in a directory."""

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / "ledger.jsonl"

    @contextmanager
    def record(
        self, stage: str, what: str = "", predicted: Cost | None = None, device: str | None = None
    ) -> Iterator[Entry]:
        """Time the block and write its line, also when it fails: what was spent was spent.

        Unless told, `device` is the accelerator that the block allocated memory on, else the CPU.
        """
        entry = Entry(stage, what, predicted_flops=predicted.flops if predicted else 0.0)
        entry.tokens = predicted.tokens if predicted else 0
        started = time.perf_counter()
        with _peaks() as peaks:
            try:
                yield entry
                entry.finished = True
            finally:
                entry.seconds = round(time.perf_counter() - started, 4)
                used = peaks()
                entry.device = device or (max(used, key=lambda name: used[name]) if used else "cpu")
                entry.peak_bytes = cpu_peak_bytes()
                if entry.device.startswith("cuda"):
                    entry.peak_bytes = max((v for k, v in used.items() if k.startswith(entry.device)), default=0)
                with open(self.path, "a", encoding="utf-8") as handle:
                    handle.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[Entry]:
        if not self.path.exists():
            return []
        with reading(self.path.parent, self.path.name):
            lines = self.path.read_text(encoding="utf-8").splitlines()
        return [self._entry(number, line) for number, line in enumerate(lines, 1)]

    def _entry(self, number: int, line: str) -> Entry:
        """One line; ValueError naming it where it is not what `record` writes."""
        with reading(self.path.parent, f"{self.path.name}:{number}"):
            entry = Entry(**json.loads(line))
            numbers = (
                entry.predicted_flops,
                entry.measured_flops or 0.0,
                entry.tokens,
                entry.seconds,
                entry.peak_bytes,
            )
            if not all(isinstance(value, int | float) for value in numbers) or not isinstance(entry.notes, dict):
                raise TypeError("a number or the notes are of another type")
        return entry


_open: list[dict[int, int]] = []  # peak bytes on each CUDA device of the blocks that are open, outermost first


@contextmanager
def _peaks() -> Iterator[Callable[[], dict[str, int]]]:
    """Peak bytes of this block on each CUDA device that it allocated on, `cuda:0` first.

    The allocator has one peak a device, which every block sets to zero when it begins: the blocks around it are told
    before what it had reached, and after what it reached inside.
    """
    before = _see()
    _reset(before)
    mine: dict[int, int] = {}
    _open.append(mine)

    def used() -> dict[str, int]:
        _see()
        return {f"cuda:{i}": peak for i, peak in sorted(mine.items()) if peak > before.get(i, 0)}

    try:
        yield used
    finally:
        _see()
        _open.pop()


def _see() -> dict[int, int]:
    """Tell all open blocks the peaks since the last reset; returns what is allocated now. CUDA is never woken for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    devices = range(torch.cuda.device_count())
    for block in _open:
        for i in devices:
            block[i] = max(block.get(i, 0), int(torch.cuda.max_memory_allocated(i)))
    return {i: int(torch.cuda.memory_allocated(i)) for i in devices}


def _reset(devices: Iterable[int]) -> None:
    for i in devices:
        sys.modules["torch"].cuda.reset_peak_memory_stats(i)


def cpu_peak_bytes() -> int:
    """Peak memory of the process so far; the system keeps one for its whole life."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def spent(entries: list[Entry]) -> float:
    """Total FLOPs: measured where counted, else predicted."""
    return sum(e.predicted_flops if e.measured_flops is None else e.measured_flops for e in entries)
