"""Looking: what a call would make, without making it.

Under `looking` every `artifacts.build` goes as far as it can without work: arguments are checked, what must not be
replaced is refused, what is up to date is returned. What is not ends the call as `Unmade`, which holds all that a plan
needs. Pools and their tokens are made even so: lengths decide what everything else takes, and the work finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

PREPARED = ("pool", "tokens")


class Unmade(BaseException):
    """What would be made. No error, so that nothing which handles errors handles it."""

    def __init__(self, out: Path, stage: str, config: dict[str, Any], begun: bool) -> None:
        super().__init__(f"{out}: not made yet")
        self.out, self.stage, self.config, self.begun = out, stage, config, begun


@dataclass
class Look:
    """What was met: artifacts that are up to date, and those that would be made."""

    found: list[Any] = field(default_factory=list)
    unmade: list[Unmade] = field(default_factory=list)

    def miss(self, out: Path, stage: str, config: dict[str, Any], begun: bool) -> NoReturn:
        """Raise `Unmade`, and remember it."""
        self.unmade.append(Unmade(out, stage, config, begun))
        raise self.unmade[-1]


_look: ContextVar[Look | None] = ContextVar("look", default=None)


@contextmanager
def looking() -> Iterator[Look]:
    """Within, artifacts are looked for and not made."""
    look = Look()
    token = _look.set(look)
    try:
        yield look
    finally:
        _look.reset(token)


def looked(stage: str) -> Look | None:
    """The look under which an artifact of that stage is not to be made; None where it is."""
    return None if stage in PREPARED else _look.get()
