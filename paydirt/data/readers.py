"""Files to raw records, one at a time, each with the place it came from.

What enters: a path (JSONL, JSON array, Parquet, CSV, gzip of each, a `datasets` directory) or a hub id. What leaves: an
iterator of `Row`s. A fault in one record is handed on as a `BadRecord` in the row, so that the caller decides between
raising and skipping; a fault of the whole file (missing, truncated gzip, broken Parquet) is a ValueError at once, since
what follows it cannot be trusted.

Only one record batch is alive at a time, except for a JSON array and for gzipped Parquet, whose text must be held whole
(their records are still made one by one).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 1024
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
GZIP_MAGIC = b"\x1f\x8b"


class BadRecord(ValueError):
    """A record that cannot become an example. `reason` is the same for the same kind of fault, so it can be counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Row(NamedTuple):
    """`line` counts from 1 (lines of text files, rows of tables); `raw` is the record as JSON text."""

    line: int
    record: dict[str, Any] | BadRecord
    raw: str


def read_rows(path: str, split: str = "train") -> Iterator[Row]:
    """All records of a file, a `datasets` directory or a hub id; ValueError where it cannot be read at all."""
    if Path(path).is_dir():
        return _read_datasets(path, split)
    if is_hub_id(path):
        return _read_datasets(path, split, hub=True)
    return READERS[file_kind(path)](path)


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
    return ":" if _suffix(path) in (".jsonl", ".ndjson", ".json", ".csv") else ":row "


def stem(path: str) -> str:
    """The name a source takes from its path: without folders, `.gz` and the file kind; of a hub id the name."""
    name = Path(path).name.removesuffix(".gz").split(":")[0]
    kind = Path(name).suffix
    return name.removesuffix(kind) if kind in READERS else name


def _suffix(path: str) -> str:
    return Path(Path(path).name.removesuffix(".gz")).suffix.lower()


def _open(path: str) -> BinaryIO | gzip.GzipFile:
    """Plain or gzip by the file's first bytes, whatever its name says."""
    handle = open(path, "rb")  # noqa: SIM115 - the caller closes it
    zipped = handle.read(2) == GZIP_MAGIC
    handle.seek(0)
    return gzip.open(handle) if zipped else handle


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; a gzip stream that stops early is an error naming the last whole line."""
    number = 0
    try:
        with _open(path) as handle:
            for number, line in enumerate(handle, 1):
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}:{number + 1}: the gzip stream is truncated or damaged ({error}); fetch the file again"
        ) from None


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise BadRecord(
            "not UTF-8", f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; convert the file"
        ) from None


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRecord("not a JSON object", f"expected a JSON object with named fields, found {type(value).__name__}")
    return value


def _read_jsonl(path: str) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        text = ""
        record: dict[str, Any] | BadRecord
        try:
            text = _decoded(line, number).strip()
            record = _checked(json.loads(text))
        except json.JSONDecodeError as error:
            record = BadRecord("malformed JSON", f"malformed JSON at column {error.colno}: {error.msg}")
        except RecursionError:  # hostile nesting, not a user's data
            record = BadRecord("malformed JSON", "JSON nested too deeply")
        except BadRecord as error:
            record = error
        yield Row(number, record, text)


def _read_json(path: str) -> Iterator[Row]:
    """A JSON array, element by element; a `.json` file that starts with an object is taken as JSON lines."""
    text = _whole_text(path)
    start = _skip_space(text, 0)
    if text[start : start + 1] != "[":
        yield from _read_jsonl(path)
        return
    decoder, line, seen = json.JSONDecoder(), 1, 0
    position = _skip_space(text, start + 1)
    while text[position : position + 1] != "]":
        line, seen = line + text.count("\n", seen, position), position
        try:
            value, end = decoder.raw_decode(text, position)
            after = _skip_space(text, end)
            if text[after : after + 1] not in (",", "]"):
                raise json.JSONDecodeError("expecting ',' or ']' after an array element", text, after)
        except json.JSONDecodeError as error:
            place = f"{path}:{error.lineno}: malformed JSON at column {error.colno}: {error.msg}"
            raise ValueError(f"{place}; the rest of the array cannot be read, fix the file") from None
        record: dict[str, Any] | BadRecord
        try:
            record = _checked(value)
        except BadRecord as fault:
            record = fault
        yield Row(line, record, text[position:end])
        position = _skip_space(text, after + 1) if text[after] == "," else after
    if text[position + 1 :].strip():
        raise ValueError(f"{path}: text after the end of the JSON array; for one object a line name the file .jsonl")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _whole(path: str) -> bytes:
    return b"".join(line for _, line in _lines(path))


def _whole_text(path: str) -> str:
    data = _whole(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8; convert the file") from None


def _read_csv(path: str) -> Iterator[Row]:
    """Rows under a header line. An empty cell is an empty text; a row with too few or too many cells is bad."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader(_text_lines(path), strict=True)
    header: list[str] = []
    line = 1
    while True:
        line = reader.line_num + 1  # a quoted cell may span lines; the record is named by its first
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}:{line}: malformed CSV: {error}; fix the quoting") from None
        if not header:
            header = cells
        elif not cells:
            continue  # a blank line
        elif len(cells) != len(header):
            detail = f"row has {len(cells)} cells, the header names {len(header)} columns"
            yield Row(line, BadRecord("wrong number of cells", detail), "")
        else:
            record = dict(zip(header, cells))
            yield Row(line, record, json.dumps(record, ensure_ascii=False))


def _text_lines(path: str) -> Iterator[str]:
    for number, line in _lines(path):
        try:
            yield _decoded(line, number)
        except BadRecord as error:
            raise ValueError(f"{path}:{number}: {error}") from None


def _read_parquet(path: str) -> Iterator[Row]:
    with open(path, "rb") as handle:
        zipped = handle.read(2) == GZIP_MAGIC
    try:
        file = pq.ParquetFile(io.BytesIO(_whole(path)) if zipped else path)
        yield from _rows_of_batches(file.iter_batches(batch_size=BATCH_ROWS))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error}); fetch the file again") from None


def _read_datasets(path: str, split: str, hub: bool = False) -> Iterator[Row]:
    dataset = load_hub(path, split) if hub else _load_directory(path, split)
    return _rows_of_batches(dataset.with_format("arrow").iter(batch_size=BATCH_ROWS))


def _load_directory(path: str, split: str) -> Any:
    import datasets

    try:
        found = datasets.load_from_disk(path)
    except Exception as error:  # the library raises many kinds for a folder that is not its own
        raise ValueError(f"{path}: not a directory written by datasets' save_to_disk ({error})") from None
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise ValueError(f"{path}: has no split {split!r}; set split to one of: {', '.join(found)}")
        return found[split]
    return found


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


def _rows_of_batches(batches: Iterator[Any]) -> Iterator[Row]:
    """Table rows as records; values JSON does not know (dates, decimals, bytes) become text in `raw`."""
    number = 0
    for batch in batches:
        for record in batch.to_pylist():
            number += 1
            yield Row(number, record, json.dumps(record, ensure_ascii=False, default=str))


READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
    ".csv": _read_csv,
}
