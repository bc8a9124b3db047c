"""An artifact is a directory that is whole or absent: written as `<name>.part`, promoted by one rename.

What enters: a stage name, its config, the fingerprints of its inputs and a function that fills a directory.
What leaves: an `Artifact`, whose `manifest.json` tells what made it and what it holds. The key (stage, version, config,
inputs) decides: the same key is not built again, another key is rebuilt, a `.part` of the same key is continued.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from paydirt import __version__
from paydirt.config import dump_yaml

MANIFEST = "manifest.json"
# Bookkeeping that differs between two runs of the same work (times, dates); it never enters a fingerprint.
UNFINGERPRINTED = {MANIFEST, "ledger.jsonl", "key", "lock", "config.yaml"}
RECORDED = ("torch", "transformers", "peft", "accelerate", "datasets", "sentence-transformers", "lm-eval", "numpy")


def fingerprint(value: Any) -> str:
    """16 hex digits of SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, streamed."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def cache_root() -> Path:
    """Where shared intermediate files live: `$PAYDIRT_CACHE` or `~/.cache/paydirt`."""
    return Path(os.environ.get("PAYDIRT_CACHE") or Path.home() / ".cache" / "paydirt")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write beside `path`, then rename over it, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data.encode() if isinstance(data, str) else data)
    os.replace(part, path)


@dataclass(frozen=True)
class Artifact:
    """A finished directory and its manifest. `fresh` is False when it was found, not built."""

    path: Path
    fresh: bool = False

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))

    @property
    def notes(self) -> dict[str, Any]:
        """Counts and facts that the stage left (drops, truncations, fallbacks)."""
        return self.manifest["notes"]

    @property
    def fingerprint(self) -> str:
        """Content hash over the output files, equal for equal bytes whenever they were made."""
        return self.manifest["fingerprint"]


def open_artifact(path: Path, stage: str | None = None) -> Artifact:
    """Open what a stage wrote; ValueError if it is not whole or not of that stage."""
    path = Path(path)
    if not (path / MANIFEST).is_file():
        part = path.with_name(path.name + ".part")
        remedy = f"it is unfinished ({part} exists): run its stage again" if part.exists() else "check the path"
        raise ValueError(f"{path}: not a finished paydirt artifact; {remedy}")
    artifact = Artifact(path)
    if stage and artifact.manifest["stage"] != stage:
        raise ValueError(f"{path}: holds the output of stage {artifact.manifest['stage']!r}, expected {stage!r}")
    return artifact


def build(
    out: Path,
    stage: str,
    config: dict[str, Any],
    inputs: dict[str, str],
    make: Callable[[Path], dict[str, Any] | None],
    identity: dict[str, Any] | None = None,
    collective: bool = False,
) -> Artifact:
    """Make the artifact `out`, unless it is there already with the same key.

    `config` is what `config.yaml` holds, enough to run the stage again. The key is made of `identity`, the part of the
    config that decides the outcome (default: all of it), and of `inputs`: a renamed input file changes nothing.
    `make(part)` fills the directory and returns notes for the manifest; it is called again on the same half-filled
    directory after a kill and must continue from what it finds. With `collective`, all ranks of a distributed run call
    `make` together; otherwise the first process to come makes the artifact and the others wait for it. Raises ValueError
    where `out` cannot be written or holds something that paydirt did not make.
    """
    out = Path(out).absolute()
    facts = {
        "stage": stage,
        "version": __version__,
        "config": config if identity is None else identity,
        "inputs": inputs,
    }
    key = fingerprint(facts)
    if found := _finished(out, key):
        return found
    if out.exists() and not _manifest(out) and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out}: exists and was not made by paydirt; choose another --out or remove it")
    part = out.with_name(out.name + ".part")
    if collective and int(os.environ.get("RANK", "0")) > 0:
        return _follow(out, part, key, make)
    with _locked(part):
        if found := _finished(out, key):  # another process finished it while we waited
            return found
        _keep_only_same_key(part, key)
        write_atomic(part / "config.yaml", dump_yaml({"stage": stage, **config}))
        started = time.time()
        notes = make(part) or {}
        _promote(part, out, stage, key, config, inputs, notes, started)
    return Artifact(out, fresh=True)


def _follow(out: Path, part: Path, key: str, make: Callable[[Path], dict[str, Any] | None]) -> Artifact:
    """What the other ranks of a distributed run do: the same work, while rank 0 alone locks, writes and promotes."""
    _wait(lambda: _read(part / "key") == key, f"{part}: rank 0 did not open it")  # what it finds there must be current
    make(part)
    _wait(lambda: _finished(out, key) is not None, f"{out}: rank 0 did not finish it")
    return Artifact(out)


def _wait(true: Callable[[], bool], failure: str) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{failure} within ten minutes after this rank was ready")


def _finished(out: Path, key: str) -> Artifact | None:
    return Artifact(out) if _manifest(out).get("key") == key else None


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artifact; {} where `path` is none. Other programs write a `manifest.json` too."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and {"stage", "key", "outputs"} <= manifest.keys() else {}


def _read(path: Path) -> str:
    """Text of a file, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Hold the half-made directory against other processes; the lock goes with a killed process."""
    try:
        part.mkdir(parents=True, exist_ok=True)
        handle = open(part / "lock", "w")  # noqa: SIM115 - held for the whole block
    except OSError as error:
        raise ValueError(f"{part.parent}: cannot write there ({error.strerror}); choose another --out") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _keep_only_same_key(part: Path, key: str) -> None:
    """Empty the half-made directory unless it is of the same key; ValueError where somebody else's files are in it."""
    note = part / "key"
    if _read(note) == key:
        return
    others = [child for child in part.iterdir() if child.name not in ("lock", "key", "key.part")]
    if others and not note.exists() and not _manifest(part):
        (part / "lock").unlink(missing_ok=True)
        raise ValueError(f"{part}: exists and was not made by paydirt; choose another --out or remove it")
    for child in others:
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    write_atomic(note, key)  # last: without its key the directory looks like a stranger's


def _promote(
    part: Path, out: Path, stage: str, key: str, config: dict, inputs: dict, notes: dict, started: float
) -> None:
    files = sorted(p for p in part.rglob("*") if p.is_file() and p.name not in UNFINGERPRINTED)
    outputs = {str(p.relative_to(part)): file_digest(p) for p in files}
    manifest = {
        "stage": stage,
        "key": key,
        "fingerprint": fingerprint(outputs),
        "config": config,
        "inputs": inputs,
        "notes": notes,
        "versions": versions(),
        "seconds": round(time.time() - started, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "outputs": outputs,
    }
    write_atomic(part / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
    (part / "lock").unlink(missing_ok=True)
    (part / "key").unlink(missing_ok=True)
    old = out.with_name(out.name + ".old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(out, old)
    os.rename(part, out)
    shutil.rmtree(old, ignore_errors=True)


def versions() -> dict[str, str]:
    """What ran: paydirt, Python and the libraries whose numbers enter results."""
    found = {"paydirt": __version__, "python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
