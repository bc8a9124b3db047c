"""Columns of any name as the fields of a conversation: `prompt=question,answer=answers.text.0`.

What enters: a record and a mapping from our names to its own (a dot reaches inside objects and lists). What leaves: the
record under names that a form reads. Only what is named makes turns; nothing is guessed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paydirt.core.registry import did_you_mean
from paydirt.data.lines import META, BadRecord

# Our name: the key under which a form reads it.
FIELDS = {
    "prompt": "prompt",
    "answer": "completion",
    "input": "input",
    "messages": "conversations",
    "system": "system",
    "history": "history",
    "id": "id",
    "source": "source",
    "subset": "subset",
}
TURNS = ("prompt", "answer", "input", "messages")


def check_columns(columns: Mapping[str, str], form: str = "auto", answers: bool = True) -> None:
    """ValueError for names that are none of ours, half a mapping, or a form beside one.

    Without `answers` a prompt may stand alone.
    """
    for name, column in columns.items():
        if name not in FIELDS:
            raise ValueError(f"columns: unknown name {name!r}; {did_you_mean(name, list(FIELDS))}")
        if not column:
            raise ValueError(f"columns: {name} names no column; give {name}=COLUMN")
    both = answers or "answer" in columns
    if (both and ("prompt" in columns) != ("answer" in columns)) or {"messages", "prompt"} <= columns.keys():
        raise ValueError(f"columns: give prompt and answer, or messages; got {', '.join(columns)}")
    if "input" in columns and "prompt" not in columns:
        raise ValueError("columns: input follows a prompt; give prompt and answer too")
    if form != "auto" and names_turns(columns):
        raise ValueError(f"columns name the turns, so the form is theirs; leave out form {form!r}")


def parse_columns(texts: list[str], option: str = "--columns") -> dict[str, str]:
    """`["prompt=question,answer=reply", ...]` as a mapping; ValueError for what is no NAME=COLUMN."""
    found: dict[str, str] = {}
    for entry in (entry for text in texts for entry in text.split(",")):
        name, equals, column = (part.strip() for part in entry.partition("="))
        if not equals or not name:
            raise ValueError(f"{option} {entry!r}: expected NAME=COLUMN, such as prompt=question,answer=answer")
        if name in found:
            raise ValueError(f"{option} {entry!r}: {name} is named twice")
        found[name] = column
    return found


def names_turns(columns: Mapping[str, str]) -> bool:
    """Whether a mapping says where the turns are, and not only ids or sources."""
    return not columns.keys().isdisjoint(TURNS)


def mapped(record: dict[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, Any], set[str]]:
    """The record under the names that forms read, and the columns it took; BadRecord where one is missing."""
    if not columns:
        return record, set()
    turns = names_turns(columns)
    out = {key: value for key, value in record.items() if not turns or key in META}
    used: set[str] = set()
    for name, column in columns.items():
        first, value = _reach(record, column, name)
        used.add(first)
        out[FIELDS[name]] = value
    return out, used


def _reach(record: dict[str, Any], column: str, name: str) -> tuple[str, Any]:
    """(top-level column, value) of a name, which may hold dots itself or reach inside by them."""
    if column in record:
        return column, record[column]
    first, *rest = column.split(".")
    value: Any = record
    for part in (first, *rest):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part[:9]) < len(value):
            value = value[int(part[:9])]
        else:
            have = ", ".join(sorted(map(str, record)))[:300]
            raise BadRecord("missing column", f"no column {column!r} for {name} (columns); the record has: {have}")
    return first, value
