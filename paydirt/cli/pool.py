"""The options of every command that reads a pool, in one place; and what the command shows of the pool at its end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt.core.config import parse
from paydirt.core.progress import say
from paydirt.data.columns import parse_columns
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.data.tally import lines_of, opened

PoolFiles = Annotated[list[str], typer.Option("--pool", help="pool file or NAME=FILE; repeat for several sources")]
OPTIONS: dict[str, tuple[Any, Any]] = {
    "form": (
        Annotated[
            str,
            typer.Option(help="pool form: auto, messages, alpaca, sharegpt, prompt_completion, question_answer"),
        ],
        "auto",
    ),
    "on_bad": (Annotated[str, typer.Option(help="bad records: raise, or skip and count")], "raise"),
    "prefix_ids": (
        Annotated[bool, typer.Option("--prefix-ids", help="prefix ids with the source, where sources share ids")],
        False,
    ),
    "columns": (
        Annotated[
            list[str] | None,
            typer.Option(help="columns by name: prompt=question,answer=reply or messages=chat; also system, id, ..."),
        ],
        None,
    ),
    "data_split": (
        Annotated[str, typer.Option("--data-split", help="split of a datasets directory or hub id; all: every one")],
        "train",
    ),
}


def reads_pool(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command(..., reading: dict)` with the options of a pool in place of `reading`, for typer to read."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in OPTIONS.items()
    ]
    kept = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "reading"]

    def call(**values: Any) -> Any:
        reading = {name: values.pop(name) for name in OPTIONS}
        reading["columns"] = parse_columns(reading["columns"] or [])
        reading["split"] = reading.pop("data_split")
        return command(**values, reading=reading)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*kept, *added]}
    return call


def pool_values(files: list[str], reading: dict[str, Any], option: str = "--pool") -> dict[str, Any]:
    """The files of an option, all named (NAME=FILE) or none, and how to read them, as a pool's plain values."""
    named = dict(f.split("=", 1) for f in files if "=" in f and not _is_path(f))
    if named and len(named) < len(files):
        raise ValueError(f"{option}: name all of the files (NAME=FILE) or none; got {', '.join(files)}")
    return {"files": named or list(files), **reading}


def pool_config(files: list[str], reading: dict[str, Any]) -> PoolConfig:
    return parse(PoolConfig, pool_values(files, reading), where="--pool")


def open_files(files: list[str], reading: dict[str, Any], cache: Path | None) -> Pool:
    return open_pool(pool_config(files, reading), cache)


def say_pools() -> None:
    """What became of the records of each pool that this command opened, imported now or found in the cache."""
    for account in opened.values():
        for line in lines_of(account):
            say(line)
    opened.clear()


def _is_path(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
