"""Commands that say what there is: inspect an artifact or a file, list the methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt.cli.flags import Cache
from paydirt.cli.pool import reads_pool
from paydirt.cli.shown import console
from paydirt.data.tally import opened


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("inspect")(reads_pool(inspect))
    app.command("methods")(methods)


def inspect(
    path: Annotated[Path, typer.Argument(help="an artifact or study directory, or a data file")],
    reading: dict[str, Any],
    cache: Cache = None,
    verify: Annotated[bool, typer.Option("--verify", help="check every byte of an artifact")] = False,
) -> None:
    """Say what an artifact holds, or what a data file would be read as."""
    from paydirt.inspect import describe

    for line in describe(path, reading, cache, verify):
        console.print(line, markup=False, soft_wrap=True)
    opened.clear()  # a data file's table is among the lines


def methods() -> None:
    """Every scoring method and policy: what it is, what it costs, when to use it. P parameters, T pool tokens."""
    from paydirt.scoring.listing import methods_markdown
    from paydirt.selection.policies.base import policies_markdown

    for table in (methods_markdown(), "", policies_markdown()):
        console.print(table, markup=False, soft_wrap=True)
