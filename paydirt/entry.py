"""Where the command begins: an interrupt ends it with one line and status 130, from the first moment on.

Nothing heavy is imported here, since the libraries that the command line needs take a second, and Ctrl-C must not print a
traceback meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, which the command-line library makes its own end of."""


def _leave(signum: int, frame: Any) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within: the first Ctrl-C raises `Interrupted`, so that ledgers are closed; the second ends the process at once."""

    def interrupt(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, _leave)
        raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main() -> None:
    """Entry point of the `paydirt` command."""
    signal.signal(signal.SIGINT, _leave)
    from paydirt.cli import main as run

    run()


if __name__ == "__main__":
    main()
