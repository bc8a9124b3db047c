"""Claims: which process is at work on a shard, so that several fill one column without doing its shards twice.

A claim is a file that only one process can create; it holds host and process and is touched while the work goes on.
The claim of a process that is gone, or silent for long, is taken over. Nothing breaks when two work on one shard after
all: both write the same bytes under names of their own, and one rename wins.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SILENT = 120.0  # seconds after which the claim of another machine counts for nothing
BEAT = 20.0  # seconds between two touches


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Try to claim `path` for the block; yields whether it is ours. Gives the claim back at the end."""
    mine = _take(path) or (_abandoned(path) and _evict(path) and _take(path))
    if not mine:
        yield False
        return
    done = threading.Event()
    beat = threading.Thread(target=_touch, args=(path, done), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        done.set()
        path.unlink(missing_ok=True)


def _take(path: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}))
    return True


def _abandoned(path: Path) -> bool:
    """Whether the claimant is dead (same machine) or has been silent too long (another's, or nothing readable)."""
    try:
        silent = time.time() - path.stat().st_mtime
        claim = json.loads(path.read_text() or "{}")
    except FileNotFoundError:
        return False  # given back this moment: the next round will see
    except ValueError:
        claim = {}
    if claim.get("host") == socket.gethostname() and claim["process"] != os.getpid():
        try:
            os.kill(int(claim["process"]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    return silent > SILENT


def _evict(path: Path) -> bool:
    """Remove an abandoned claim; of several who try, one succeeds."""
    aside = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    aside.unlink(missing_ok=True)
    return True


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):
            os.utime(path)
