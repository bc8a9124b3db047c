"""What a pool is made of: its config, the files that it names, and the digests that decide whether it is imported again."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from paydirt.core.artifacts import file_digest, fingerprint, write_atomic
from paydirt.core.config import Config, PathText
from paydirt.core.registry import did_you_mean
from paydirt.data.columns import check_columns
from paydirt.data.forms import FormName
from paydirt.data.readers import READERS, file_kind, is_hub_id, load_hub, stem, unreadable

# A file changed less than this before we looked may change again within the clock's grain; its digest is not kept.
SETTLED_SECONDS = 2.0
ID_KEYS = ("id", "idx", "uuid")
SOURCE_KEYS = ("source", "dataset")


class PoolConfig(Config):
    """Where the candidates come from and how to read them."""

    files: dict[str, PathText] | list[PathText] | PathText = Field(
        description="name: path (the name becomes the source), or paths, globs, folders, a datasets directory, a hub id"
    )
    form: FormName = Field("auto", description="form of the records; auto detects it for each file and states it")
    on_bad: Literal["raise", "skip"] = Field("raise", description="a bad record stops the import, or is counted")
    prefix_ids: bool = Field(False, description="make ids unique across sources: <source>:<id>")
    split: str = Field("train", description="split of datasets directories and hub ids; all: every one of a directory")
    columns: dict[str, str] = Field(
        {}, description="what the records call things, such as {prompt: question, answer: answers.text.0}"
    )

    @model_validator(mode="after")
    def _mapping(self) -> PoolConfig:
        check_columns(self.columns, self.form)
        return self


class SourceFile(NamedTuple):
    """A path; `source` names its records, and overrules the name they carry where the user gave it (`named`)."""

    path: str
    source: str
    named: bool


def source_files(config: PoolConfig) -> list[SourceFile]:
    """The files of a pool with the source each gives its records; globs and folders are spelled out, sorted."""
    if isinstance(config.files, dict):
        found = [SourceFile(p, name, True) for name, path in config.files.items() for p in _expand(path)]
    else:
        paths = [config.files] if isinstance(config.files, str) else config.files
        found = [SourceFile(p, stem(p), False) for path in paths for p in _expand(path)]
    if not found:
        raise ValueError("the pool names no files; give `files`")
    repeated = [file.path for file in found if sum(other.path == file.path for other in found) > 1]
    if repeated:
        raise ValueError(f"{repeated[0]}: named twice in the pool's files; name it once")
    return found


def _expand(path: str) -> list[str]:
    """The files that a path, folder or glob names; ValueError where there are none or the system refuses."""
    try:
        path.encode()
        return _found(os.path.expanduser(path))
    except OSError as error:
        raise ValueError(unreadable(path, error)) from None
    except UnicodeEncodeError:
        raise ValueError(f"{path!r}: the path is not UTF-8; rename the file") from None


def _found(path: str) -> list[str]:
    if not path or "\0" in path:
        raise ValueError(f"{path!r}: no path of a file; give an existing file, a folder or a hub id owner/name")
    folder = Path(path)
    if folder.is_dir():
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            return [path]
        inside = sorted(str(p) for p in folder.iterdir() if Path(p.name.removesuffix(".gz")).suffix.lower() in READERS)
        if not inside:
            raise ValueError(
                f"{path}: neither a datasets directory nor a folder with {', '.join(sorted(READERS))} files"
            )
        return inside
    if not folder.exists() and glob.has_magic(path):
        matches = sorted(glob.glob(path))
        if not matches:
            raise ValueError(f"{path}: no file matches")
        return matches
    if is_hub_id(path) and folder.parent.is_dir() and str(folder.parent) != ".":
        near = did_you_mean(folder.name, [p.name for p in folder.parent.iterdir()])
        raise ValueError(f"{path}: no such file in the folder {folder.parent}; {near}")
    if not is_hub_id(path):
        file_kind(path)  # missing or unknown files are named before anything is read
    return [path]


def digest(path: str, split: str, cache: Path) -> str:
    """What the import is keyed by: bytes of a file or folder, the library's own fingerprint of a hub set."""
    if is_hub_id(path):
        return str(load_hub(path, split)._fingerprint)
    try:
        if Path(path).is_dir():
            inside = sorted(p for p in Path(path).rglob("*") if p.is_file())
            return fingerprint([[str(p.relative_to(path)), _known_digest(p, cache)] for p in inside])
        return _known_digest(Path(path), cache)
    except OSError as error:
        raise ValueError(unreadable(path, error)) from None


def _known_digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file, remembered by path, size and time of change so that a large pool opens at once."""
    stat = path.stat()
    state = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino]
    note = cache / "digests" / f"{fingerprint(state)}"
    if note.is_file():
        return note.read_text()
    digest = file_digest(path)
    if time.time() - stat.st_mtime > SETTLED_SECONDS:
        with contextlib.suppress(OSError):  # an unwritable cache is named where the pool itself is written
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(note, digest)
    return digest
