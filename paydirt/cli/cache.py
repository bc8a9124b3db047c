"""`paydirt cache`: what lies in the cache, how large and how old it is, and removing what is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from paydirt.cli.shown import console
from paydirt.core.artifacts import cache_root
from paydirt.core.units import size

if TYPE_CHECKING:
    from paydirt.core.cache import Entry

OWN = ("scores", "selections", "models", "evaluations", "studies")  # what the API made for a person, in its own right


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("cache")(cache)


def cache(
    place: Annotated[
        Path | None, typer.Option("--cache", help="the cache, or a study's `shared`; default $PAYDIRT_CACHE")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="only this kind, such as tokens or gradients; repeat")] = None,
    older_than: Annotated[str | None, typer.Option(help="only what has not changed for 30d, 12h, 90m")] = None,
    over: Annotated[
        str | None, typer.Option(help="only the oldest, until the whole cache is no larger than 20GB, 500MB")
    ] = None,
    leftovers: Annotated[
        bool, typer.Option("--leftovers", help="only what failed or killed runs left unfinished")
    ] = False,
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="only what no finished artifact here or of a --study refers to")
    ] = False,
    study: Annotated[
        list[Path] | None, typer.Option(help="a study or artifact; what its finished artifacts need stays; repeat")
    ] = None,
    entries: Annotated[bool, typer.Option("--entries", help="a line for each entry, not for each kind")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="remove what is chosen; choose by the options above, or --all")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="choose everything")] = False,
    force: Annotated[bool, typer.Option("--force", help="remove also what a --study needs")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --prune: say what would go, and remove nothing")
    ] = False,
) -> None:
    """List, size and prune the cache: pools, tokens, columns, tuned models, all of which can be made again.

    What another process holds is never removed, nor, without --force, what a finished artifact of a --study still needs.
    """
    from paydirt.core import cache as shelf

    root = (place or cache_root()).absolute()
    if prune and not (kind or older_than or over or leftovers or unreferenced or everything):
        raise ValueError(
            "say what to remove: --older-than 30d, --over 20GB, --kind tokens, --leftovers, --unreferenced, or --all"
        )
    if dry_run and not prune:
        raise ValueError("--dry-run goes with --prune; without it nothing is removed")
    needed = shelf.needs(root, study or [])
    if unreferenced:
        own = [root / name for name in OWN if (root / name).is_dir()]
        needed = {**_own_needs(root, own), **needed}
    found = shelf.entries(root, needed)
    known = sorted({entry.kind for entry in found})
    for name in kind or []:
        if name not in known:
            raise ValueError(f"--kind {name}: nothing of that kind here; there are {', '.join(known) or 'none'}")
    some = shelf.chosen(
        found,
        kinds=kind or [],
        older=shelf.seconds_of(older_than) if older_than else None,
        over=shelf.bytes_of(over) if over else None,
        leftovers=leftovers,
        unreferenced=unreferenced,
    )
    if prune:
        _prune(some, force, dry_run)
        return
    console.print(f"{root}: {len(found):,} entries, {_bytes(found)}", markup=False, soft_wrap=True)
    console.print(_entries(some) if entries else _kinds(some))
    left = [entry for entry in found if entry.leftover]
    if left:
        console.print(
            f"{len(left):,} leftovers of failed or killed runs, {_bytes(left)}; a run that is started again goes on from "
            "them; --leftovers --older-than 1d --prune removes those of yesterday",
            markup=False,
            soft_wrap=True,
        )


def _own_needs(root: Path, own: list[Path]) -> dict[Path, str]:
    """What the API's artifacts in the cache need, they themselves included."""
    from paydirt.core import cache as shelf

    there = [path for folder in own for path in sorted(folder.iterdir()) if not path.name.endswith(shelf.LEFT)]
    finished = [path for path in there if (path / shelf.MANIFEST).is_file() or path.parent.name == "studies"]
    return {**shelf.needs(root, finished), **dict.fromkeys(finished, "itself")}


def _prune(some: Sequence[Entry], force: bool, dry_run: bool) -> None:
    from paydirt.core import cache as shelf

    kept = [] if force else [entry for entry in some if entry.needed_by]
    going = [entry for entry in some if force or not entry.needed_by]
    stays: dict[str, int] = {}
    gone = []
    for entry in going:
        why = "" if dry_run else shelf.remove(entry)
        if why:
            stays[why] = stays.get(why, 0) + 1
        else:
            gone.append(entry)
    if dry_run and gone:
        console.print(_entries(gone))
    verb = "would be removed" if dry_run else "removed"
    console.print(f"{len(gone):,} entries {verb}, {_bytes(gone)}", markup=False, soft_wrap=True)
    for why, count in stays.items():
        console.print(f"  {count:,} stay: {why}", markup=False, soft_wrap=True)
    for entry in kept[:5]:
        console.print(
            f"  {entry.kind}/{entry.path.name} stays: {entry.needed_by} needs it", markup=False, soft_wrap=True
        )
    if len(kept) > 5:
        console.print(
            f"  and {len(kept) - 5:,} more that are needed (--force removes them)", markup=False, soft_wrap=True
        )


def _kinds(some: Sequence[Entry]) -> Table:
    from paydirt.core.cache import age_words

    table = _table("kind", "entries", "size", "newest", "oldest", "leftovers", "needed")
    for kind in sorted({entry.kind for entry in some}):
        mine = [entry for entry in some if entry.kind == kind]
        ages = [entry.age for entry in mine]
        left, needed = sum(e.leftover for e in mine), sum(bool(e.needed_by) for e in mine)
        table.add_row(kind, f"{len(mine):,}", _bytes(mine), age_words(min(ages)), age_words(max(ages)), str(left or ""),
                      str(needed or ""))  # fmt: skip
    return table


def _entries(some: Sequence[Entry]) -> Table:
    from paydirt.core.cache import age_words

    table = _table("entry", "size", "age", "state")
    for entry in sorted(some, key=lambda e: -e.bytes):
        state = "leftover" if entry.leftover else f"needed by {entry.needed_by}" if entry.needed_by else ""
        table.add_row(f"{entry.kind}/{entry.path.name}", _bytes([entry]), age_words(entry.age), state)
    return table


def _table(*names: str) -> Table:
    table = Table()
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number == 0 or name == "state" else "right")
    return table


def _bytes(some: Sequence[Entry]) -> str:
    return size(float(sum(entry.bytes for entry in some))) or "0 bytes"
