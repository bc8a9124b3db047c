"""Broken and hostile input to the commands that read a pool: status 2 with file, place and remedy, never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paydirt.data.pool import PoolConfig, open_pool

GOOD = '{"prompt": "What is a fox?", "completion": "An animal."}'
DEEP = "[" * 100_000 + "]" * 100_000
GZIP = gzip.compress((GOOD + "\n").encode() * 2000)

FILES: list[tuple[str, bytes, str]] = [
    ("deep.jsonl", b'{"prompt": ' + DEEP.encode() + b', "completion": "c"}', "deep.jsonl:1: JSON nested too deeply"),
    ("deep.json", b'[{"prompt": ' + DEEP.encode() + b"}]", "deep.json:1: JSON nested too deeply"),
    ("deep-object.json", b'{"data": ' + DEEP.encode() + b"}", "deep-object.json"),
    ("huge.jsonl", b'{"prompt": "p", "completion": "c", "n": ' + b"9" * 5000 + b"}", "integer of thousands of digits"),
    ("huge.json", b'[{"prompt": "p", "completion": "c", "n": ' + b"9" * 5000 + b"}]", "integer of thousands of digits"),
    ("nul.jsonl", b'{"prompt": "a\0b", "completion": "c"}', "nul.jsonl:1: malformed JSON at column 14"),
    ("utf16.jsonl", GOOD.encode("utf-16"), "utf16.jsonl:1: byte 0xff at column 1 is not UTF-8; convert the file"),
    ("utf16.csv", "prompt,completion\nq,a\n".encode("utf-16"), "utf16.csv:1: byte 0xff at column 1 is not UTF-8"),
    (
        "surrogate.jsonl",
        b'{"prompt": "p", "completion": "\\ud800"}',
        "surrogate.jsonl:1: a text holds half a surrogate",
    ),
    ("beside.jsonl", b'{"prompt": "p", "completion": "c", "note": "\\udc00"}', "beside.jsonl:1: a text holds half"),
    ("key.jsonl", b'{"\\ud800": "p"}', "key.jsonl:1: unknown form"),
    ("cut.jsonl.gz", GZIP[:-30], ".gz:1880: the gzip stream is truncated or damaged"),
    ("cut.parquet.gz", GZIP[:-30], "cut.parquet.gz:"),
    ("empty.jsonl", b"", "the pool is empty (no records found) in"),
    ("empty.json", b"", "the pool is empty (no records found) in"),
    ("empty.csv", b"", "the pool is empty (no records found) in"),
    ("empty.parquet", b"", "empty.parquet: not a whole Parquet file"),
    ("header.csv", b"prompt,completion\n", "the pool is empty (no records found) in"),
    ("twice.csv", b"prompt,completion,prompt\na,b,c\n", "twice.csv:1: two columns are called 'prompt'; rename one"),
    ("quote.csv", b'prompt,completion\n"a,b\n', "quote.csv:2: malformed CSV"),
    ("ids.jsonl", b'{"id": {"a": [1]}, "prompt": 3, "completion": "c"}', "ids.jsonl:1: 'prompt' is int, expected text"),
    ("scalar.json", b"3", "scalar.json:1: expected a JSON object with named fields, found int"),
    ("open.json", b'{"data": [{"question": "q", "answer": "a"}', "open.json:1: malformed JSON"),
    (
        "pretty.json",
        b'{\n "data": [\n  {"question": "q" "answer": "a"}\n ]\n}',
        "pretty.json:3: malformed JSON at column 20",
    ),
]


@pytest.mark.parametrize(("name", "data", "message"), FILES, ids=[name for name, _, _ in FILES])
def test_hostile_files_are_named(name: str, data: bytes, message: str, paydirt: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    code, _, said = paydirt("inspect", path)
    assert code == 2, said
    assert "Traceback" not in said
    assert message in said
    assert name in said


def test_ids_and_sources_of_any_type_become_text(tmp_path: Path) -> None:
    records = [
        {"id": id, "source": id, "prompt": "p", "completion": "c"} for id in (True, 1.5, 10**40, [1], {"a": None})
    ]
    path = tmp_path / "ids.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    pool = open_pool(PoolConfig(files=str(path)), tmp_path / "cache")
    assert pool.ids() == ["true", "1.5", str(10**40), "[1]", '{"a": null}']


def test_a_csv_cell_of_megabytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "big.csv").write_text(f"prompt,completion\n{'x' * 3_000_000},y\n")
    pool = open_pool(PoolConfig(files=str(tmp_path / "big.csv")), tmp_path / "cache")
    assert len(pool.example(0).prompt) == 3_000_000


def test_damaged_tables_are_named(paydirt: Any, tmp_path: Path) -> None:
    table = pa.table({"prompt": [f"q{n}" for n in range(5000)], "completion": ["a"] * 5000})
    pq.write_table(table, tmp_path / "a.parquet", compression="snappy")
    whole = (tmp_path / "a.parquet").read_bytes()
    torn = bytearray(whole)
    torn[200:2000] = bytes(1800)
    double = pa.Table.from_arrays([table["prompt"], table["prompt"]], names=["prompt", "prompt"])
    pq.write_table(double, tmp_path / "double.parquet")
    (tmp_path / "cut.parquet").write_bytes(whole[:-100])
    (tmp_path / "torn.parquet").write_bytes(bytes(torn))
    for name, message in (
        ("cut", "cut.parquet: not a whole Parquet file"),
        ("torn", "torn.parquet:row 1: not a whole Parquet file from here on"),
        ("double", "double.parquet: two columns are called 'prompt'"),
    ):
        code, _, said = paydirt("inspect", tmp_path / f"{name}.parquet")
        assert code == 2, said
        assert message in said


def test_a_truncated_data_set_directory_is_named(paydirt: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"q{n}" * 50, "completion": "a"} for n in range(3000)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "d")
    note = tmp_path / "splits" / "dataset_dict.json"
    note.parent.mkdir()
    note.write_text('{"splits": 3}')
    code, _, said = paydirt("inspect", note.parent)
    assert code == 2, said
    assert "splits: not a directory written by datasets' save_to_disk" in said
    arrow = next((tmp_path / "d").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-50_000])
    code, _, said = paydirt("dedup", "--pool", tmp_path / "d", "--out", tmp_path / "out")
    assert code == 2, said
    assert "Traceback" not in said
    assert str(tmp_path / "d") in said


def test_paths_beyond_reason_are_named(paydirt: Any, tmp_path: Path) -> None:
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    for path, message in (
        (tmp_path / "loop.jsonl", "loop.jsonl: no such file"),
        (tmp_path / "folder.jsonl", "folder.jsonl: neither a datasets directory nor a folder with"),
        (tmp_path / ("x" * 300 + ".jsonl"), "cannot be read (File name too long)"),
        ("", "no path of a file"),
        (os.fsdecode(b"\xff.jsonl"), "is not UTF-8; rename the file"),
    ):
        code, _, said = paydirt("dedup", "--pool", path, "--out", tmp_path / "out")
        assert code == 2, said
        assert message in said


def test_a_file_that_may_not_be_read_is_named(paydirt: Any, tmp_path: Path) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    code, _, said = paydirt("inspect", path)
    assert code == 2
    assert "secret.jsonl: cannot be read (Permission denied); check the file and its permissions" in said


ARGUMENTS = [
    *(("split", "--points", value) for value in ("inf", "nan", "1e308", "5e-324", "0", "-1", "2.5")),
    *(("split", "--seed", value) for value in ("-1", "99999999999999999999999999999999999999")),
    *(("dedup", "--threshold", value) for value in ("inf", "nan", "1e308", "5e-324", "0", "-1", "1.01")),
    *(("dedup", "--ngram", value) for value in ("0", "-1")),
    *(("decontaminate", "--near", value) for value in ("inf", "nan", "5e-324", "0", "-1")),
    *(("decontaminate", "--ngram", value) for value in ("1", "0", "-1")),
    *(("decontaminate", "--common", value) for value in ("0", "-1")),
    *(("tiny", "--layers", value) for value in ("0", "-1", "1000000000")),
    *(("tiny", "--hidden", value) for value in ("0", "-4", "3", "1000000000000")),
    *(("tiny", "--vocabulary", value) for value in ("0", "-1", "10", "1000000000000")),
    *(("tiny", "--steps", value) for value in ("-1", "100000000000")),
    *(("tiny", "--seed", value) for value in ("-1", "99999999999999999999999999999999999999")),
]


@pytest.mark.parametrize(("verb", "option", "value"), ARGUMENTS)
def test_arguments_beyond_reason_are_refused(
    verb: str, option: str, value: str, paydirt: Any, tiny: Any, tmp_path: Path
) -> None:
    more = ["--references", tiny.root / "references.jsonl"] if verb == "decontaminate" else []
    code, _, said = paydirt(
        verb, "--pool", tiny.root / "pool.jsonl", "--out", tmp_path / "out", *more, f"{option}={value}"
    )
    assert code == 2, said
    assert "Traceback" not in said
    assert option.removeprefix("--") in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(60))
def test_mutated_pools_end_with_a_count_or_an_error(seed: int, tmp_path: Path) -> None:
    """A seeded fuzzer over bytes, cuts and values of a good file: read = kept + counted, or a ValueError with the file."""
    draw = random.Random(seed)
    records: list[Any] = [
        {"id": n, "messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}
        for n in range(8)
    ]
    odd = [None, True, -1, 1e308, [], {}, [[]], "", "\ud800", "\0", float("nan"), [{"type": "image"}], {"role": "x"}]
    for _ in range(draw.randint(1, 6)):
        record = records[draw.randrange(8)]
        turns = record.get("messages")
        place = draw.choice([record, turns, *(turns if isinstance(turns, list) else [])])
        if isinstance(place, dict) and place:
            place[draw.choice([*place, "label", "tools", "system", "history"])] = draw.choice(odd)
        elif isinstance(place, list) and place:
            place[draw.randrange(len(place))] = draw.choice(odd)
    kind = draw.choice(["jsonl", "json", "jsonl.gz"])
    text = json.dumps(records) if kind == "json" else "\n".join(map(json.dumps, records))
    data = bytearray(text.encode())
    for _ in range(draw.choice([0, 0, 1, 5])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    raw = gzip.compress(bytes(data)) if kind.endswith("gz") else bytes(data)
    path = tmp_path / f"pool.{kind}"
    path.write_bytes(raw[: draw.choice([None, None, len(raw) // 2])])
    try:
        pool = open_pool(PoolConfig(files=str(path), on_bad="skip"), tmp_path / "cache")
    except ValueError as error:
        pool, said = None, str(error)
    if pool is None:
        assert path.name in said
        return
    account = pool.account()
    gone = sum(e["count"] for kind in ("skipped", "left out") for e in account.get(kind, {}).values())
    assert account["read"] == account["kept"] + gone
    assert account["kept"] == len(pool)
    for record in pool.records(np.arange(len(pool))):
        json.dumps(record, ensure_ascii=False).encode()
