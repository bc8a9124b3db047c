"""Claims: which process is at work on a shard or an artifact, so that several share a folder without doing it twice.

A claim is a file that one process alone can create, on shared storage too. It names machine and process and is touched
while the work goes on. The claim of a process that is gone, or of another machine's that has been silent for long, is
taken over; a holder can ask whether that has happened to it. No lock of the file system is held, so none is lost when a
server or a network hiccups.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paydirt.core.files import WRITING, read_text

SILENT = 120.0  # seconds after which the claim of another machine counts for nothing
BEAT = 20.0  # seconds between two touches
NOTICE = 5.0  # seconds of waiting after which it is said


@dataclass(frozen=True)
class Claim:
    """A claim of ours: its file, what we wrote there, and the end of its touches."""

    path: Path
    text: str
    done: threading.Event

    def holds(self) -> bool:
        """Whether it is still ours: after a suspension another machine may have taken over."""
        return read_text(self.path) == self.text

    def give_back(self) -> None:
        self.done.set()
        if self.holds():
            self.path.unlink(missing_ok=True)


@contextmanager
def claimed(path: Path, frozen: bool = False) -> Iterator[Claim | None]:
    """Try to claim `path` for the block; yields the claim, or None where another's holds. Gives it back at the end.

    With `frozen`, a living process of this machine that has been silent for long loses its claim too: for work that may
    be done twice without harm.
    """
    mine = _claim(path, frozen)
    try:
        yield mine
    finally:
        if mine:
            mine.give_back()


@contextmanager
def held(path: Path) -> Iterator[Claim | None]:
    """Claim what lies at `path` for the block if nobody else does; None where somebody does, or nothing can be written."""
    try:
        mine = _claim(claim_of(path))
    except OSError:
        mine = None
    try:
        yield mine
    finally:
        if mine:
            mine.give_back()


@contextmanager
def locked(path: Path) -> Iterator[Claim]:
    """Claim what lies at `path`, waiting for whoever has it. ValueError where nothing can be written."""
    pause, began, told = 0.02, time.monotonic(), False
    try:
        while not (mine := _claim(claim_of(path))):
            if not told and time.monotonic() - began > NOTICE:
                told = _tell(path)
            time.sleep(pause)
            pause = min(0.5, pause * 1.3)
    except OSError as error:
        raise ValueError(f"{path.parent}: cannot write there ({error.strerror}); choose another --out") from None
    try:
        yield mine
    finally:
        mine.give_back()


def discard_unfinished(out: Path) -> None:
    """Remove what a failed making of `out` left, unless another process is at it."""
    with held(out) as mine:
        if mine:
            shutil.rmtree(out.with_name(out.name + ".part"), ignore_errors=True)


def claim_of(path: Path) -> Path:
    """The file that claims what lies at `path`: a hidden one beside it."""
    return path.with_name(f".{path.name}.lock")


def revoke(path: Path, host: str, process: int) -> None:
    """Take back the claim of a process that is given up, so that nobody waits until it has been silent for long."""
    text = read_text(path)
    found = _read(text)
    if found.get("host") == host and found.get("process") == process:
        _aside(path, text)


def counts(path: Path) -> bool:
    """Whether there is a claim at `path` whose process lives; one of another machine: was heard of lately."""
    text = read_text(path)
    return path.exists() and not _stale(path, text)


def _claim(path: Path, frozen: bool = False) -> Claim | None:
    """A claim of ours that is touched from now on; None where another's counts."""
    text = read_text(path)
    if path.exists() and not (_stale(path, text, frozen) and _aside(path, text)):
        return None
    mine = _take(path)
    if mine:
        threading.Thread(target=_touch, args=(mine,), daemon=True).start()
    return mine


def _take(path: Path) -> Claim | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    process = os.getpid()
    facts = {"host": socket.gethostname(), "process": process, "machine": _machine(), "born": _born(process)}
    claim = Claim(path, json.dumps(facts | {"token": uuid.uuid4().hex}), threading.Event())
    part = path.with_name(f"{WRITING}{uuid.uuid4().hex[:12]}")
    try:
        part.write_text(claim.text)
        try:
            os.link(part, path)  # of several who try, one succeeds, and nobody reads half a claim
        except FileExistsError:
            return None
        except OSError:  # a file system without links
            with open(path, "x") as file:
                file.write(claim.text)
    except FileExistsError:
        return None
    finally:
        part.unlink(missing_ok=True)
    return claim


def _stale(path: Path, text: str, frozen: bool = False) -> bool:
    """Whether the claim at `path`, which says `text`, counts for nothing."""
    alive = _alive(_read(text))
    doubtful = alive is None or (alive and frozen)
    return _silent(path) > SILENT if doubtful else not alive


def _aside(path: Path, text: str) -> bool:
    """Take away the claim that says `text`; of several who try, one succeeds, and a newer claim is put back."""
    aside = path.with_name(f"{WRITING}{uuid.uuid4().hex[:12]}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    try:
        if read_text(aside) == text:
            return True
        with suppress(OSError):
            os.link(aside, path)
        return False
    finally:
        aside.unlink(missing_ok=True)


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _alive(claim: dict[str, Any]) -> bool | None:
    """Whether the claimant lives; None where this machine cannot tell."""
    process = claim.get("process")
    if claim.get("host") != socket.gethostname() or not isinstance(process, int):
        return None
    if claim.get("machine", _machine()) != _machine():
        return None
    born = _born(process)
    return born is not None and claim.get("born") in (None, "", born)


def _born(process: int) -> str | None:
    """When a process of this machine began, so that its number is not taken for it; None where it is gone, "" unknown."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    fields = read_text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split() if sys.platform == "linux" else []
    if not fields:
        return ""
    return None if fields[0] in "ZX" else fields[19]  # a zombie is gone: proc_pid_stat(5)


@cache
def _machine() -> str:
    """What tells machines and containers of one name apart: the boot, and where process numbers count."""
    try:
        return read_text(Path("/proc/sys/kernel/random/boot_id")).strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _silent(path: Path) -> float:
    """Seconds since the last touch, by the clock of the storage: those of two machines may differ."""
    probe = path.with_name(f"{WRITING}{uuid.uuid4().hex[:12]}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0  # given back this moment: the next look will see
    finally:
        probe.unlink(missing_ok=True)


def _touch(claim: Claim) -> None:
    while not claim.done.wait(BEAT):
        with suppress(OSError):
            if claim.holds():
                os.utime(claim.path)


def _tell(path: Path) -> bool:
    from paydirt.core.progress import say

    found = _read(read_text(claim_of(path)))
    if found:
        say(f"{path}: process {found.get('process')} of {found.get('host')} is making it; waiting for that")
    return bool(found)
