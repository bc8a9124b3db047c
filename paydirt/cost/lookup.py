"""Look a name up in a table and, when it is not there, say what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from paydirt.registry import did_you_mean

V = TypeVar("V")


def find(table: Mapping[str, V], name: str, what: str) -> V:
    """`table[name]`, case-insensitive; an unknown name raises ValueError that names the nearest known ones."""
    folded = {key.lower(): value for key, value in table.items()}
    if name.lower() in folded:
        return folded[name.lower()]
    raise ValueError(f"unknown {what} {name!r}; {did_you_mean(name.lower(), folded)}")
