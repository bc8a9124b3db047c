"""What lies in a cache (or in a study's `shared`): entries by kind with size and age, who needs them, and removing them.

An entry is what one key made: `<root>/<kind>/<name>`, an artifact, a column or a small file. Names that begin or end as
half-written things do are leftovers of processes that failed or were killed. An entry is removed under its own claim, so
what another process holds stays, and under a name of its own, so that nobody finds half of it. Everything here can be made
again from what made it; what finished artifacts of a study refer to stays unless asked for by force.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paydirt.core.claims import counts, held
from paydirt.core.files import WRITING

MANIFEST = "manifest.json"
REMOVING = ".removing-"
WORLD = "world-"  # how the built-in worlds' folders begin
LEFT = (".part", ".old", ".adding")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Entry:
    """`age` in seconds since its last change; `leftover` of a process that did not finish; who `needs` it, if anybody."""

    path: Path
    kind: str
    bytes: int
    age: float
    leftover: bool = False
    needed_by: str = ""


def entries(root: Path, needed: dict[Path, str] | None = None) -> list[Entry]:
    """All of a cache, by kind and name. Claims are no entries: they go with the process."""
    found, now = [], time.time()
    for kind, path in _places(root):
        size, changed = _measure(path)
        left = path.name.endswith(LEFT) or path.name.startswith((WRITING, REMOVING))
        found.append(Entry(path, kind, size, max(0.0, now - changed), left, (needed or {}).get(path, "")))
    return found


def _places(root: Path) -> Iterator[tuple[str, Path]]:
    """Kind and path of every entry: `<kind>/<name>`, or a whole world, which stands by itself."""
    for top in _inside(root):
        if top.name.startswith(WORLD) and (top.is_dir() or top.name.endswith(LEFT)):
            yield "worlds", top
        elif top.is_dir():
            yield from ((top.name, path) for path in _inside(top) if not _is_lock(path))


def _is_lock(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".lock")


def chosen(
    found: Iterable[Entry],
    *,
    kinds: Iterable[str] = (),
    older: float | None = None,
    over: int | None = None,
    leftovers: bool = False,
    unreferenced: bool = False,
) -> list[Entry]:
    """Those of every condition that is given; with `over` bytes, the oldest of them until the rest of all is no more."""
    all_of = list(found)
    kinds, rest = set(kinds), sum(entry.bytes for entry in all_of)
    some = [
        entry
        for entry in all_of
        if (not kinds or entry.kind in kinds)
        and (older is None or entry.age >= older)
        and (not leftovers or entry.leftover)
        and (not unreferenced or not entry.needed_by)
    ]
    if over is None:
        return some
    out = []
    for entry in sorted(some, key=lambda e: -e.age):
        if rest <= over:
            break
        out.append(entry)
        rest -= entry.bytes
    return out


def remove(entry: Entry) -> str:
    """Remove an entry; "" or why it stays: in use, or the system's refusal."""
    base = entry.path
    for ending in LEFT:
        base = base.with_name(base.name.removesuffix(ending))
    if base.name.startswith((WRITING, REMOVING)):
        return _gone(entry.path)
    with held(base) as mine:
        if not mine or _claimed(entry.path):
            return "in use"
        return _gone(entry.path)


def _gone(path: Path) -> str:
    aside = path.with_name(f"{REMOVING}{uuid.uuid4().hex[:12]}")
    try:
        os.rename(path, aside)
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        else:
            aside.unlink()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _claimed(path: Path) -> bool:
    """Whether a process that lives is filling this column."""
    return any(counts(claim) for claim in (path / "claims").glob("*"))


def needs(root: Path, places: Iterable[Path]) -> dict[Path, str]:
    """Entries of `root` that finished artifacts under `places` refer to, each with one of those that do.

    An artifact refers to what its inputs are fingerprints of, to the columns and tunings that it was charged for, and to
    every path in its config that lies in the cache; and so on from there. ValueError for a place that is not there.
    """
    root = Path(root).absolute()
    known = _identities(root)
    found: dict[Path, str] = {}
    queue: list[tuple[Path, str]] = []
    for place in (Path(place).absolute() for place in places):
        if not place.exists():
            raise ValueError(f"{place}: no such directory; give a study, or an artifact whose needs shall stay")
        manifests = [place / MANIFEST] if (place / MANIFEST).is_file() else sorted(place.rglob(MANIFEST))
        for manifest in manifests:
            # What a study shares with itself is asked about, and does not ask.
            if manifest.parent.name.endswith(LEFT) or (
                manifest.is_relative_to(root) and not place.is_relative_to(root)
            ):
                continue
            queue += [(entry, str(manifest.parent)) for entry in _wanted(manifest.parent, root, known)]
    while queue:
        entry, who = queue.pop()
        if entry not in found:
            found[entry] = who
            queue += [(other, who) for other in _wanted(entry, root, known)]
    return found


def _wanted(artifact: Path, root: Path, known: Callable[[set[str]], list[Path]]) -> list[Path]:
    """Entries that an artifact or a column of its own refers to."""
    facts = _read(artifact / MANIFEST) or _read(artifact / "column.json")
    if not facts:
        return []
    charges = facts.get("notes", {}).get("charges") if isinstance(facts.get("notes"), dict) else None
    out = [root / name for name in charges or {} if isinstance(name, str)]
    out += [place for text in _texts(facts) if (place := _entry_of(text, root)) is not None]
    inputs = facts.get("inputs")
    if isinstance(inputs, dict):
        out += known({value for value in inputs.values() if isinstance(value, str)})
    own = _entry_of(str(artifact.absolute()), root)
    return [path for path in dict.fromkeys(out) if path != own and path.exists()]


def _identities(root: Path) -> Callable[[set[str]], list[Path]]:
    """Entries that stand for some of a set of fingerprints: their own, a pool's of its content, the encoding of both."""
    own: dict[str, list[Path]] = {}
    tokens: list[tuple[set[str], Path]] = []
    for kind, path in _places(root):
        facts = _read(path / MANIFEST) if path.is_dir() else {}
        notes = facts.get("notes") if isinstance(facts.get("notes"), dict) else {}
        for value in (facts.get("fingerprint"), (notes or {}).get("fingerprint")):
            if isinstance(value, str):
                own.setdefault(value, []).append(path)
        if kind == "tokens":
            spec = _read(path / "column.json").get("facts") or {}
            pool = spec.get("pool") or {}
            both = {str(pool.get("fingerprint")), str(spec.get("encoder"))}
            if len(both) == 2 and "None" not in both:
                tokens.append((both, path))

    def known(values: set[str]) -> list[Path]:
        return [p for value in values for p in own.get(value, [])] + [p for both, p in tokens if both <= values]

    return known


def _entry_of(text: str, root: Path) -> Path | None:
    """`<root>/<kind>/<name>` of a path within."""
    if not os.path.isabs(text):
        return None
    try:
        parts = Path(text).relative_to(root).parts
    except ValueError:
        return None
    if parts and parts[0].startswith(WORLD):
        return root / parts[0]
    return root / parts[0] / parts[1] if len(parts) > 1 else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _measure(path: Path) -> tuple[int, float]:
    """Bytes of all files, links not followed, and the time of the last change."""
    total, changed = 0, 0.0
    for place in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
        try:
            facts = place.lstat()
        except OSError:
            continue
        total += 0 if place.is_dir() else facts.st_size
        changed = max(changed, facts.st_mtime)
    return total, changed


def bytes_of(text: str) -> int:
    """`20GB`, `500 MB`, `1e9` in bytes; ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kKmMgGtT]?[bB]?)\s*", text)
    try:
        assert match is not None
        unit = match.group(2).upper().removesuffix("B") + "B"
        return int(float(match.group(1)) * UNITS[unit])
    except (AssertionError, KeyError, ValueError, OverflowError):
        raise ValueError(f"{text!r} is no size; give it as 20GB, 500MB or a number of bytes") from None


def seconds_of(text: str) -> float:
    """`30d`, `12h`, `90m`, `45s`, `2w` in seconds; ValueError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhdw])\s*", text.lower())
    if match is None:
        raise ValueError(f"{text!r} is no age; give it as 30d, 12h, 90m or 45s")
    return float(match.group(1)) * TIMES[match.group(2)]


def age_words(seconds: float) -> str:
    """`12 d`, `3 h`, `5 min`, `20 s`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
