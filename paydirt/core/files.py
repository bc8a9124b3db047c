"""Files that several processes may write: digests, writes that are whole or absent, swaps of two directories.

What enters: paths. What leaves: bytes on disk that no reader sees half of.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

WRITING = ".writing-"  # what a half-written file's name begins with; a killed process may leave such files
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def cache_root() -> Path:
    """Where shared intermediate files live: `$PAYDIRT_CACHE` or `~/.cache/paydirt`."""
    return Path(os.environ.get("PAYDIRT_CACHE") or Path.home() / ".cache" / "paydirt")


def fingerprint(value: Any) -> str:
    """16 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, streamed."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """Text of a file, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside `path` under a name of our own, then rename over it: nobody sees half a file, or another writer's."""
    part = path.with_name(f"{WRITING}{os.getpid()}-{uuid.uuid4().hex[:12]}-{path.name}"[:250])
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove_unfinished(root: Path) -> None:
    """Remove what killed writers left under `root`; for the holder of its claim, once nobody writes there."""
    for path in root.rglob(f"{WRITING}*"):
        path.unlink(missing_ok=True)


def replace_directory(new: Path, out: Path, old: Path) -> None:
    """`new` becomes `out`; what `out` was is removed, by way of the name `old`. Under the claim of `out`.

    One step where the system can swap two names, so that a reader always finds a whole `out`. Elsewhere a kill between
    two renames leaves `out` under the name `old`, and `recover` puts it back.
    """
    if not out.exists():
        os.rename(new, out)
    elif _swap(new, out):
        os.rename(new, old)
    else:
        os.rename(out, old)
        os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def recover(out: Path, old: Path) -> None:
    """After a kill in the midst of `replace_directory`: put the old output back if there is no new one, else remove it."""
    if old.exists() and not out.exists():
        os.rename(old, out)
    shutil.rmtree(old, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2, Linux); False where system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    swap.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return bool(swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
