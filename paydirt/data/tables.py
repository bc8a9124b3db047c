"""Tables to rows: CSV and TSV, Parquet, directories and hub ids of `datasets`; one batch of rows alive at a time.

Gzipped Parquet is held whole. A fault of the table itself (quoting, truncation, columns of one name) is a ValueError.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from paydirt.data.lines import GZIP_MAGIC, BadRecord, Row, text_lines, whole_bytes

BATCH_ROWS = 1024
ALL = "all"
# What Arrow and `datasets` raise for bytes that are not what they should be, and for values beyond Python's types.
DAMAGE = (pa.ArrowException, OSError, OverflowError, ValueError, TypeError, KeyError, MemoryError)


def _separated(path: str, delimiter: str) -> Iterator[Row]:
    """Rows under a header line. An empty cell is an empty text; a row with too few or too many cells is bad."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader(text_lines(path), strict=True, delimiter=delimiter)
    header: list[str] = []
    line = 1
    while True:
        line = reader.line_num + 1  # a quoted cell may span lines; the record is named by its first
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            kind = "CSV" if delimiter == "," else "TSV"
            raise ValueError(f"{path}:{line}: malformed {kind}: {error}; fix the quoting") from None
        if not header:
            header = cells
            _check_names(f"{path}:{line}", header)
        elif not cells:
            continue  # a blank line
        elif len(cells) != len(header):
            detail = f"row has {len(cells)} cells, the header names {len(header)} columns"
            yield Row(line, BadRecord("wrong number of cells", detail), "")
        else:
            record = dict(zip(header, cells))
            yield Row(line, record, json.dumps(record, ensure_ascii=False))


read_csv = partial(_separated, delimiter=",")
read_tsv = partial(_separated, delimiter="\t")


def _check_names(place: str, names: list[str]) -> None:
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"{place}: two columns are called {double[:80]!r}; rename one, since only one could be read")


def read_parquet(path: str) -> Iterator[Row]:
    with open(path, "rb") as handle:
        zipped = handle.read(2) == GZIP_MAGIC
    source: Any = io.BytesIO(whole_bytes(path)) if zipped else path
    try:
        file = pq.ParquetFile(source)
    except DAMAGE as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error}); fetch the file again") from None
    _check_names(path, file.schema_arrow.names)
    yield from _rows(path, file.iter_batches(batch_size=BATCH_ROWS), "not a whole Parquet file")


def read_datasets(path: str, split: str, hub: bool = False) -> Iterator[Row]:
    """A directory of `datasets` or a hub id: one split, or all of them one after another."""
    for dataset in [load_hub(path, split)] if hub else _load_directory(path, split):
        yield from _rows(path, dataset.with_format("arrow").iter(batch_size=BATCH_ROWS), "a damaged data set")


def unread_splits(path: str, split: str) -> list[str]:
    """Splits of a `datasets` directory that `split` leaves aside."""
    note = Path(path) / "dataset_dict.json"
    if split == ALL or not note.is_file():
        return []
    try:
        return [name for name in json.loads(note.read_text(encoding="utf-8"))["splits"] if name != split]
    except (*DAMAGE, RecursionError):  # the reader itself names a damaged directory
        return []


def _load_directory(path: str, split: str) -> list[Any]:
    import datasets

    try:
        found = datasets.load_from_disk(path)
    except Exception as error:  # the library raises many kinds for a folder that is not its own
        raise ValueError(f"{path}: not a directory written by datasets' save_to_disk ({error})") from None
    if not isinstance(found, datasets.DatasetDict):
        return [found]
    if split == ALL:
        return list(found.values())
    if split not in found:
        raise ValueError(f"{path}: has no split {split!r}; set split to one of: {', '.join(found)}, or {ALL}")
    return [found[split]]


def load_hub(path: str, split: str) -> Any:
    import datasets

    name, _, config = path.partition(":")
    try:
        return datasets.load_dataset(name, config or None, split=split)
    except (
        Exception
    ) as error:  # offline, unknown id, gated, unknown split: one remedy each is beyond us, show the cause
        raise ValueError(
            f"{path}: no such file here, and as a hub id it could not be loaded ({type(error).__name__}: {error}); "
            "check the path or the id, the network (HF_HUB_OFFLINE) and the split"
        ) from None


def _rows(path: str, batches: Iterator[Any], damage: str) -> Iterator[Row]:
    """Table rows as records; values JSON does not know (dates, decimals, bytes) become text in `raw`."""
    number = 0
    while True:
        try:
            batch = next(batches, None)
            records = [] if batch is None else batch.to_pylist()
            texts = [json.dumps(record, ensure_ascii=False, default=str) for record in records]
        except DAMAGE as error:
            place = f"{path}:row {number + 1}"
            raise ValueError(f"{place}: {damage} from here on ({error}); fetch the file again") from None
        if batch is None:
            return
        for record, text in zip(records, texts):
            number += 1
            yield Row(number, record, text)
