"""A pool is the same however it is stored and cut into files; bad input is named; nothing is dropped silently."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paydirt.core.artifacts import file_digest
from paydirt.core.config import parse
from paydirt.core.types import Message
from paydirt.data import importer
from paydirt.data.pool import Pool, PoolConfig, examples_from_file, open_pool

Write = Callable[..., str]


def chat(*turns: str, **fields: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {**fields, "messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]}


def numbered(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [chat(f"question {n}", f"answer {n}", id=f"n{n}", **fields) for n in range(count)]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Pool]:
    def call(files: Any, **options: Any) -> Pool:
        return open_pool(PoolConfig(files=files, **options), tmp_path / "cache")

    return call


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "BATCH_ROWS", 3)


@pytest.mark.usefixtures("small_batches")
def test_rows_ids_and_records_agree_across_batches(jsonl: Write, opened: Callable[..., Pool]) -> None:
    records = numbered(10, source="s", subset="u", extra={"keep": [1.50, None]})
    pool = opened(jsonl("a.jsonl", *records))
    assert len(pool) == 10
    assert pool.ids() == [f"n{n}" for n in range(10)]
    assert pool.ids(2, 5) == ["n2", "n3", "n4"]
    assert pool.id_at(7) == "n7"
    assert pool.sources(8, 99) == ["s", "s"]
    assert pool.subsets(0, 1) == ["u"]
    assert pool.example(4).messages == (Message("user", "question 4"), Message("assistant", "answer 4"))
    assert [e.id for e in pool.examples(2, 8)] == pool.ids(2, 8)
    assert pool.take([9, 0, 3, 0]) == [pool.example(row) for row in (9, 0, 3, 0)]
    assert pool.records([9, 0]) == [records[9], records[0]]
    assert pool.rows_of(["n9", "n0", "n4"]).tolist() == [9, 0, 4]
    assert pool.rows_of([]).tolist() == []
    assert pool.take([]) == []
    assert pool.place(5).endswith("a.jsonl:6")


def test_texts_take_the_part_asked_for(jsonl: Write, opened: Callable[..., Pool]) -> None:
    record = chat("q1", "a1", "q2", "a2")
    record["messages"].insert(0, {"role": "system", "content": "sys"})
    pool = opened(jsonl("a.jsonl", record))
    assert pool.texts(part="prompt") == ["q1\nq2"]
    assert pool.texts(part="answer") == ["a1\na2"]
    assert pool.texts(part="full") == ["sys\nq1\na1\nq2\na2"]
    assert pool.texts(part="first") == ["sys"]


def test_unknown_ids_and_rows_are_named(jsonl: Write, opened: Callable[..., Pool]) -> None:
    pool = opened(jsonl("a.jsonl", *numbered(3)))
    with pytest.raises(ValueError, match=r"2 of 3 ids are not in this pool of 3: 'x', 'y'"):
        pool.rows_of(["x", "n1", "y"])
    with pytest.raises(IndexError, match="pool of 3"):
        pool.take([3])
    with pytest.raises(IndexError, match="pool of 3"):
        pool.example(-1)


def test_files_with_names_make_sources(jsonl: Write, opened: Callable[..., Pool]) -> None:
    own = jsonl("own.jsonl", *numbered(2, source="theirs"))
    none = jsonl("none.jsonl.gz", chat("q", "a"), chat("p", "b", dataset="d"))
    assert opened({"x": own, "y": none}).source_counts() == {"x": 2, "y": 2}
    assert opened([own, none]).source_counts() == {"theirs": 2, "none": 1, "d": 1}


def test_globs_and_folders_are_spelled_out(jsonl: Write, opened: Callable[..., Pool], tmp_path: Path) -> None:
    jsonl("b.jsonl", chat("b", "b"))
    jsonl("a.jsonl", chat("a", "a"))
    assert opened(str(tmp_path)).sources() == ["a", "b"]
    assert opened(str(tmp_path / "*.jsonl")).sources() == ["a", "b"]
    with pytest.raises(ValueError, match=r"no file matches"):
        opened(str(tmp_path / "*.csv"))
    with pytest.raises(ValueError, match=r"named twice"):
        opened([str(tmp_path), str(tmp_path / "a.jsonl")])


@pytest.mark.usefixtures("small_batches")
def test_the_fingerprint_knows_content_and_not_files_or_order(jsonl: Write, opened: Callable[..., Pool]) -> None:
    records = [*numbered(7, source="s"), chat("same", "same", source="s"), chat("same", "same", source="t")]
    records.append(chat("same", "same", source="s"))
    whole = opened(jsonl("whole.jsonl", *records))
    cut = opened([jsonl("b.jsonl", *records[::-1][:4]), jsonl("a.jsonl", *records[::-1][4:])])
    assert whole.fingerprint == cut.fingerprint
    assert sorted(whole.ids()) == sorted(cut.ids())
    changed = [*records[:-1], chat("same", "other", source="s")]
    assert opened(jsonl("changed.jsonl", *changed)).fingerprint != whole.fingerprint
    assert opened({"other": jsonl("other.jsonl", *records)}).fingerprint != whole.fingerprint


@pytest.mark.usefixtures("small_batches")
def test_content_ids_are_stable_and_repeats_are_counted(jsonl: Write, opened: Callable[..., Pool]) -> None:
    pool = opened(
        jsonl("a.jsonl", chat("q", "a"), chat("q2", "a"), chat("q", "a"), chat("x", "y"), chat("q", "a", id=""))
    )
    first = importer.content_id([("user", "q"), ("assistant", "a")])
    assert first == "1a10af9f3c4411f3"  # ids are kept in users' files: this value must never change
    assert [id for id in pool.ids() if id.startswith(first)] == [first, f"{first}-2", f"{first}-3"]
    assert pool.notes["ids"] == {"own": 0, "from content": 5, "repeats renamed": 2}
    assert pool.rows_of([f"{first}-2", f"{first}-3", first]).tolist() == [2, 4, 0]
    assert [e.id for e in pool.examples()] == pool.ids()


def test_ids_may_be_numbers_and_have_other_names(jsonl: Write, opened: Callable[..., Pool]) -> None:
    records = [chat("q", "a", id=0), chat("q", "a", idx=1), chat("q", "a", uuid="u")]
    assert opened(jsonl("a.jsonl", *records)).ids() == ["0", "1", "u"]


def test_repeated_own_ids_are_named_with_both_places(jsonl: Write, opened: Callable[..., Pool]) -> None:
    a, b = jsonl("a.jsonl", *numbered(3)), jsonl("b.jsonl", chat("new", "new", id="n1"))
    with pytest.raises(
        ValueError, match=r"b.jsonl:1: the id 'n1' is already taken by .*a.jsonl:2; set prefix_ids: true"
    ):
        opened([a, b])
    pool = opened([a, b], prefix_ids=True)
    assert pool.ids() == ["a:n0", "a:n1", "a:n2", "b:n1"]
    skipping = opened([a, b], on_bad="skip")
    assert skipping.ids() == ["n0", "n1", "n2"]
    assert skipping.example(1).answer == "answer 1"
    assert skipping.source_counts() == {"a": 3}
    assert skipping.notes["skipped"]["duplicate id"]["count"] == 1
    assert skipping.fingerprint == opened(a).fingerprint
    with pytest.raises(ValueError, match=r"c.jsonl:2: the id 'n1' .*c.jsonl:1; make the ids distinct"):
        opened(jsonl("c.jsonl", chat("1", "1", id="n1"), chat("2", "2", id="n1")))


BAD_LINES: list[tuple[Any, str, str]] = [
    ('{"messages": [}', "malformed JSON", r"bad.jsonl:2: malformed JSON at column 15"),
    ({"messages": [{"content": "q"}]}, "missing role", r"bad.jsonl:2: turn 1 has no role"),
    ({"messages": [{"role": "robot", "content": "q"}]}, "unknown role", r"bad.jsonl:2: .*'robot'; known: system"),
    (chat("q", ""), "empty assistant turn", r"bad.jsonl:2: turn 2 \(assistant\) is empty"),
    (chat("q"), "no assistant turn", r"bad.jsonl:2: the conversation has no assistant turn"),
    (chat("q", None), "null content", r"bad.jsonl:2: turn 2 \(assistant\) has null content"),  # type: ignore[arg-type]
    (
        {"prompt": "p", "completion": "c"},
        "missing field",
        r"bad.jsonl:2: missing field 'messages'; the record has: comp",
    ),
    (chat("\ud800", "a"), "lone surrogate", r"bad.jsonl:2: a text holds half a surrogate pair"),
]


@pytest.mark.parametrize(("bad", "reason", "message"), BAD_LINES)
def test_a_bad_record_stops_or_is_counted(
    jsonl: Write, opened: Callable[..., Pool], tmp_path: Path, bad: Any, reason: str, message: str
) -> None:
    path = jsonl("bad.jsonl", chat("q", "a"), bad, chat("q2", "a2"))
    with pytest.raises(ValueError, match=message + r".*\(or set on_bad: skip"):
        opened(path)
    assert not list(tmp_path.rglob("*.arrow"))
    pool = opened(path, on_bad="skip")
    assert len(pool) == 2
    assert pool.notes["skipped"][reason]["count"] == 1
    assert pool.notes["skipped"][reason]["first"][0].startswith(f"{path}:2: ")


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path, opened: Callable[..., Pool]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "\xe9", "completion": "c"}\n')
    with pytest.raises(ValueError, match=r"a.jsonl:1: byte 0xe9 at column 13 is not UTF-8"):
        opened(str(tmp_path / "a.jsonl"))


def test_a_pool_in_unknown_form_names_keys_and_forms(jsonl: Write, opened: Callable[..., Pool], tmp_path: Path) -> None:
    path = jsonl("a.jsonl", {"text": "x", "label": 1})
    with pytest.raises(ValueError, match=r"a.jsonl:1: unknown form: the record has the keys label, text; known forms:"):
        opened(path)
    with pytest.raises(ValueError, match=r"the pool is empty \(all 1 records were bad: .*unknown form"):
        opened(path, on_bad="skip")
    (tmp_path / "b.csv").write_text("question,reply\nq,a\n")
    with pytest.raises(ValueError, match=r"b.csv:2: unknown form: the record has the keys question, reply"):
        opened(str(tmp_path / "b.csv"))


def test_an_empty_pool_is_named(tmp_path: Path, opened: Callable[..., Pool]) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"the pool is empty \(no records found\) in .*empty.jsonl; check the files"):
        opened(str(tmp_path / "empty.jsonl"))
    with pytest.raises(ValueError, match=r"the pool names no files"):
        opened([])
    with pytest.raises(ValueError, match=r"gone.jsonl: no such file"):
        opened(str(tmp_path / "gone.jsonl"))


def test_forms_are_detected_for_each_file_and_stated(jsonl: Write, opened: Callable[..., Pool]) -> None:
    a = jsonl("a.jsonl", {"instruction": "i", "input": "x", "output": "o", "note": 1})
    b = jsonl("b.jsonl", chat("q", "a"))
    pool = opened([a, b])
    assert pool.form == "mixed"
    assert pool.notes["forms"] == {a: "alpaca", b: "messages"}
    assert pool.records([0])[0] == {"instruction": "i", "input": "x", "output": "o", "note": 1}
    assert opened(b).form == "messages"
    with pytest.raises(ValueError, match=r"a.jsonl:1: missing field 'messages'"):
        opened([a, b], form="messages")


def test_blank_user_turns_are_kept_and_counted(jsonl: Write, opened: Callable[..., Pool]) -> None:
    assert opened(jsonl("a.jsonl", chat(" ", "a"))).notes["blank user turns"] == 1


def test_opening_again_finds_the_import_and_a_changed_file_is_imported(
    jsonl: Write, opened: Callable[..., Pool]
) -> None:
    path = jsonl("a.jsonl", *numbered(3))
    assert opened(path).fresh
    assert not opened(path).fresh
    jsonl("a.jsonl", *numbered(4))
    again = opened(path)
    assert again.fresh
    assert len(again) == 4


@pytest.mark.usefixtures("small_batches")
def test_two_imports_have_the_same_bytes(jsonl: Write, tmp_path: Path) -> None:
    config = PoolConfig(files=jsonl("a.jsonl", *numbered(8), chat("q", "a"), chat("q", "a")))
    one, two = open_pool(config, tmp_path / "1"), open_pool(config, tmp_path / "2")
    for name in ("pool.arrow", "id_hash.npy", "id_row.npy"):
        assert file_digest(one.path / name) == file_digest(two.path / name)


def test_equal_hashes_of_different_ids_are_no_clash(
    jsonl: Write, opened: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("importer", "identity", "pool"):
        monkeypatch.setattr(f"paydirt.data.{module}.hash_id", lambda id: len(id))
    pool = opened(jsonl("a.jsonl", *numbered(10)))
    assert pool.rows_of(["n7", "n0", "n9"]).tolist() == [7, 0, 9]
    with pytest.raises(ValueError, match="'zz'"):
        pool.rows_of(["zz"])


def test_config_faults_are_named() -> None:
    with pytest.raises(ValueError, match="unknown key 'filse'; did you mean 'files'"):
        parse(PoolConfig, {"filse": "x", "files": "y"})
    with pytest.raises(ValueError, match="form"):
        parse(PoolConfig, {"files": "y", "form": "xml"})


def test_examples_from_file_reads_as_a_pool_does(jsonl: Write, opened: Callable[..., Pool]) -> None:
    path = jsonl("a.jsonl", chat("q", "a", subtask="t"), chat("q", "a"), chat("x", "y", id="own"))
    pairs = examples_from_file(path)
    assert [example for example, _ in pairs] == opened(path).examples()
    assert pairs[0][1]["subtask"] == "t"
    with pytest.raises(ValueError, match=r"b.jsonl:2: the id 'i' is already taken by line 1"):
        examples_from_file(jsonl("b.jsonl", chat("q", "a", id="i"), chat("r", "a", id="i")))
    with pytest.raises(ValueError, match=r"c.jsonl: no examples in it"):
        examples_from_file(jsonl("c.jsonl"))


def test_a_datasets_directory_is_a_pool(tmp_path: Path, opened: Callable[..., Pool]) -> None:
    datasets = pytest.importorskip("datasets")
    records = [{"instruction": f"i{n}", "input": "", "output": f"o{n}"} for n in range(5)]
    datasets.Dataset.from_list(records).save_to_disk(tmp_path / "alp")
    pool = opened(str(tmp_path / "alp"))
    assert pool.form == "alpaca"
    assert pool.source_counts() == {"alp": 5}
    assert pool.records(range(5)) == records
    assert not opened(str(tmp_path / "alp")).fresh


def test_no_torch_is_loaded() -> None:
    code = "import sys, paydirt.data.pool, paydirt.tasks; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_real_pool(shared: Path, tmp_path: Path) -> None:
    pool = open_pool(PoolConfig(files=str(shared / "train" / "*.jsonl.gz")), tmp_path)
    assert pool.source_counts() == {"cot": 33442, "dolly": 14996, "p3": 52632, "oasst1": 1948}
    assert pool.form == "messages"
    assert pool.notes["skipped"] == {}
    rows = np.random.default_rng(0).integers(0, len(pool), 300)
    ids = [pool.id_at(row) for row in rows]
    assert pool.rows_of(ids).tolist() == rows.tolist()
    for record, example in zip(pool.records(rows), pool.take(rows)):
        assert record["id"] == example.id
        assert [(m["role"], m["content"]) for m in record["messages"]] == [
            (m.role, m.content) for m in example.messages
        ]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20  # KiB; all tests of this process together


def test_the_real_pool_round_trips(shared: Path, tmp_path: Path) -> None:
    import gzip

    path = shared / "train" / "oasst1.jsonl.gz"
    pool = open_pool(PoolConfig(files=str(path)), tmp_path)
    with gzip.open(path) as handle:
        assert pool.records(range(len(pool))) == [json.loads(line) for line in handle]


def test_a_misspelt_folder_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`world/poool` has the form of a hub id; the folder `world` tells that it is none."""
    (tmp_path / "world" / "pool").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"world/poool: no such file in the folder world; did you mean 'pool'\?"):
        open_pool(PoolConfig(files=["world/poool"]), tmp_path / "cache")
