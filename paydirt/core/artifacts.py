"""An artifact is a directory that is whole or absent: written as `<name>.part`, promoted by one rename.

What enters: a stage name, its config, the fingerprints of its inputs and a function that fills a directory.
What leaves: an `Artifact`, whose `manifest.json` tells what made it and what it holds. The key (stage, versions, config,
inputs) decides: the same key is not built again, a `.part` of the same key is continued. What is finished is work that
somebody paid for, so another stage's output is never replaced unasked, nor, where a person named the place, another
config's (`Replace`); and nothing replaces what it is made of.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from paydirt import __version__
from paydirt.core.claims import SILENT, locked
from paydirt.core.config import differences, dump_yaml, moved, paths_in
from paydirt.core.files import (
    cache_root,
    file_digest,
    fingerprint,
    read_text,
    recover,
    remove_unfinished,
    replace_directory,
    write_atomic,
)
from paydirt.core.libraries import RECORDED, library_versions, versions
from paydirt.core.looking import looked

__all__ = [
    "MANIFEST",
    "RECORDED",
    "UNFINGERPRINTED",
    "Artifact",
    "Damaged",
    "Replace",
    "again",
    "build",
    "cache_root",
    "damaged",
    "file_digest",
    "fingerprint",
    "key_of",
    "library_versions",
    "open_artifact",
    "read_json",
    "reading",
    "refuse_artifact",
    "versions",
    "write_atomic",
]

MANIFEST = "manifest.json"
# Bookkeeping that differs between two runs of the same work (times, dates); it never enters a fingerprint.
UNFINGERPRINTED = {MANIFEST, "ledger.jsonl", "costs.jsonl", "key", "config.yaml"}
VERIFY = "PAYDIRT_VERIFY"  # set by `--verify`: contents are checked too whenever an artifact is opened

Replace = Literal["nothing", "same stage", "anything"]
"""Which finished output of another key may be replaced. "nothing": of the same stage and config alone, whose inputs or
versions have changed (a place that a person named); "same stage": any of that stage (a place of our own: the cache, a
study's folder); "anything": what a person asks for by `--force`, the same key included."""


@dataclass(frozen=True)
class Artifact:
    """A finished directory and its manifest. `fresh` is False when it was found, not built."""

    path: Path
    fresh: bool = False

    @cached_property
    def manifest(self) -> dict[str, Any]:
        found = _manifest(self.path)
        if not found:
            raise damaged(self.path, f"{MANIFEST} is not one of paydirt's")
        return found

    @cached_property
    def config(self) -> dict[str, Any]:
        """What made it, enough to make it again; paths of what was moved together with it lead to where it is now."""
        place = str(self.manifest.get("place") or "")
        return moved(self.manifest["config"], place, str(self.path.absolute())) if place else self.manifest["config"]

    @property
    def notes(self) -> dict[str, Any]:
        """Counts and facts that the stage left (drops, truncations, fallbacks)."""
        return self.manifest["notes"]

    @property
    def fingerprint(self) -> str:
        """Content hash over the output files, equal for equal bytes whenever they were made."""
        return self.manifest["fingerprint"]

    def faults(self, contents: bool = False) -> Iterator[str]:
        """What differs from what the stage left: files that are missing, of another size or, by `contents`, other bytes."""
        sizes = self.manifest.get("sizes", {})
        for name, digest in self.manifest["outputs"].items():
            file = self.path / name
            if not file.is_file():
                yield f"{name} is missing"
            elif name in sizes and file.stat().st_size != sizes[name]:
                yield f"{name} has {file.stat().st_size} bytes instead of {sizes[name]}"
            elif contents and file_digest(file) != digest:
                yield f"{name} has other contents than were written"

    def check(self, contents: bool = False) -> Artifact:
        """This artifact; ValueError naming what is damaged and the command that makes it again."""
        for fault in self.faults(contents or bool(os.environ.get(VERIFY))):
            raise damaged(self.path, fault)
        return self


class Damaged(ValueError):
    """An artifact is not as it was written."""


def damaged(path: Path, fault: str) -> Damaged:
    """The error that names the fault and the command that makes the artifact again."""
    return Damaged(f"{path}: damaged: {fault}; {again(path)}")


def again(path: Path) -> str:
    """The remedy: the command that makes an artifact again in its place."""
    place = shlex.quote(str(path))
    if (path / "config.yaml").is_file():
        return f"make it again: paydirt run {place}/config.yaml --out {place} --force"
    return "remove it and run what made it again"


@contextmanager
def reading(path: Path, what: str = "") -> Iterator[None]:
    """Around reading an artifact's file: what damage makes readers raise becomes the error that names it and the remedy."""
    from tokenize import TokenError  # of an array's damaged header

    import pyarrow as pa

    damage = (OSError, EOFError, LookupError, TypeError, AttributeError, ValueError, SyntaxError, TokenError,
              RecursionError)  # fmt: skip
    try:
        yield
    except Damaged:
        raise
    except (*damage, pa.ArrowException) as error:
        fault = f"{type(error).__name__}: {(str(error).strip() or 'no further word').splitlines()[0][:160]}"
        raise damaged(path, f"{what} cannot be read ({fault})" if what else f"cannot be read ({fault})") from error


def read_json(artifact: Path, name: str) -> dict[str, Any]:
    """A JSON object that a stage left; ValueError where it is damaged."""
    with reading(artifact, name):
        value = json.loads((artifact / name).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise damaged(artifact, f"{name} holds a {type(value).__name__} instead of an object")
    return value


def open_artifact(path: Path, stage: str | None = None) -> Artifact:
    """Open what a stage wrote; ValueError if it is not whole, not of that stage, or damaged."""
    path = Path(path)
    if not (path / MANIFEST).is_file():
        part = path.with_name(path.name + ".part")
        remedy = f"it is unfinished ({part} exists): run its stage again" if part.exists() else "check the path"
        raise ValueError(f"{path}: not a finished paydirt artifact; {remedy}")
    artifact = Artifact(path)
    if stage and artifact.manifest["stage"] != stage:
        raise ValueError(f"{path}: holds the output of stage {artifact.manifest['stage']!r}, expected {stage!r}")
    return artifact.check()


def build(
    out: Path,
    stage: str,
    config: dict[str, Any],
    inputs: dict[str, str],
    make: Callable[[Path], dict[str, Any] | None],
    identity: dict[str, Any] | None = None,
    collective: bool = False,
    *,
    version: int = 1,
    libraries: Sequence[str] = (),
    replace: Replace = "same stage",
    replay: str | None = None,
) -> Artifact:
    """Make the artifact `out`, unless it is there already with the same key.

    `config` is what `config.yaml` holds, enough to run the stage again (as stage `replay`, where its name is another than
    that of what is made). The key is made of `identity`, the part of the config that decides the outcome (default: all of
    it), of `inputs` (a renamed input file changes nothing), of the stage's `version`, to be raised when its code gives
    other bytes, and of the versions of the `libraries` whose numbers enter. `make(part)` fills the directory and returns
    notes for the manifest; it is called again on the same half-filled directory after a kill and must continue from what
    it finds. With `collective`, all ranks of a distributed run call `make` together; otherwise the first process to come
    makes the artifact and the others, on other machines too, wait for it, or go on where it died. A name of `out` that
    holds {key} gets the key there: a place for every content, and nothing to replace. Raises
    ValueError where `out` cannot be written, or holds what must not be replaced (see `Replace`).
    """
    key = key_of(stage, config if identity is None else identity, inputs, version, libraries)
    out = Path(out).absolute()
    out = out.with_name(out.name.replace("{key}", key))
    before = _stamp(out)
    look = looked(stage)
    forced = replace == "anything"  # made again even where it seems to be there: damage may be what it is asked for
    if not forced and (found := _finished(out, key)):
        if look is not None:
            look.found.append(found)
        return found
    _refuse(out, stage, config, replace)
    part = out.with_name(out.name + ".part")
    if look is not None:
        look.miss(out, replay or stage, config, read_text(part / "key") == key)
    if collective and int(os.environ.get("RANK", "0")) > 0:
        return _follow(out, part, key, make, before)
    with locked(out) as claim:
        recover(out, out.with_name(out.name + ".old"))
        if not forced and (found := _finished(out, key)):  # another process finished it while we waited
            return found
        _refuse(out, stage, config, replace)
        if not forced and _finished(part, key):  # all was made, then a kill came before the rename
            _rename(part, out)
            return Artifact(out, fresh=True)
        _keep_only_same_key(part, key)
        write_atomic(part / "config.yaml", dump_yaml({"stage": replay or stage, **config}))
        started = time.time()
        notes = make(part) or {}
        if not claim.holds():
            raise ValueError(
                f"{out}: another machine took over after {SILENT:.0f} s of silence; run it again for its work"
            )
        _promote(part, out, stage, key, config, inputs, notes, started)
    return Artifact(out, fresh=True)


def key_of(stage: str, identity: dict[str, Any], inputs: dict[str, str], version: int, libraries: Sequence[str]) -> str:
    """The key of an artifact: everything that decides its bytes."""
    code = [__version__, version]
    versions = library_versions(libraries)
    return fingerprint({"stage": stage, "version": code, "libraries": versions, "config": identity, "inputs": inputs})


def _follow(
    out: Path, part: Path, key: str, make: Callable[[Path], dict[str, Any] | None], before: tuple[int, int] | None
) -> Artifact:
    """What the other ranks of a distributed run do: the same work, while rank 0 alone locks, writes and promotes.

    `before` is the output's stamp from before the work, which one of the same key that is made anew does not have.
    """

    def opened() -> bool:  # what a rank finds there must be current
        return read_text(part / "key") == key and not (part / MANIFEST).exists()

    def done() -> bool:
        return _stamp(out) != before and _finished(out, key) is not None

    _wait(lambda: opened() or done(), f"{part}: rank 0 did not open it")
    if not done():  # rank 0 may have found all made but for the rename
        make(part)
        _wait(done, f"{out}: rank 0 did not finish it")
    return Artifact(out)


def _stamp(out: Path) -> tuple[int, int] | None:
    """Which making of an output this is: inode and time of its manifest; None where there is none."""
    try:
        found = (out / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _wait(true: Callable[[], bool], failure: str) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{failure} within ten minutes after this rank was ready")


def _finished(out: Path, key: str) -> Artifact | None:
    """The artifact of that key, if it is there as it was written; a damaged one is named and will be made again."""
    if _manifest(out).get("key") != key:
        return None
    artifact = Artifact(out)
    fault = next(artifact.faults(bool(os.environ.get(VERIFY))), None)
    if fault is not None:
        from paydirt.core.progress import say

        say(f"{out}: damaged: {fault}; it is made again")
        return None
    return artifact


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artifact; {} where `path` is none. Other programs write a `manifest.json` too."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    texts, objects = ("stage", "key", "fingerprint"), ("config", "inputs", "notes", "outputs")
    ours = dict.fromkeys(texts, str) | dict.fromkeys(objects, dict)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("sizes", {}), dict):
        return {}
    return manifest if all(isinstance(manifest.get(name), kind) for name, kind in ours.items()) else {}


def place_of(path: Path) -> str:
    """Where the artifact that lies at `path` was made, as far as its manifest can tell."""
    return str(_manifest(path).get("place") or Path(path).absolute())


def refuse_artifact(out: Path) -> None:
    """ValueError where `out`, which shall hold a study, is a finished artifact."""
    if found := _manifest(Path(out)):
        raise ValueError(
            f"{out}: holds the finished output of stage {found['stage']!r}, not a study; choose another --out"
        )


def _refuse(out: Path, stage: str, config: dict[str, Any], replace: Replace) -> None:
    """ValueError where `out` holds what may not be replaced, or what the new output would be made of."""
    found = _manifest(out)
    if (
        not found
        and replace == "anything"
        and (out / MANIFEST).is_file()
        and read_text(out / "config.yaml")[:6] == "stage:"
    ):
        found = {"stage": stage, "config": {}}  # ours, with a damaged manifest
    if not found:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ValueError(f"{out}: exists and was not made by paydirt; choose another --out or remove it")
        return
    inside = next((path for path in paths_in(config) if Path(os.path.abspath(path)).is_relative_to(out)), None)
    if inside is not None:
        raise ValueError(f"{out}: holds what this is made of ({inside}) and would be deleted; choose another --out")
    if replace == "anything":
        return
    if found["stage"] != stage:
        raise ValueError(
            f"{out}: holds the finished output of stage {found['stage']!r}; choose another --out, or --force to replace it"
        )
    if replace == "nothing" and (changes := differences(found["config"], json.loads(json.dumps(config)))):
        shown = "; ".join(changes[:3]) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")
        raise ValueError(
            f"{out}: holds the finished output of another config ({shown}); choose another --out, or --force to replace it"
        )


def _keep_only_same_key(part: Path, key: str) -> None:
    """Empty the half-made directory unless it is of the same key; ValueError where somebody else's files are in it."""
    try:
        part.mkdir(exist_ok=True)
    except OSError as error:
        raise ValueError(f"{part}: cannot write there ({error.strerror}); choose another --out") from None
    note = part / "key"
    if read_text(note) == key and not (part / MANIFEST).exists():
        return
    others = [child for child in part.iterdir() if child.name != "key" and not child.name.startswith(".writing-")]
    if others and not note.exists() and not _manifest(part):
        raise ValueError(f"{part}: exists and was not made by paydirt; choose another --out or remove it")
    for child in sorted(others, key=lambda child: child.name == MANIFEST):  # last, so that no rank takes it for open
        shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
    write_atomic(note, key)  # last: without its key the directory looks like a stranger's


def _promote(
    part: Path, out: Path, stage: str, key: str, config: dict, inputs: dict, notes: dict, started: float
) -> None:
    remove_unfinished(part)
    files = sorted(p for p in part.rglob("*") if p.is_file() and p.name not in UNFINGERPRINTED)
    outputs = {str(p.relative_to(part)): file_digest(p) for p in files}
    manifest = {
        "stage": stage,
        "key": key,
        "fingerprint": fingerprint(outputs),
        "config": config,
        "place": str(out),
        "inputs": inputs,
        "notes": notes,
        "versions": versions(),
        "seconds": round(time.time() - started, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "outputs": outputs,
        "sizes": {str(p.relative_to(part)): p.stat().st_size for p in files},
    }
    write_atomic(part / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    _rename(part, out)


def _rename(part: Path, out: Path) -> None:
    (part / "key").unlink(missing_ok=True)
    replace_directory(part, out, out.with_name(out.name + ".old"))
