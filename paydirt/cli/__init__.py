"""The command line, one file a family of verbs: parse, call a stage, print what came out.

What enters: arguments. What leaves: an exit status, and what the verbs print. The shared options are in `flags`, those of
configs are made in `options`, those of a pool in `pool`. Where the command begins (`paydirt.entry`) and what Ctrl-C does
(`paydirt.core.interrupt`) stand outside of the room, since importing the room takes typer and pydantic with it.
"""

from paydirt.cli.command import app, main
from paydirt.cli.score import score_app

__all__ = ["app", "main", "score_app"]
