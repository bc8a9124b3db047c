"""What every call of the API does around a stage: its place, its workspace, its errors, and what it has to tell.

A fault that a file or an argument causes leaves as ValueError with the words of the command; its cause stays attached.
Whatever a pool lost on its way is said once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from paydirt.core.artifacts import Replace, cache_root
from paydirt.core.boundary import WRONG, explain
from paydirt.core.config import Config
from paydirt.core.progress import say
from paydirt.data.encoding import EncodingConfig
from paydirt.data.tally import lines_of, opened
from paydirt.execution import Executor, Local, Ray
from paydirt.stages import Workspace

P = ParamSpec("P")
R = TypeVar("R")
PathLike = str | os.PathLike[str]
Encoding = EncodingConfig | Mapping[str, Any] | None
"""Chat form and length, such as `{"template": "tulu", "max_length": 2048}`; None takes what the data was made with."""

_said: set[str] = set()


def spoken(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with failures in the command's words."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            found = function(*args, **kwargs)
        except Exception as error:
            words, status = explain(error)
            words = words.replace("; --debug shows where", "")  # the traceback is there
            if status != WRONG or (isinstance(error, ValueError) and words == str(error)):
                raise
            raise ValueError(words) from error
        finally:
            _tell()
        return found

    return call


def _tell() -> None:
    """The accounts of pools that lost, changed or cut something; each line once a session."""
    for account in opened.values():
        total, *losses = lines_of(account)
        new = [line for line in losses if f"{total} {line}" not in _said]
        for line in [total, *new] if new else []:
            say(line)
        _said.update(f"{total} {line}" for line in new)


def workspace(out: PathLike | None, force: bool, execution: Executor | None = None) -> Workspace:
    """A fresh one: files may have changed since the last call, and what has not is found in the cache."""
    kept: Replace = "nothing" if out is not None else "same stage"
    return Workspace(cache_root(), replace="anything" if force else kept, executor=checked(execution) or Local())


def checked(execution: Executor | None) -> Executor | None:
    """The same; ValueError for what is no executor."""
    if not isinstance(execution, Local | Ray | None):
        found = type(execution).__name__
        raise ValueError(f"execution: expected paydirt.Local(...), paydirt.Ray(...) or None, found a {found}")
    return execution


def place(room: str, out: PathLike | None) -> Path:
    """Where an artifact goes: `out`, else the cache, under its key."""
    return Path(out).expanduser() if out is not None else cache_root() / room / "{key}"


def plain(value: Config | Mapping[str, Any] | str | None) -> Any:
    """A config as it is, a mapping as a dict: what `parse` reads."""
    return dict(value) if isinstance(value, Mapping) else value
