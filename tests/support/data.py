"""A tiny pool and target with a meaning: sums and capitals, in three sources; and where the shared real data lies."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima"}


def record(id: str, *turns: str, **fields: Any) -> dict[str, Any]:
    """A `messages` record; turns alternate user and assistant, "system: ..." opens."""
    messages, role = [], "user"
    for turn in turns:
        if turn.startswith("system: "):
            messages.append({"role": "system", "content": turn.removeprefix("system: ")})
            continue
        messages.append({"role": role, "content": turn})
        role = "assistant" if role == "user" else "user"
    return {"id": id, "messages": messages, **fields}


def pool_records() -> list[dict[str, Any]]:
    """60 examples: sums, capitals and chat; some of several turns, one with a system message."""
    draw = random.Random(0)
    out = []
    for i in range(60):
        source = ("sums", "capitals", "chat")[i % 3]
        a, b, country = draw.randint(1, 20), draw.randint(1, 20), draw.choice(sorted(CAPITALS))
        if source == "sums":
            turns = [f"What is {a} plus {b}?", f"The answer is {a + b}."]
        elif source == "capitals":
            turns = [f"Name the capital of {country}, please.", CAPITALS[country]]
        else:
            turns = ["Hello, " + "my dear friend " * (i % 5) + "how are you?", "Very well, thank you!"]
        if i % 7 == 0:
            turns += [f"And {b} plus {a}?", str(a + b)]
        if i % 20 == 2:
            turns = ["system: Be kind and brief.", *turns]
        out.append(record(f"{source}-{i:03d}", *turns, source=source, level=i % 4))
    return out


def reference_records() -> list[dict[str, Any]]:
    sums = [record(f"ref-sum-{a}", f"What is {a} plus 5?", str(a + 5), subtask="sums") for a in (21, 22, 23)]
    capitals = [
        record(f"ref-cap-{c}", f"Name the capital of {c}.", CAPITALS[c], subtask="capitals") for c in ("Peru", "Japan")
    ]
    return sums + capitals


def test_records() -> list[dict[str, Any]]:
    return [
        record("test-1", "What is 30 plus 2?", "32", subset="sums"),
        record("test-2", "What is 31 plus 1?", "32", subset="sums"),
        record("test-3", "Name the capital of Egypt.", "Cairo", subset="capitals"),
    ]


test_records.__test__ = False  # type: ignore[attr-defined] - not a test, whatever pytest thinks of its name


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path


def write_all(root: Path) -> Path:
    """pool.jsonl, the same pool in another order, references.jsonl, test.jsonl and labels.jsonl under `root`."""
    records = pool_records()
    write_jsonl(root / "pool.jsonl", records)
    shuffled = list(records)
    random.Random(1).shuffle(shuffled)
    write_jsonl(root / "shuffled.jsonl", shuffled)
    write_jsonl(root / "references.jsonl", reference_records())
    write_jsonl(root / "test.jsonl", test_records())
    write_jsonl(root / "labels.jsonl", [{"id": r["id"], "score": float(r["source"] == "sums")} for r in records])
    return root


def shared_data() -> Path:
    """`$PAYDIRT_SHARED/data` or `<repository>/../shared/data`; skips the test where there is none."""
    root = Path(os.environ.get("PAYDIRT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}; set PAYDIRT_SHARED")
    return root
