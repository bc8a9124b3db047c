"""Where work runs. Today that is this process; the executors of `paydirt.execution` will enter here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Local:
    """This machine."""


def checked(execution: object) -> None:
    """ValueError for what is no executor that exists."""
    if not isinstance(execution, Local | None):
        raise ValueError(f"execution: expected paydirt.Local() or None, found {type(execution).__name__}")
