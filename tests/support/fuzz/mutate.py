"""Hostile values, and what turns a good file into a bad one. All draws come from the generator that is given."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "2.5",
    "-0.0",
    "1e308",
    "-1e308",
    "5e-324",
    "inf",
    "-inf",
    "nan",
    "1e400",
    str(2**31),
    str(2**63),
    str(2**64 + 1),
    str(-(2**70)),
    "1_000",
    "0x10",
    "٣",
    "5%",
    "1,5",
]
WORDS = [
    "",
    " ",
    "abc",
    "\n",
    "..",
    "/",
    "/dev/null",
    "/proc/self/mem",
    "~",
    "a" * 5000,
    "--out",
    "=",
    "a=b",
    "a,b",
    "$(true)",
    "<script>alert(1)</script>",
    "[red]x[/red]",
    "%s",
    "{x}",
    "\u202e",
    "日本語",
    "null",
    "true",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    2.5,
    1e308,
    5e-324,
    float("inf"),
    float("nan"),
    2**63,
    2**70,
    -(2**70),
    "",
    " ",
    "x",
    "\x00",
    "\ud800",
    "a" * 5000,
    "<script>",
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    {"": {}},
    "../../etc/passwd",
    "0",
    "nan",
]
YAML_LINES = [
    "!!python/object/apply:os.system ['true']",
    "!!binary aGk=",
    "2001-12-14t21:59:43.10-05:00",
    "!!set {a, b}",
    "&a [*a]",
    "!unknown x",
    "{a: [b, {c: d}]}",
    "? complex\n: key",
    "<<: {a: 1}",
    "0o17",
    "1:30",
    "~",
    "- a\n- b",
    "'\\x00'",
    "\t",
    "[" * 200 + "]" * 200,
    "[" * 3000,
    "{a: " * 200 + "1" + "}" * 200,
]


def hostile(random: Random) -> Any:
    if random.random() < 0.04:  # beyond any reader's recursion
        value: Any = "deep"
        for _ in range(random.choice([50, 500])):
            value = [value] if random.random() < 0.5 else {"k": value}
        return value
    return copy.deepcopy(random.choice(VALUES))


def mutated(value: Any, random: Random) -> Any:
    """The JSON value with one part of it replaced, dropped, doubled, moved or renamed."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places or random.random() < 0.03:
        return hostile(random)
    holder, key = random.choice(places)
    act = random.choice(["replace", "replace", "replace", "drop", "wrap", "rename", "swap"])
    if act == "drop":
        del holder[key]
    elif act == "wrap":
        holder[key] = random.choice([[holder[key]], {"value": holder[key]}, str(holder[key])])
    elif act == "rename" and isinstance(holder, dict):
        holder[random.choice([str(key).upper(), f"{key} ", "", "\x00", "id", "messages", "text"])] = holder.pop(key)
    elif act == "swap":
        other, where = random.choice(places)
        holder[key] = (
            copy.deepcopy(other.get(where) if isinstance(other, dict) else other[where % max(1, len(other))])
            if other is not None and len(other)
            else None
        )
    else:
        holder[key] = hostile(random)
    return value


def _places(value: Any) -> Any:
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes cut, flipped, filled, doubled or replaced somewhere."""
    if not data:
        return random.choice([b"\x00", b"\xff\xfe", b"{", b"PAR1"])
    act = random.choice(["cut", "cut", "flip", "flip", "zero", "double", "drop", "junk", "empty", "text"])
    at = random.randrange(len(data))
    size = random.choice([1, 2, 8, 64, 512])
    if act == "cut":
        return data[:at]
    if act == "flip":
        out = bytearray(data)
        for _ in range(random.choice([1, 4, 32])):
            out[random.randrange(len(out))] ^= 1 << random.randrange(8)
        return bytes(out)
    if act == "zero":
        return data[:at] + b"\x00" * size + data[at + size :]
    if act == "double":
        return data[:at] + data[at : at + size] * 2 + data[at + size :]
    if act == "drop":
        return data[:at] + data[at + size :]
    if act == "junk":
        return random.randbytes(min(len(data), 300))
    return b"" if act == "empty" else random.choice([b"null", b"[]", b"{}", b"0", b'"x"', b"\n\n"])


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def damage_file(path: Path, random: Random) -> None:
    """Damage a file as bytes, or as the JSON or JSON lines that it holds."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl") and random.random() < 0.7:
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        if lines:
            at = random.randrange(len(lines))
            lines[at] = dump(mutated(json.loads(lines[at]), random))
            path.write_text("\n".join(lines) + "\n")
            return
    path.write_bytes(damaged(data, random))
