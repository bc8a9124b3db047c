"""Check what somebody gave: a name against a table, a number against its range; errors say what would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from paydirt.core.registry import did_you_mean

V = TypeVar("V")


def find(table: Mapping[str, V], name: str, what: str) -> V:
    """`table[name]`, case-insensitive; an unknown name raises ValueError that names the nearest known ones."""
    folded = {key.lower(): value for key, value in table.items()}
    if name.lower() in folded:
        return folded[name.lower()]
    raise ValueError(f"unknown {what} {name!r}; {did_you_mean(name.lower(), folded)}")


def within(name: str, value: float, low: float, high: float) -> float:
    """`value`, which lies in [low, high]; else ValueError with the value and the range.

    NaN lies in no range.
    """
    if low <= value <= high:
        return value
    raise ValueError(f"{name}: {value:g} is not in [{low:g}, {high:g}]")
