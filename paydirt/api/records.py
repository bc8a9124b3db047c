"""Records in memory as a file in the cache, named by its content: pools and targets are then read by the one importer.

What enters: a `datasets.Dataset`, a DataFrame, an Arrow table, or any iterable of mappings. What leaves: the path of a
JSONL file with one record a line, in the same order; equal records give the same file, which is written once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import cache_root
from paydirt.core.progress import say

BATCH = 1024


def is_path(records: Any) -> bool:
    """Whether records are named by one path, a list of paths, or names with paths."""
    if isinstance(records, str | os.PathLike):
        return True
    if isinstance(records, Mapping):
        records = list(records.values())
    return (
        isinstance(records, list | tuple) and bool(records) and all(isinstance(r, str | os.PathLike) for r in records)
    )


def paths(records: Any) -> Any:
    """Paths as text, in the shape that they came in."""
    if isinstance(records, Mapping):
        return {str(name): os.fspath(path) for name, path in records.items()}
    return [os.fspath(records)] if isinstance(records, str | os.PathLike) else [os.fspath(path) for path in records]


def splits(records: Any, split: str) -> Any:
    """Of a DatasetDict one split, or `all` of them one after another; anything else as it is. ValueError names them."""
    if f"{type(records).__module__.split('.')[0]}.{type(records).__name__}" != "datasets.DatasetDict":
        return records
    if split == "all":
        return (row for name in records for row in rows(records[name]))
    if split not in records:
        raise ValueError(
            f"no split {split!r} in the DatasetDict: it holds {', '.join(records)}; name one by split, or all"
        )
    if others := [name for name in records if name != split]:
        say(
            f"the split {split} of the DatasetDict is read; not read: {', '.join(others)} (split='all' takes every one)"
        )
    return records[split]


def written(records: Any, name: str) -> Path:
    """The file `<name>.jsonl` that holds the records; the name is the source of those that name none."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"name {name!r}: a name is made of letters, digits, '.', '_' and '-'")
    root = cache_root() / "records"
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=root, prefix=".writing-")
    except OSError as error:
        raise ValueError(f"{root}: cannot write there ({error.strerror}); set PAYDIRT_CACHE to another place") from None
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for number, record in enumerate(rows(records)):
                line = _line(number, record)
                digest.update(line)
                file.write(line)
        place = root / digest.hexdigest()[:32] / f"{name}.jsonl"
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            os.replace(unfinished, place)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return place


def rows(records: Any) -> Iterator[Any]:
    """Records one at a time, tables in batches; ValueError for what holds none, or several tables."""
    import pyarrow as pa

    kind = f"{type(records).__module__.split('.')[0]}.{type(records).__name__}"
    if kind == "datasets.DatasetDict":
        raise ValueError(
            f"a DatasetDict holds the splits {', '.join(records)}; name one by split, or give d[{next(iter(records))!r}]"
        )
    if kind == "pandas.DataFrame":
        try:
            records = pa.Table.from_pandas(records, preserve_index=False)
        except pa.ArrowException as error:
            raise ValueError(f"the DataFrame has a column of several types ({error.args[0]}); make it one") from None
    if isinstance(records, pa.Table):
        for batch in records.to_batches(max_chunksize=BATCH):
            yield from batch.to_pylist()
    elif kind == "datasets.Dataset":
        for batch in records.with_format("arrow").iter(batch_size=BATCH):
            yield from batch.to_pylist()
    elif isinstance(records, Iterable) and not isinstance(records, Mapping):
        yield from records
    else:
        raise ValueError(
            "records are a datasets.Dataset, a list of dicts, a DataFrame, a path or a hub id, "
            f"not a {type(records).__name__}"
        )


def _line(number: int, record: Any) -> bytes:
    """A record as JSON; what JSON does not know becomes a list (arrays) or text (dates, decimals)."""
    if not isinstance(record, Mapping):
        raise ValueError(f"record {number}: expected a mapping of fields to values, found a {type(record).__name__}")
    try:
        text = json.dumps(dict(record), ensure_ascii=False, default=_known)
    except (TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"record {number}: cannot be written as JSON ({error})") from None
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:  # half a surrogate pair: the importer names it with its place
        return f"{json.dumps(dict(record), default=_known)}\n".encode()


def _known(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
