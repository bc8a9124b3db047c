"""What Ctrl-C does: the first raises `Interrupted`, so that ledgers are closed; the next ends the process at once."""

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


def leave(signum: int, frame: Any) -> None:
    sys.stderr.write("interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within: the first Ctrl-C raises `Interrupted`, so that ledgers are closed; the second ends the process at once."""

    def interrupt(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, leave)
        raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
