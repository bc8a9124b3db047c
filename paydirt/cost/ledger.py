"""The ledger: one line for every piece of work, predicted beside measured, only ever appended.

What enters: a work's name and predicted `Cost`. What leaves: a JSON line with predicted and measured FLOPs, tokens,
seconds, peak memory and device. A resumed run appends a line for each part it did, so the sum is what was spent.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from paydirt.artifacts import reading
from paydirt.types import Cost


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
    def record(self, stage: str, what: str = "", predicted: Cost | None = None, device: str = "cpu") -> Iterator[Entry]:
        """Time the block and write its line, also when it fails: what was spent was spent."""
        entry = Entry(stage, what, predicted_flops=predicted.flops if predicted else 0.0, device=device)
        entry.tokens = predicted.tokens if predicted else 0
        started = time.perf_counter()
        try:
            yield entry
            entry.finished = True
        finally:
            entry.seconds = round(time.perf_counter() - started, 4)
            entry.peak_bytes = peak_bytes(entry.device)
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


def peak_bytes(device: str = "cpu") -> int:
    """Peak memory so far: of the process on the CPU, of the allocator on CUDA."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def spent(entries: list[Entry]) -> float:
    """Total FLOPs: measured where counted, else predicted."""
    return sum(e.predicted_flops if e.measured_flops is None else e.measured_flops for e in entries)
