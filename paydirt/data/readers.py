"""Files to raw records, one at a time, each with the place it came from.

What enters: a path (JSONL, JSON, Parquet, CSV, TSV, gzip of each, a `datasets` directory) or a hub id. What leaves: an
iterator of `Row`s (see `lines`, `documents` and `tables`). Whatever a file can do wrong as a whole is a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from paydirt.data.documents import read_json, read_jsonl
from paydirt.data.lines import BadRecord, LeftOut, Row
from paydirt.data.tables import load_hub, read_csv, read_datasets, read_parquet, read_tsv, unread_splits

__all__ = ["BadRecord", "LeftOut", "Row", "load_hub", "read_rows", "unread_splits"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_tsv,
}
TABLES = (".parquet",)


def read_rows(path: str, split: str = "train") -> Iterator[Row]:
    """All records of a file, a `datasets` directory or a hub id; ValueError where it cannot be read at all."""
    if Path(path).is_dir():
        return _guarded(path, read_datasets(path, split))
    if is_hub_id(path):
        return read_datasets(path, split, hub=True)
    return _guarded(path, READERS[file_kind(path)](path))


def _guarded(path: str, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except OSError as error:
        raise ValueError(unreadable(path, error)) from None


def unreadable(path: str | Path, error: OSError) -> str:
    """What to say of a file that the system does not let us read."""
    return f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"


def is_hub_id(path: str) -> bool:
    """`owner/name` or `owner/name:config` that is no file here and does not look like one."""
    return not Path(path).exists() and bool(HUB_ID.fullmatch(path)) and _suffix(path) not in READERS


def file_kind(path: str) -> str:
    """The reader's name for an existing file, from its suffix."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; give an existing file, a `datasets` directory or a hub id owner/name")
    kind = _suffix(path)
    if kind not in READERS:
        raise ValueError(f"{path}: unknown kind of file; known: {', '.join(sorted(READERS))}, each also with .gz")
    return kind


def unit(path: str) -> str:
    """How places in this file are counted: ":" before a line number, ":row " before a table row."""
    return ":" if _suffix(path) in READERS and _suffix(path) not in TABLES else ":row "


def stem(path: str) -> str:
    """The name a source takes from its path: without folders, `.gz` and the file kind; of a hub id the name."""
    name = Path(path).name.removesuffix(".gz").split(":")[0]
    kind = Path(name).suffix
    return name.removesuffix(kind) if kind in READERS else name


def _suffix(path: str) -> str:
    return Path(Path(path).name.removesuffix(".gz")).suffix.lower()
