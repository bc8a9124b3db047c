"""Where the command begins: an interrupt ends it with one line and status 130, from the first moment on.

Nothing heavy is imported here, since the libraries that the command line needs take a second, and Ctrl-C must not print a
traceback meanwhile.
"""

from __future__ import annotations

import signal

from paydirt.core.interrupt import leave


def main() -> None:
    """Entry point of the `paydirt` command."""
    signal.signal(signal.SIGINT, leave)
    from paydirt.cli import main as run

    run()


if __name__ == "__main__":
    main()
