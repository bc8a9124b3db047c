"""JSON files to rows: JSON lines, arrays, and whole objects that hold their rows under one key.

What enters: a path. What leaves: `Row`s, made one by one; the text of an array or object is held whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

from paydirt.data.lines import BadRecord, Row, checked, decoded, numbered, parse_json, whole_text

SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


def read_jsonl(path: str) -> Iterator[Row]:
    """One record a line; blank lines are none."""
    for number, line in numbered(path):
        if not line.strip():
            continue
        text = ""
        record: dict[str, Any] | BadRecord
        try:
            text = decoded(line, number).strip()
            if number == 1 and text in ("{", "["):
                raise ValueError(
                    f"{path}:1: malformed JSON at column 2: a line of JSON lines is a whole record; if the file is one "
                    "document over many lines, name it .json"
                )
            record = checked(parse_json(text))
        except BadRecord as error:
            record = error
        yield Row(number, record, text)


def read_json(path: str) -> Iterator[Row]:
    """An array, element by element; an object's rows, where one of its keys holds a list of them; or JSON lines."""
    text = whole_text(path)
    start = _skip(text, 0)
    opening = text[start : start + 1]
    if opening == "[":
        end = yield from _array(path, text, start)
        if text[end:].strip():
            raise ValueError(
                f"{path}: text after the end of the JSON array; for one object a line name the file .jsonl"
            )
    elif opening == "{" and _is_one(text, start):
        yield from _object(path, text, start)
    else:
        yield from read_jsonl(path)


def _is_one(text: str, start: int) -> bool:
    """Whether the object at `start` is the whole document, as far as its first line tells where it is malformed."""
    try:
        _, end = DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return text[start:].split("\n", 1)[0].strip() == "{"
    return not text[end:].strip()


def _object(path: str, text: str, start: int) -> Iterator[Row]:
    """The rows of a whole object: under its one list of objects, or the object itself."""
    members = _members(path, text, start)
    lists = [name for name, (_, value) in members.items() if _is_rows(value)]
    record = {name: value for name, (_, value) in members.items()}
    if len(lists) > 1:
        raise ValueError(f"{path}: holds rows under several keys ({', '.join(lists)}); write each to a file of its own")
    if not lists or _is_record(record):
        yield Row(1 + text.count("\n", 0, start), record, text[start:].strip())
        return
    at = members[lists[0]][0]
    del members, record
    yield from _array(path, text, at)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_record(record: dict[str, Any]) -> bool:
    """Whether an object is one conversation rather than a wrapper of rows (`instances` belong to an instruction)."""
    from paydirt.data.forms import detect

    try:
        return bool(detect(record))
    except BadRecord:
        return False


def _members(path: str, text: str, start: int) -> dict[str, tuple[int, Any]]:
    """Each member of the object at `start`: where its value begins, and the value."""
    members: dict[str, tuple[int, Any]] = {}
    position = _skip(text, start + 1)
    while text[position : position + 1] != "}":
        name, end = _value(path, text, position)
        colon = _skip(text, end)
        if not isinstance(name, str) or text[colon : colon + 1] != ":":
            raise _malformed(path, json.JSONDecodeError("expecting a name and ':'", text, position))
        at = _skip(text, colon + 1)
        value, end = _value(path, text, at)
        members[name] = (at, value)
        after = _skip(text, end)
        if text[after : after + 1] not in (",", "}"):
            raise _malformed(path, json.JSONDecodeError("expecting ',' or '}' after a member", text, after))
        position = _skip(text, after + 1) if text[after] == "," else after
    return members


def _array(path: str, text: str, start: int) -> Generator[Row, None, int]:
    """The elements of the array at `start`; returns where it ends."""
    line, seen = 1 + text.count("\n", 0, start), start
    position = _skip(text, start + 1)
    while text[position : position + 1] != "]":
        line, seen = line + text.count("\n", seen, position), position
        value, end = _value(path, text, position)
        after = _skip(text, end)
        if text[after : after + 1] not in (",", "]"):
            raise _malformed(path, json.JSONDecodeError("expecting ',' or ']' after an array element", text, after))
        record: dict[str, Any] | BadRecord
        try:
            record = checked(value)
        except BadRecord as fault:
            record = fault
        yield Row(line, record, text[position:end])
        position = _skip(text, after + 1) if text[after] == "," else after
    return position + 1


def _value(path: str, text: str, position: int) -> tuple[Any, int]:
    """The JSON value at `position` and where it ends; ValueError naming the place of a fault."""
    try:
        return DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise _malformed(path, error) from None
    except (ValueError, RecursionError):
        place = f"{path}:{1 + text.count(chr(10), 0, position)}"
        raise ValueError(
            f"{place}: JSON nested too deeply, or an integer of thousands of digits; fix the file"
        ) from None


def _malformed(path: str, error: json.JSONDecodeError) -> ValueError:
    place = f"{path}:{error.lineno}: malformed JSON at column {error.colno}: {error.msg}"
    return ValueError(f"{place}; the rest of the array cannot be read, fix the file")


def _skip(text: str, position: int) -> int:
    return SPACE.match(text, position).end()  # type: ignore[union-attr]  # an empty match at least
