"""The command itself: the verbs of every family under one root, called inside the boundary.

Flags come from the configs themselves (`options`), so a new method or field needs no change here. Mistakes that a user
can make are printed without a traceback, and exit with status 2 (`paydirt.core.boundary`).
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from paydirt import __version__
from paydirt.cli import analysis, cache, data, evaluate, look, plan, run, score, select, spend, train
from paydirt.cli.groups import Pipeline
from paydirt.cli.pool import say_pools
from paydirt.core.artifacts import VERIFY
from paydirt.core.boundary import guarded
from paydirt.training.launcher import refuse_launcher

FAMILIES = (look, plan, data, score, select, train, evaluate, run, analysis, spend, cache)

app = typer.Typer(cls=Pipeline, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _verify(wanted: bool) -> None:
    if wanted:
        os.environ[VERIFY] = "1"  # workers read it too


def _version(show: bool) -> None:
    if show:
        typer.echo(f"paydirt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of a failure; goes with any verb")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", callback=_verify, help="before the verb: check every byte of the artifacts it opens"),
    ] = False,
) -> None:
    """Choose fine-tuning data under one budget for selecting and training together."""
    if context.invoked_subcommand not in ("train", "run"):
        refuse_launcher(f"paydirt {context.invoked_subcommand}")


def main() -> None:
    """Entry point of the `paydirt` command."""
    _quiet_libraries()
    os.environ.pop(VERIFY, None)
    guarded(_register)
    debug = "--debug" in sys.argv  # before or after the verb, as it comes to mind
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        guarded(app, debug)
    finally:
        say_pools()


def _register() -> None:
    for family in FAMILIES:
        family.register(app)


def _quiet_libraries() -> None:
    """Keep other libraries' bars and notices out of our output; our own are shown."""
    warnings.simplefilter("ignore", FutureWarning)  # notices of libraries to their callers' authors
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # the same in workers
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
