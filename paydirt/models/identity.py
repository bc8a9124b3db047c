"""Who a model is: digests of every file that decides its numbers, whatever its path and device are called.

Enters: a model, adapter or encoder directory, or a hub id with a revision. Leaves: 16 hex digits. All files are read
whole; what a large one contained is remembered by path, size, times and inode, so that a 70B model is read once. A hub id
counts by its commit: that of the local snapshot, else what the hub says, and loading is pinned to the same commit.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import cache_root, file_digest, fingerprint, write_atomic

log = logging.getLogger(__name__)

# Weights, configs, tokenizers, templates and code, in sub-folders too (a sentence encoder keeps its pooling in one).
DECIDING = {".safetensors", ".bin", ".json", ".txt", ".model", ".tiktoken", ".jinja", ".py"}
# What a training leaves beside a model: paths, dates and logs.
BOOKKEEPING = {"training_args.bin", "trainer_state.json", "optimizer.bin", "train_results.json", "all_results.json"}
OTHER_FOLDERS = ("checkpoint-", "global_step", ".", "runs", "__pycache__")  # never read by loading their parent
MARKS = ("config.json", "adapter_config.json", "modules.json", "tokenizer_config.json")  # one is in every snapshot
REMEMBERED = 1 << 24  # bytes from which a file's digest is kept: below, hashing takes milliseconds
SETTLED = 2.0  # seconds after which a file's time tells its later changes apart


def model_fingerprint(path: str, revision: str | None = None) -> str:
    """Identity of weights, config and tokenizer under `path`; an adapter's base counts, where it lies does not.

    A hub id that has no local snapshot and that the hub does not resolve counts by its name, with a warning.
    """
    root = Path(path)
    if root.is_dir():
        return _folder_fingerprint(root)
    commit = resolved_revision(path, revision)
    if commit is None:
        log.warning(
            "%s: no local directory, and its revision could not be resolved (no snapshot in the hub cache, hub not "
            "reached): its results are kept under its name, so a later change of the model goes unseen; give a revision",
            path,
        )
        return fingerprint({"hub": path, "revision": revision, "resolved": None})
    facts: dict[str, Any] = {"hub": path, "commit": commit}
    if adapter := _cached(path, "adapter_config.json", commit):
        facts["base"] = _base_fingerprint(_mapping(adapter))
    return fingerprint(facts)


def _folder_fingerprint(root: Path) -> str:
    parts: dict[str, Any] = {}
    for file in deciding_files(root):
        name = file.relative_to(root).as_posix()
        if name == "adapter_config.json":
            config = _mapping(file)
            parts["base"] = _base_fingerprint(config)
            parts[name] = fingerprint({k: v for k, v in config.items() if k != "base_model_name_or_path"})
        elif name == "config.json":
            # Without the path that the config was once loaded from.
            parts[name] = fingerprint({k: v for k, v in _mapping(file).items() if k != "_name_or_path"})
        else:
            parts[name] = remembered_digest(file)
    return fingerprint(parts)


def _base_fingerprint(adapter: dict[str, Any]) -> str:
    return model_fingerprint(adapter["base_model_name_or_path"], adapter.get("revision"))


def _mapping(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: cannot be read as JSON ({error}); copy or save the model again") from None
    if not isinstance(values, dict) or (file.name == "adapter_config.json" and not _names_base(values)):
        raise ValueError(f"{file}: is no config of a model (an adapter's names its base); copy or save the model again")
    return values


def _names_base(adapter: dict[str, Any]) -> bool:
    return isinstance(adapter.get("base_model_name_or_path"), str)


def deciding_files(root: Path) -> Iterator[Path]:
    """The files of a model directory that can change a number, sub-folders and links followed, in order of name."""
    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else sorted(n for n in names if not n.startswith(OTHER_FOLDERS))
        if real not in seen:
            yield from (Path(folder, f) for f in sorted(files) if Path(f).suffix in DECIDING and f not in BOOKKEEPING)
        seen.add(real)


def remembered_digest(file: Path) -> str:
    """SHA-256 of a whole file, read again only if its path, size, times or inode changed."""
    facts = os.stat(file)
    if facts.st_size < REMEMBERED:
        return file_digest(file)
    who = [os.path.realpath(file), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
    note = cache_root() / "digests" / fingerprint(who)
    try:
        known = note.read_text(encoding="utf-8")
        if len(known) == 64:
            return known
    except OSError:
        pass
    digest = file_digest(file)
    after = os.stat(file)
    # A file written this very moment can change again within one tick of its clock; it is read again next time.
    if time.time() - after.st_mtime > SETTLED and after.st_mtime_ns == facts.st_mtime_ns:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(note, digest)
        except OSError as error:
            log.warning("%s: the digest of %s is not remembered (%s)", note.parent, file, error.strerror)
    return digest


def is_adapter(path: str) -> bool:
    """An adapter directory is known by its `adapter_config.json`, never by its name."""
    return (Path(path) / "adapter_config.json").is_file()


def base_of(adapter: str) -> str:
    """The base model that an adapter was trained on."""
    return str(adapter_config(adapter)["base_model_name_or_path"])


def adapter_config(adapter: str) -> dict[str, Any]:
    """What PEFT wrote beside an adapter's weights."""
    return _mapping(Path(adapter) / "adapter_config.json")


@lru_cache(maxsize=256)
def resolved_revision(path: str, revision: str | None = None) -> str | None:
    """Commit of a hub id: the local snapshot's, else the hub's answer; None for a directory or where neither is known.

    Asked once a process, so that what was identified is what is loaded. A snapshot that is here is not brought up to
    date: give a newer revision for that.
    """
    if Path(path).exists():
        return None
    for name in MARKS:
        if found := _cached(path, name, revision):
            return found.relative_to(_snapshots(found)).parts[0]
    from huggingface_hub import HfApi

    try:
        return HfApi().model_info(path, revision=revision, timeout=10).sha
    except Exception as error:  # whatever a network can do: the caller says that the revision is unknown
        log.debug("%s: %s", path, error)
        return None


WEIGHTS, TOKENIZER, CONFIG = ("*.safetensors", "*.bin"), ("tokenizer*", "vocab*", "*.model"), ("config.json",)


def pinned(path: str, revision: str | None = None, wanted: tuple[str, ...] = WEIGHTS) -> dict[str, Any]:
    """Options for `from_pretrained`: the commit that identifies a hub id is the one that is loaded; {} for a directory.

    Where the local snapshot holds what is `wanted` (patterns, one of which must be there), the hub is not asked at all:
    loaders look for files that a model need not have, and ask for them again and again where nobody answers. ValueError, at
    once, for what is nowhere.
    """
    if Path(path).exists():
        return {}
    commit = resolved_revision(path, revision)
    if commit is None:
        raise ValueError("no such directory, no snapshot in the hub's cache here, and the hub does not know or answer")
    return {"revision": commit, "local_files_only": _has(path, commit, wanted)}


def fetched(path: str, revision: str | None = None) -> bool:
    """Whether the hub's cache here holds a snapshot of an id, without asking the hub."""
    return any(_cached(path, name, revision) for name in MARKS)


def _has(path: str, commit: str, wanted: tuple[str, ...]) -> bool:
    """Whether a local snapshot holds one of the patterns, and every part of weights that are in parts."""
    found = next((f for name in MARKS if (f := _cached(path, name, commit))), None)
    if found is None:
        return False
    folder = _snapshots(found) / commit
    for index in folder.rglob("*.index.json"):
        parts = _mapping(index).get("weight_map") or {}
        if any(not (index.parent / str(part)).exists() for part in set(parts.values())):
            return False
    return any(next(folder.rglob(pattern), None) for pattern in wanted)


def _cached(path: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(path, name, revision=revision)
    except HFValidationError:  # not an id at all, such as a path that does not exist
        return None
    return Path(found) if isinstance(found, str) else None


def _snapshots(file: Path) -> Path:
    return next(parent for parent in file.parents if parent.name == "snapshots")
