"""What a verb or a recipe would take: a table of works, and its sums.

One `Work` is one kind of artifact of a plan: how many are to be made, how many are up to date, FLOPs, seconds, peak memory
and disk. What cannot be known before is None and is said; sums are of what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from paydirt.core.units import duration, number, size
from paydirt.cost.hardware import Hardware, hardware, hours


@dataclass(frozen=True)
class Work:
    """`seconds` are those of one worker on this machine, `workers` of which share the work. Bytes are of one process.

    `models` says whether the process loads what models need.
    """

    what: str
    made: int = 1
    found: int = 0
    flops: float | None = 0.0
    tokens: float = 0.0
    seconds: float | None = 0.0
    peak_bytes: float | None = None
    disk_bytes: float = 0.0
    workers: int = 1
    parts: dict[str, float] = field(default_factory=dict)
    models: bool = True

    @property
    def wall(self) -> float | None:
        return None if self.seconds is None else self.seconds / self.workers


@dataclass(frozen=True)
class Plan:
    """What would be done. `machine` says what hours are of; nothing was run."""

    title: str
    works: tuple[Work, ...]
    machine: str
    start: float | None = 0.0
    device: Hardware | None = None
    devices: int = 1
    utilisation: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def artifacts(self) -> int:
        """To be made."""
        return sum(work.made for work in self.works)

    @property
    def up_to_date(self) -> int:
        return sum(work.found for work in self.works)

    @property
    def flops(self) -> float:
        return sum(work.flops or 0.0 for work in self.works)

    @property
    def hours(self) -> float | None:
        """On the hardware that was named, else on this machine; None where nothing was measured here."""
        if self.device is not None:
            return hours(self.flops, self.device, count=self.devices, mfu=self.utilisation)
        if not self.artifacts:
            return 0.0
        known = [work for work in self.works if work.flops is not None]  # of others nothing can be known before
        if self.start is None or any(work.wall is None for work in known):
            return None
        return (self.start + sum(work.wall or 0.0 for work in known)) / 3600

    @property
    def unforeseen(self) -> tuple[str, ...]:
        """Works of which neither FLOPs nor time can be known before, and which the sums leave out."""
        return tuple(work.what for work in self.works if work.flops is None)

    @property
    def peak_bytes(self) -> float | None:
        """Of one process or GPU."""
        return max((work.peak_bytes for work in self.works if work.peak_bytes), default=None)

    @property
    def disk_bytes(self) -> float:
        return sum(work.disk_bytes for work in self.works)

    def hours_of(self, work: Work) -> float | None:
        if self.device is not None:
            return (
                None if work.flops is None else hours(work.flops, self.device, count=self.devices, mfu=self.utilisation)
            )
        return None if work.wall is None else work.wall / 3600

    def on(self, name: str, devices: int = 1, utilisation: float | None = None) -> Plan:
        """The same on `devices` of a named machine, by its peak and utilisation; ValueError for an unknown name."""
        found = hardware(name)
        said = f"{devices} x {found.name} at {found.mfu if utilisation is None else utilisation:.0%} of the peak"
        return Plan(self.title, self.works, said, 0.0, found, devices, utilisation, self.remarks)

    def rows(self) -> list[tuple[str, ...]]:
        """What, artifacts to make, up to date, FLOPs, time, peak memory, disk; the last row sums."""
        out = [
            (w.what, f"{w.made:,}", f"{w.found:,}", _flops(w.flops), duration(self.hours_of(w)), size(w.peak_bytes),
             size(w.disk_bytes))
            for w in self.works
        ]  # fmt: skip
        total = (_flops(self.flops), duration(self.hours), size(self.peak_bytes), size(self.disk_bytes))
        return [*out, ("together", f"{self.artifacts:,}", f"{self.up_to_date:,}", *total)]

    def __repr__(self) -> str:
        wall = "unknown time" if self.hours is None else duration(self.hours)
        return (
            f"Plan({self.title}: {self.artifacts} artifacts to make, {self.up_to_date} up to date, "
            f"{_flops(self.flops)} FLOPs, {wall} on {self.machine})"
        )


COLUMNS: Sequence[str] = ("what", "to make", "up to date", "FLOPs", "time", "peak memory", "disk")


def _flops(value: float | None) -> str:
    return "not known" if value is None else number(float(value))
