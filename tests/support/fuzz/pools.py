"""Pools to be read: records in the forms that people have, odd ones among them, in every kind of file."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from support import data
from support.fuzz import mutate
from support.fuzz.ground import Ground


def forms(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One conversation in the forms that people have."""
    turns = [m["content"] for m in record["messages"] if m["role"] != "system"]
    talk = [{"from": "human" if i % 2 == 0 else "gpt", "value": text} for i, text in enumerate(turns)]
    return [
        record,
        {"instruction": turns[0], "input": "", "output": turns[1]},
        {"conversations": talk},
        {"prompt": turns[0], "completion": turns[1]},
        {"question": turns[0], "answer": turns[1]},
        {"query": turns[0], "response": turns[1]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": turns[0]}]}, *record["messages"][-1:]]},
    ]


def bad_records(random: Random) -> list[Any]:
    which = random.randrange(7)
    rows: list[Any] = [forms(record)[which] for record in random.sample(data.pool_records(), 12)]
    for _ in range(random.choice([0, 1, 1, 2, 6])):
        at = random.randrange(len(rows))
        rows[at] = mutate.mutated(rows[at], random)
    return rows


def write_folder(rows: list[dict[str, Any]], random: Random, path: Path) -> Path:
    """A `datasets` directory, perhaps with a file of it damaged or gone."""
    from datasets import Dataset, DatasetDict

    try:
        table = Dataset.from_list([_flat(row) for row in rows])
        (table if random.random() < 0.5 else DatasetDict(train=table, test=table)).save_to_disk(str(path))
    except (pa.ArrowException, UnicodeEncodeError, TypeError):
        path.mkdir(exist_ok=True)
        return path
    if random.random() < 0.6:
        chosen = random.choice(sorted(p for p in path.rglob("*") if p.is_file()))
        chosen.unlink() if random.random() < 0.2 else mutate.damage_file(chosen, random)
    return path


def write_pool(rows: list[Any], random: Random, folder: Path) -> Path:
    """The records in one of the file types, then perhaps damaged as bytes."""
    kind = random.choice(["jsonl", "jsonl", "jsonl", "json", "csv", "parquet", "jsonl.gz", "tsv", "txt", "folder"])
    path = folder / f"pool.{kind}"
    if kind == "folder":
        return write_folder([row for row in rows if isinstance(row, dict)], random, path)
    lines = "".join(mutate.dump(row) + "\n" for row in rows).encode()
    flat = [
        {str(k): v if isinstance(v, str) else mutate.dump(v) for k, v in row.items()}
        for row in rows
        if isinstance(row, dict)
    ]
    if kind == "json":
        path.write_text(mutate.dump(rows if random.random() < 0.7 else {"data": rows, "version": 1}))
    elif kind in ("csv", "tsv") and flat:
        with open(path, "w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
            writer = csv.DictWriter(
                handle,
                list({k: 0 for row in flat for k in row}),
                delimiter="\t" if kind == "tsv" else ",",
                escapechar="\\",
            )
            writer.writeheader()
            writer.writerows(flat)
    elif kind == "parquet" and flat:
        try:
            pyarrow.parquet.write_table(pa.Table.from_pylist(flat), path)
        except (pa.ArrowException, UnicodeEncodeError, TypeError):
            path.write_bytes(b"PAR1")
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    else:
        path.write_bytes(lines)
    if random.random() < 0.35:
        path.write_bytes(mutate.damaged(path.read_bytes(), random))
    return path


def _flat(row: dict[Any, Any]) -> dict[str, str]:
    return {str(k): v if isinstance(v, str) else mutate.dump(v) for k, v in row.items()}


def pools(ground: Ground, random: Random, folder: Path) -> list[str]:
    path = write_pool(bad_records(random), random, folder)
    verb = random.choice(["inspect", "random", "random", "bm25", "dedup", "split", "decontaminate"])
    bad = ["--on-bad", "skip"] if random.random() < 0.5 else []
    bad += columns(random) if random.random() < 0.3 else []
    if verb == "inspect":
        return ["inspect", str(path)]
    base = ["--pool", str(path), "--out", str(folder / "out")]
    if verb in ("random", "bm25"):
        return ["score", verb, *base, *ground.target, *bad]
    if verb == "decontaminate":
        return [verb, *base, "--references", str(ground.root / "references.jsonl")]
    return [verb, *base, *bad]


def columns(random: Random) -> list[str]:
    """`--columns` of names that records have, have not, or that nobody would give; and other ways to read."""
    names = ["question", "answer", "prompt", "messages.0.content", "messages.9.content", "conversations", "a.b.c", "id"]
    names += ["completion", "instruction", "output", "messages", "", "0", "-1", "messages.-1", "x" * 500]
    ours = ["prompt", "answer", "messages", "system", "id", "source", "history", "input", "subset", "other"]
    good = [["prompt=question,answer=answer"], ["prompt=prompt", "answer=completion"], ["messages=conversations"]]
    drawn = [f"{random.choice(ours)}={random.choice(names)}" for _ in range(random.choice([1, 2, 3]))]
    entries = random.choice([*good, drawn, drawn, [random.choice(mutate.WORDS)]])
    split = ["--data-split", random.choice(["train", "test", "all", *mutate.WORDS])] if random.random() < 0.3 else []
    more = ["--prefix-ids"] if random.random() < 0.2 else []
    return [*(part.replace("\x00", "") for e in entries for part in ("--columns", e)), *split, *more]
