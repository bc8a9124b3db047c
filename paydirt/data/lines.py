"""Bytes of a file to numbered lines, and the two words for what is read: a `Row`, and a `BadRecord` in its place.

A fault in one record is handed on in its row, so that the caller decides between raising and skipping; a fault of the
whole file (truncated gzip, unreadable) is a ValueError at once, since what follows it cannot be trusted.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

GZIP_MAGIC = b"\x1f\x8b"


META = ("id", "idx", "uuid", "source", "dataset", "subset", "subtask")  # fields of a record that are read beside turns


class BadRecord(ValueError):
    """A record that cannot become an example. `reason` is the same for the same kind of fault, so it can be counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class LeftOut(BadRecord):
    """A sound record that is not to be learnt from (an answer marked as bad): never an error, always counted."""


class Row(NamedTuple):
    """`line` counts from 1 (lines of text files, rows of tables); `raw` is the record as JSON text."""

    line: int
    record: dict[str, Any] | BadRecord
    raw: str


def open_bytes(path: str) -> BinaryIO | gzip.GzipFile:
    """Plain or gzip by the file's first bytes, whatever its name says."""
    handle = open(path, "rb")  # noqa: SIM115 - the caller closes it
    zipped = handle.read(2) == GZIP_MAGIC
    handle.seek(0)
    return gzip.open(handle) if zipped else handle


def numbered(path: str) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; a gzip stream that stops early is an error naming the last whole line."""
    number = 0
    try:
        with open_bytes(path) as handle:
            for number, line in enumerate(handle, 1):
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}:{number + 1}: the gzip stream is truncated or damaged ({error}); fetch the file again"
        ) from None


def decoded(line: bytes, number: int) -> str:
    """A line as text; BadRecord naming the byte that is not UTF-8."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise BadRecord(
            "not UTF-8", f"byte {line[error.start]:#04x} at column {error.start + 1} is not UTF-8; convert the file"
        ) from None


def text_lines(path: str) -> Iterator[str]:
    """Lines of a file that must be UTF-8 as a whole, line ends kept."""
    for number, line in numbered(path):
        try:
            yield decoded(line, number)
        except BadRecord as error:
            raise ValueError(f"{path}:{number}: {error}") from None


def whole_bytes(path: str) -> bytes:
    return b"".join(line for _, line in numbered(path))


def whole_text(path: str) -> str:
    data = whole_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: byte {data[error.start]:#04x} is not UTF-8; convert the file") from None


def checked(value: Any) -> dict[str, Any]:
    """A record; BadRecord for JSON that is no object."""
    if not isinstance(value, dict):
        raise BadRecord("not a JSON object", f"expected a JSON object with named fields, found {type(value).__name__}")
    return value


def parse_json(text: str) -> Any:
    """JSON as Python values; BadRecord for what is malformed, nested too deeply or holds numbers beyond reason."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"at column {error.colno}" + (f" of line {error.lineno}" if error.lineno > 1 else "")
        raise BadRecord("malformed JSON", f"malformed JSON {place}: {error.msg}") from None
    except RecursionError:  # hostile nesting, not a user's data
        raise BadRecord("malformed JSON", "JSON nested too deeply") from None
    except ValueError:  # Python refuses integers of more than 4,300 digits
        raise BadRecord("malformed JSON", "JSON with an integer of thousands of digits") from None
