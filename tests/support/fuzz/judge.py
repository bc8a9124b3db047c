"""The law of every command, whatever it is given: it ends with 0 or 2, without a traceback, in its time."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from support.fuzz.cases import KINDS
from support.fuzz.ground import Ground
from support.fuzz.process import Outcome, call

LIMIT = 60.0  # seconds; a good command on these files takes one to five


def faults(done: Outcome) -> list[str]:
    """What breaks the law; [] is well."""
    if done.code is None:
        return [f"no end after {done.seconds:.0f} s"]
    found = [] if done.code in (0, 2) else [f"exit status {done.code}"]
    if "Traceback (most recent call last)" in done.text:
        found.append("traceback")
    if done.code == 2 and "error" not in done.text.lower():
        found.append("exit status 2 without a word of error")
    return found


def try_case(
    ground: Ground, kind: str, number: int, folder: Path, limit: float = LIMIT
) -> tuple[list[str], str, Outcome]:
    """Faults of case `number` of a kind, its command line, and how it ended; the folder is emptied where it was well."""
    folder.mkdir(parents=True)
    arguments = KINDS[kind](ground, Random(f"{kind}-{number}"), folder)
    done = call(arguments, folder, limit, cache=folder / ".cache")
    found = faults(done)
    line = "paydirt " + " ".join(repr(a) if not a.isascii() or " " in a or len(a) > 200 else a for a in arguments)
    if not found:
        shutil.rmtree(folder, ignore_errors=True)
    return found, line, done
