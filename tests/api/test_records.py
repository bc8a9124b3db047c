"""Pools and targets of records in memory: the same as of the file that holds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.data import pool_records, record, reference_records, write_jsonl
from support.stages import Tiny

import paydirt as pay
from paydirt.core.artifacts import cache_root
from paydirt.scoring.inputs import target_fingerprint
from paydirt.stages import Workspace

datasets = pytest.importorskip("datasets")
RECORDS = pool_records()


def dataframe() -> object:
    return pytest.importorskip("pandas", reason="makes a DataFrame").DataFrame(RECORDS)


SHAPES = {
    "list": lambda: RECORDS,
    "generator": lambda: (dict(record) for record in RECORDS),
    "dataset": lambda: datasets.Dataset.from_list(RECORDS),
    "streamed": lambda: datasets.IterableDataset.from_generator(lambda: iter(RECORDS)),
    "table": lambda: pa.Table.from_pylist(RECORDS),
    "dataframe": dataframe,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_memory_and_file_are_one_pool(shape: str, tmp_path: Path) -> None:
    """Ids, order, sources and fingerprint; every field comes back."""
    path = write_jsonl(tmp_path / "records.jsonl", RECORDS)
    of_file, of_memory = pay.Pool.from_records(path), pay.Pool.from_records(SHAPES[shape]())
    assert of_memory.fingerprint == of_file.fingerprint
    assert of_memory.ids == of_file.ids == [r["id"] for r in RECORDS]
    assert of_memory.sources == of_file.sources == {"sums": 20, "capitals": 20, "chat": 20}
    assert list(of_memory.records()) == RECORDS
    assert of_memory["sums-003"] == RECORDS[3]


def test_equal_records_are_written_once() -> None:
    one, two = pay.Pool.from_records(RECORDS), pay.Pool.from_records(iter(RECORDS))
    other = pay.Pool.from_records(RECORDS[:-1])
    assert one.path == two.path != other.path
    assert one.config.files == two.config.files != other.config.files
    assert not list((cache_root() / "records").glob(".writing-*"))


def test_records_that_name_no_source_and_no_id(tmp_path: Path) -> None:
    plain = [{"prompt": f"Say {n}.", "completion": str(n)} for n in range(5)]
    path = write_jsonl(tmp_path / "numbers.jsonl", plain)
    assert pay.Pool.from_records(plain, name="numbers").fingerprint == pay.Pool.from_records(path).fingerprint
    assert pay.Pool.from_records(plain).sources == {"records": 5}


def test_columns_map_names() -> None:
    odd = [{"Frage": f"Say {n}.", "Antwort": {"text": [str(n)]}} for n in range(5)]
    with pytest.raises(ValueError, match="Frage"):
        pay.Pool.from_records(odd)
    columns = {"prompt": "Frage", "answer": "Antwort.text.0"}
    pool = pay.Pool.from_records(odd, columns=columns)
    target = pay.Target.from_records(odd[:2], name="numbers", columns=columns)
    plain = pay.Pool.from_records([{"prompt": f"Say {n}.", "completion": str(n)} for n in range(5)])
    assert pool.fingerprint == plain.fingerprint
    assert [reference.answer for reference in target.references] == ["0", "1"]


def test_a_columns_target_of_a_file_keeps_subtasks_and_supervision(tmp_path: Path) -> None:
    rows = [{"q": "2 + 2?", "a": "It is: 4", "subtask": "sums", "opening": "It is:", "end": False}]
    target = pay.Target.from_records(
        write_jsonl(tmp_path / "t.jsonl", rows), name="t", columns={"prompt": "q", "answer": "a"}
    )
    assert target.subtasks == ("sums",)
    assert target.references[0].completion == " 4"


def test_values_that_json_does_not_know() -> None:
    odd = [record(f"r{n}", "a?", "b") | {"level": np.int64(n), "vector": np.arange(2.0)} for n in range(2)]
    odd[0]["day"] = np.datetime64("2024-05-01")
    pool = pay.Pool.from_records(odd)
    assert [(r["level"], r["vector"]) for r in pool.records()] == [(0, [0.0, 1.0]), (1, [0.0, 1.0])]


def test_a_missing_value_of_a_dataframe_is_null() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{"prompt": "a?", "completion": "b", "level": 1.5}, {"prompt": "c?", "completion": "d"}])
    assert [r["level"] for r in pay.Pool.from_records(frame).records()] == [1.5, None]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record("a", "q?", "r"), "text"], "record 1: expected a mapping of fields to values, found a str"),
        (3, "records are a datasets.Dataset, a list of dicts"),
        ([], r"the pool is empty \(no records found\)"),
        ([{"x": 1}], r"records.jsonl:1: "),
        ([{"prompt": "\ud800", "completion": "b"}], "lone surrogate|half a surrogate"),
        ([{"prompt": "a", "completion": "b", "loop": {}}], "record 0: cannot be written as JSON"),
        ("nowhere.jsonl", "nowhere.jsonl: no such file"),
        (["nowhere.jsonl", "elsewhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)
def test_what_is_no_pool_says_why(records: object, message: str) -> None:
    if records and isinstance(records, list) and isinstance(records[0], dict) and "loop" in records[0]:
        records[0]["loop"]["again"] = records[0]["loop"]
    with pytest.raises(ValueError, match=message):
        pay.Pool.from_records(records)


def test_splits_are_chosen_and_the_others_said(capsys: pytest.CaptureFixture[str]) -> None:
    split = datasets.DatasetDict({"train": datasets.Dataset.from_list(RECORDS), "test": datasets.Dataset.from_list([])})
    assert len(pay.Pool.from_records(split).opened(Workspace())) == len(RECORDS)
    assert "the split train of the DatasetDict is read; not read: test" in " ".join(capsys.readouterr().err.split())
    assert len(pay.Pool.from_records(split, split="all").opened(Workspace())) == len(RECORDS)
    with pytest.raises(ValueError, match=r"no split 'dev' in the DatasetDict: it holds train, test"):
        pay.Pool.from_records(split, split="dev")


def test_targets_of_memory_and_file_are_one(tiny: Tiny) -> None:
    of_file = pay.Target.from_records(tiny.root / "references.jsonl", name="t", test=tiny.root / "test.jsonl")
    test = [json.loads(line) for line in (tiny.root / "test.jsonl").read_text().splitlines()]
    of_memory = pay.Target.from_records(reference_records(), name="t", test=test)
    assert target_fingerprint(of_memory.opened(Workspace())) == target_fingerprint(of_file.opened(Workspace()))
    assert of_memory.subtasks == of_file.subtasks == ("sums", "capitals")
    assert [e.messages for e in of_memory.test] == [e.messages for e in of_file.test]


def test_a_task_names_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "eval" / "mmlu" / "dev"
    folder.mkdir(parents=True)
    (folder / "anatomy_dev.csv").write_text("Where is the heart?,chest,head,A\n" * 1)
    target = pay.task("mmlu", data=tmp_path / "eval")
    assert (len(target), target.subtasks, target.path) == (1, ("anatomy",), tmp_path / "eval")
    with pytest.raises(ValueError, match=r"unknown target 'mmul'; did you mean 'mmlu'\?"):
        pay.task("mmul", data=tmp_path)


def test_what_a_pool_loses_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [record("good", "a?", "b"), {"id": "bad", "messages": []}]
    for _ in range(2):
        pool = pay.Pool.from_records(bad, on_bad="skip", name="partly")
    assert len(pool) == 1
    assert pool.account["skipped"]
    said = capsys.readouterr().err
    assert said.count("2 read, 1 kept") == 1
    assert said.count("skipped") == 1


def test_a_pool_whose_file_has_changed_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pool.jsonl", RECORDS)
    pool, target = pay.Pool.from_records(path), pay.Target.from_records(reference_records(), name="t")
    write_jsonl(path, RECORDS[:30])
    with pytest.raises(ValueError, match=r"changed since the pool was made of it \(60 examples then, 30 now\)"):
        pay.score(pool, target, "length")
