"""The one place where a failure becomes words: what a file or an argument caused, one line, status 2, no traceback.

What enters: the call of a command. What leaves: an exit status. Faults of files and arguments are ValueErrors that name
file, place, value and remedy where they arise; here they are told apart from what is not the person's doing, which ends
with status 1 and asks for `--debug`, that shows the traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from paydirt.core.interrupt import INTERRUPTED, Interrupted, interruptible

PACKAGE = Path(__file__).resolve().parents[1]
WRONG, BROKEN = 2, 1
WORKER = "_RemoteTraceback"  # the cause of an error that comes from a worker process, whose frames stayed there


def guarded(call: Callable[[], object], debug: bool = False) -> None:
    """Run `call`; leave the process by SystemExit where it fails."""
    try:
        with interruptible():
            call()
    except (Interrupted, KeyboardInterrupt):
        _tell("interrupted: what is finished is kept, and the same command goes on from there")
        sys.stdout.flush()
        sys.stderr.flush()
        _end_workers()
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        text, status = explain(error)
        _tell(f"error: {text}" + ("" if debug or status == WRONG else "; run it again with --debug for the traceback"))
        sys.exit(status)


def explain(error: Exception) -> tuple[str, int]:
    """What to say of a failure, and the exit status: 2 for what a file or argument can cause, 1 for what should not be."""
    words = " ".join(str(error).split()) if _library(error) else str(error)
    words = words or type(error).__name__
    if isinstance(error, UnicodeError):
        return f"a text is not UTF-8 ({words}); convert the file", WRONG
    if isinstance(error, ValueError):
        library = _library(error)
        return words + (f" (said by {library}; --debug shows where)" if library else ""), WRONG
    if isinstance(error, OSError):
        return _os_error(error, words), WRONG
    if isinstance(error, OverflowError):
        return f"a number is beyond what can be computed with ({words}); give one within reason", WRONG
    if isinstance(error, RecursionError):
        return "a file or argument is nested too deeply to be read; flatten it", WRONG
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"out of memory ({words[:200]}); lower batch_size, token_budget or max_length, or the size asked for",
            WRONG,
        )
    module = type(error).__module__.split(".")[0]
    if module in ("safetensors", "safetensors_rust", "pyarrow"):
        return f"a file of {module.removesuffix('_rust')} is damaged ({words}); write or fetch it again", WRONG
    if type(error).__name__ == "BrokenProcessPool":
        return "a worker process died (killed, or out of memory); run the command again, with fewer workers", BROKEN
    return f"unexpected {type(error).__name__}: {words[:500]}", BROKEN


def _os_error(error: OSError, words: str) -> str:
    if error.strerror is None:
        return words
    place = f"{error.filename}: " if error.filename else ""
    remedies = {
        FileNotFoundError: "check the path",
        PermissionError: "choose a place that may be read and written",
        IsADirectoryError: "give a file",
        NotADirectoryError: "check the path: a file is in the way of a folder",
        FileExistsError: "a file is in the way; choose another place",
    }
    return f"{place}{error.strerror}; {remedies.get(type(error), 'check the path and the disk')}"


def _library(error: BaseException) -> str | None:
    """The library that raised it; None where it was our own code, here or in a worker."""
    if type(error.__cause__).__name__ == WORKER:
        return None
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None or Path(frame.tb_frame.f_code.co_filename).resolve().is_relative_to(PACKAGE):
        return None
    return str(frame.tb_frame.f_globals.get("__name__", "a library")).split(".")[0]


def _end_workers() -> None:
    """Leave no process behind that works on, or that our exit would wait for."""
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for process in multiprocessing.active_children():
            process.kill()


def _tell(text: str) -> None:
    """One line to the person, in colour on a terminal; control characters from files must not reach it."""
    plain = "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in text)
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    sys.stderr.write(f"\x1b[31m{plain}\x1b[0m\n" if colour else f"{plain}\n")
