"""Commands that make data sets of data sets: decontaminate, dedup, split, export, imports; and a tiny model to try with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paydirt.artifacts import Artifact, cache_root
from paydirt.data.pool import Pool, PoolConfig
from paydirt.progress import results_console

console = results_console()

PoolFiles = Annotated[list[str], typer.Option("--pool", help="pool file or NAME=FILE; repeat for several sources")]
Out = Annotated[Path, typer.Option(help="directory to write")]
Seed = Annotated[int, typer.Option(help="random seed")]
Cache = Annotated[Path | None, typer.Option(help="where imported pools live; default $PAYDIRT_CACHE")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("tiny-model")(tiny)


def pool_config(files: list[str]) -> PoolConfig:
    """`--pool` values as a pool: all named (NAME=FILE) or none."""
    named = dict(f.split("=", 1) for f in files if "=" in f and not Path(f).exists())
    if named and len(named) < len(files):
        raise ValueError(f"--pool: name all of the files (NAME=FILE) or none; got {', '.join(files)}")
    return PoolConfig(files=named or list(files))


def open_files(files: list[str], cache: Path | None) -> Pool:
    from paydirt.data.pool import open_pool

    return open_pool(pool_config(files), cache or cache_root())


def report(artifact: Artifact) -> None:
    """Say what a command left, or that there was nothing to do."""
    state = "wrote {}" if artifact.fresh else "{} is up to date; nothing was done"
    console.print(state.format(artifact.path), markup=False, soft_wrap=True)
    for key, value in artifact.notes.items():
        if not isinstance(value, dict | list) or len(str(value)) < 200:
            console.print(f"  {key}: {value}", markup=False, soft_wrap=True)


def tiny(
    pool: PoolFiles,
    out: Out,
    seed: Seed = 0,
    layers: Annotated[int, typer.Option(help="layers")] = 2,
    hidden: Annotated[int, typer.Option(help="width")] = 32,
    cache: Cache = None,
) -> None:
    """Write a tiny random Llama with a tokenizer learnt on the pool, to try a recipe without any download."""
    from paydirt.models.tiny import TinyConfig, tiny_model

    report(tiny_model(open_files(pool, cache), out, seed, TinyConfig(layers=layers, hidden=hidden)))
