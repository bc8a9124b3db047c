"""`paydirt ARGUMENTS` in a process forked from a warm one: a tenth of a second instead of five, hangs and kills included.

A fork server imports the libraries once and does no work, so that every child starts from the same clean state.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PRELOADED = ["support.fuzz.warm"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended. `code` is None where it had to be killed at its time limit."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


def server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def call(
    arguments: Sequence[str],
    folder: Path,
    limit: float = 60.0,
    kill_after: float | None = None,
    cache: Path | None = None,
) -> Outcome:
    """Run the command inside `folder`; with `kill_after`, SIGKILL after so many seconds unless it has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / ".stdout", folder / ".stderr"
    started = time.monotonic()
    process = server().Process(target=_child, args=(list(arguments), str(folder), str(cache or folder / ".cache")))
    process.start()
    process.join(kill_after if kill_after is not None else limit)
    ended = process.exitcode is not None
    if not ended:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.join()
    code = process.exitcode if ended else None
    texts = [path.read_text(encoding="utf-8", errors="replace") if path.exists() else "" for path in (out, err)]
    return Outcome(code, *texts, time.monotonic() - started)


def _child(arguments: list[str], folder: str, cache: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ["PAYDIRT_CACHE"] = cache
    for number, name in ((1, ".stdout"), (2, ".stderr")):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the process ends with them
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["paydirt", *arguments]
    code: object = 0
    try:
        runpy.run_module("paydirt", run_name="__main__")
    except SystemExit as leave:
        code = leave.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if code is None else code if isinstance(code, int) else 1)
