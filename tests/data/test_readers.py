"""Every kind of file yields the same records; a damaged file is named with its line and a remedy."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paydirt.data.readers import BadRecord, is_hub_id, read_rows, stem

RECORDS = [
    {"id": "a", "prompt": "one\u2028line", "completion": "ein\nzwei"},
    {"id": "b", "prompt": 'quo"ted, text', "completion": "ü 漢 🙂"},
]


def write(path: Path, records: list[dict[str, Any]] = RECORDS) -> str:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    plain = path.with_name("plain." + kind)
    if kind in ("jsonl", "ndjson"):
        plain.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records), encoding="utf-8")
    elif kind == "json":
        plain.write_text(json.dumps(records, indent=2), encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), plain)
    else:
        with open(plain, "w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    data = plain.read_bytes()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "parquet", "csv"])
def test_every_kind_yields_the_same_records(tmp_path: Path, kind: str, zipped: str) -> None:
    rows = list(read_rows(write(tmp_path / f"pool.{kind}{zipped}")))
    assert [row.record for row in rows] == RECORDS
    assert [json.loads(row.raw) for row in rows] == RECORDS


def test_lines_count_as_an_editor_counts_them(tmp_path: Path) -> None:
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [row.line for row in read_rows(str(jsonl))] == [1, 3]
    array = tmp_path / "a.json"
    array.write_text('[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}\n]\n')
    assert [row.line for row in read_rows(str(array))] == [2, 4, 5]
    table = tmp_path / "a.csv"
    table.write_text('a,b\n"1\n1",x\n\n2,y\n')
    assert [row.line for row in read_rows(str(table))] == [2, 5]


def test_gzip_is_told_by_content_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"a": 1}\n'))
    assert [row.record for row in read_rows(str(path))] == [{"a": 1}]


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [row.record for row in read_rows(str(path))] == [{"a": 1}, {"a": 2}]


def test_a_datasets_directory_is_read_by_split(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(RECORDS)
    whole.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "splits")
    assert [row.record for row in read_rows(str(tmp_path / "one"))] == RECORDS
    assert [row.record for row in read_rows(str(tmp_path / "splits"), "test")] == RECORDS[1:]
    with pytest.raises(ValueError, match=r"no split 'dev'; set split to one of: train, test"):
        list(read_rows(str(tmp_path / "splits"), "dev"))


def test_a_hub_id_goes_through_datasets_and_says_so_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> Any:
        asked.append((name, config, split))
        if config == "down":
            raise ConnectionError("cannot reach the hub")
        return datasets.Dataset.from_list(RECORDS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [row.record for row in read_rows("owner/name")] == RECORDS
    with pytest.raises(ValueError, match=r"owner/name:down: no such file here.*cannot reach the hub.*HF_HUB_OFFLINE"):
        list(read_rows("owner/name:down"))
    assert asked == [("owner/name", None, "train"), ("owner/name", "down", "train")]


def test_what_looks_like_a_file_is_not_a_hub_id() -> None:
    assert is_hub_id("allenai/tulu-3")
    assert is_hub_id("allenai/tulu:config")
    assert not is_hub_id("data/train.jsonl.gz")
    assert not is_hub_id("/abs/owner/name")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("x/cot.jsonl.gz", "cot"),
        ("v1.5.parquet", "v1.5"),
        ("folder/v1.5", "v1.5"),
        ("owner/name:config", "name"),
        ("owner/tulu-3.1", "tulu-3.1"),
    ],
)
def test_sources_are_named_after_files(path: str, name: str) -> None:
    assert stem(path) == name


def test_faults_of_one_line_are_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": }\n{"a": "\xff"}\n[1]\n{"a": 2}\n')
    rows = list(read_rows(str(path)))
    faults = [(row.line, row.record.reason, str(row.record)) for row in rows if isinstance(row.record, BadRecord)]
    assert faults == [
        (2, "malformed JSON", "malformed JSON at column 7: Expecting value"),
        (3, "not UTF-8", "byte 0xff at column 8 is not UTF-8; convert the file"),
        (4, "not a JSON object", "expected a JSON object with named fields, found list"),
    ]
    assert rows[-1].record == {"a": 2}


def damaged(tmp_path: Path, name: str, data: bytes) -> str:
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


GZIP = gzip.compress(b"".join(b'{"a": %d}\n' % number for number in range(20000)))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "cut.jsonl.gz",
            GZIP[:-20],
            r"cut.jsonl.gz:\d+: the gzip stream is truncated or damaged .*fetch the file again",
        ),
        ("torn.jsonl.gz", GZIP[:500] + b"\0" * 500 + GZIP[1000:], r"torn.jsonl.gz:\d+: the gzip stream is truncated"),
        ("a.json", b'[{"a": 1},\n {"a": 2', r"a.json:2: malformed JSON at column \d+.*rest of the array"),
        ("b.json", b'[{"a": 1}\n {"a": 2}]', r"b.json:2: malformed JSON at column 2: expecting ','"),
        ("c.json", b'[{"a": 1}] {"a": 2}', r"c.json: text after the end of the JSON array"),
        ("d.json", b'[{"a":\n "\xff"}]', r"d.json:2: byte 0xff is not UTF-8"),
        ("e.csv", b'a,b\n1,"x\n', r"e.csv:2: malformed CSV: unexpected end of data; fix the quoting"),
        ("f.csv", b"a,b\n1,\xff\n", r"f.csv:2: byte 0xff at column 3 is not UTF-8"),
        ("g.parquet", b"PAR1 no more", r"g.parquet: not a whole Parquet file"),
        ("h.txt", b"text", r"h.txt: unknown kind of file; known: .csv, .json, .jsonl, .ndjson, .parquet"),
    ],
)
def test_damaged_files_are_named_with_place_and_remedy(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = damaged(tmp_path, name, data)
    with pytest.raises(ValueError, match=message):
        list(read_rows(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.jsonl: no such file; give an existing file"):
        list(read_rows(str(tmp_path / "none.jsonl")))


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a directory written by datasets' save_to_disk"):
        list(read_rows(str(tmp_path)))


def test_csv_rows_with_other_widths_are_bad(tmp_path: Path) -> None:
    rows = list(read_rows(damaged(tmp_path, "a.csv", b"a,b\n1\n1,2,3\n1,2\n")))
    assert [str(row.record) for row in rows[:2]] == [
        "row has 1 cells, the header names 2 columns",
        "row has 3 cells, the header names 2 columns",
    ]
    assert rows[2].record == {"a": "1", "b": "2"}


def test_values_json_does_not_know_become_text(tmp_path: Path) -> None:
    import datetime

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [datetime.date(2024, 5, 6)]}), path)
    assert [json.loads(row.raw) for row in read_rows(str(path))] == [{"a": "2024-05-06"}]


def test_a_reader_does_not_hold_the_file(tmp_path: Path, jsonl: Callable[..., str]) -> None:
    path = jsonl("a.jsonl", {"a": 1}, "not json")
    rows = read_rows(path)
    assert next(rows).record == {"a": 1}  # the bad second line has not been looked at yet
