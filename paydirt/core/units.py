"""Numbers and notes in words: counts whole, measures in three digits, each with its unit; no Python on the screen.

In: what manifests hold (numbers, texts, lists, mappings, nested). Out: lines for a person. The last word of a key names the
unit of the numbers below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNITS = {"flops": "FLOPs", "seconds": "s", "hours": "h", "bytes": "bytes", "usd": "USD"}
CHARGES = {"charges": "FLOPs"}  # keys that are a whole word of their own
SHOWN = 8  # entries of a list or mapping; how many more there are is said


def number(value: float, unit: str = "") -> str:
    """`103,018`, `0.0123`, `1.72e+09 FLOPs`: a count keeps all its digits, what has a unit or a fraction has three."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:,}" if isinstance(value, int) and not unit else f"{value:.3g}"
    return f"{text} {unit}".strip()


def duration(hours: float | None) -> str:
    """Hours in the unit that reads well: `12 s`, `3.2 min`, `7.5 h`; what was not measured is said."""
    if hours is None:
        return "not measured"
    seconds = hours * 3600
    if seconds < 100:
        return number(float(seconds), "s")
    return number(seconds / 60, "min") if seconds < 6000 else number(hours, "h")


def size(count: float | None) -> str:
    """Bytes as `3.4 GB`, in powers of ten; "" of nothing."""
    if not count:
        return ""
    for unit, least in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return number(count / least, unit)
    return number(float(count), "bytes")


def lines_of_notes(notes: Mapping[str, Any]) -> list[str]:
    """A line a note, `title: value`; what is None or empty says nothing and has no line."""
    lines = []
    for key, value in notes.items():
        if value is None or value in ({}, [], ""):
            continue
        title, unit = _title(key)
        lines.append(f"{title}: {_value(value, unit)}")
    return lines


def _title(key: str) -> tuple[str, str]:
    """A key in words, without the unit that it names, and the unit."""
    words = str(key).split("_")
    if len(words) > 1 and words[-1] in UNITS:
        return " ".join(words[:-1]), UNITS[words[-1]]
    return " ".join(filter(None, words)) or "note", CHARGES.get(str(key), "")


def _value(value: Any, unit: str) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | int | float):
        return number(value, unit)
    if isinstance(value, Mapping):
        parts = [_entry(key, inner, unit) for key, inner in list(value.items())[:SHOWN]]
    elif isinstance(value, list | tuple):
        parts = [_value(inner, unit) for inner in value[:SHOWN]]
    else:
        return str(value)
    if len(value) > SHOWN:
        parts.append(f"and {len(value) - SHOWN:,} more")
    return ", ".join(parts) or "none"


def _entry(key: str, value: Any, unit: str) -> str:
    """A key below the first level as it stands: it may be the name of a source or a place."""
    shown = _value(value, _title(key)[1] or unit)
    return f"{key} ({shown})" if isinstance(value, Mapping | list | tuple) else f"{key} {shown}"
