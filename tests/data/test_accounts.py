"""Nothing is lost without a number: every command that reads a pool says what became of its records, and notes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.data import write_jsonl

from paydirt.data.pool import PoolConfig, open_pool

TURNS = [{"role": "user", "content": "What is a fox?"}, {"role": "assistant", "content": "An animal of the woods."}]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """12 records: 6 good ones of which 2 repeat, 4 bad ones of two kinds, 2 with more than turns can hold."""
    good = [{"messages": [{"role": "user", "content": f"Number {n}?"}, TURNS[1]]} for n in (0, 1, 2, 3, 0, 0)]
    bad = [{"messages": [{"content": "q"}]}, {"messages": [{"content": "r"}]}, {"messages": TURNS[:1]}, {"x": 1}]
    more = [{"messages": TURNS, "tools": [{"name": "f"}], "note": n, "id": f"t{n}"} for n in (1, 2)]
    return write_jsonl(tmp_path / "pool.jsonl", [*good, *bad, *more])


LINES = [
    "pool.jsonl: 12 read, 8 kept",
    "skipped         2  missing role, first ",
    "pool.jsonl:7: turn 1 has no role",
    "skipped         1  no assistant turn",
    "skipped         1  missing field",
    "lost            2  tool definitions, first ",
    "renamed         2  repeated content",
    "columns not used: note",
]


def command(verb: str, pool: Path, tiny: Any, out: Path) -> list[Any]:
    if verb == "inspect":
        return ["inspect", pool]
    if verb == "score":
        rest = ["length", "--target", "t", "--references", tiny.root / "references.jsonl"]
        return ["score", *rest, "--pool", pool, "--out", out]
    extra = {"decontaminate": ["--references", tiny.root / "references.jsonl"], "tiny": ["--vocabulary", 300]}
    return [verb, "--pool", pool, "--out", out, *extra.get(verb, [])]


@pytest.mark.parametrize("verb", ["score", "dedup", "decontaminate", "split", "tiny", "inspect"])
def test_each_verb_takes_the_options_of_a_pool_and_shows_the_table(
    verb: str, pool: Path, paydirt: Any, tiny: Any, tmp_path: Path
) -> None:
    if verb in ("dedup", "decontaminate"):
        pytest.importorskip("datasketch", reason="near-duplicates need the extra `dedup`")
    words = command(verb, pool, tiny, tmp_path / "out")
    code, _, said = paydirt(*words)
    assert code == 2
    assert "pool.jsonl:7: turn 1 has no role" in said
    assert "--on-bad skip" in said
    for _ in range(2):  # imported, then found in the cache and, but for inspect, up to date
        code, shown, said = paydirt(*words, "--on-bad", "skip")
        assert code == 0, said
        for line in LINES:
            assert line in (shown if verb == "inspect" else said), line
    if verb != "inspect":
        noted = json.loads((tmp_path / "out" / "manifest.json").read_text())["notes"]["pool"]
        gone = sum(entry["count"] for entry in noted["skipped"].values())
        assert (noted["read"], noted["kept"], gone) == (12, 8, 4)
        assert noted["columns not used"] == {"note": 2}


def test_select_and_train_say_it_too(pool: Path, paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    code, _, said = paydirt(*command("score", pool, tiny, tmp_path / "scores"), "--on-bad", "skip")
    assert code == 0, said
    code, _, said = paydirt("select", tmp_path / "scores", "--count", 3, "--out", tmp_path / "chosen")
    assert code == 0, said
    assert "pool.jsonl: 12 read, 8 kept" in said
    code, _, said = paydirt(
        *["train", "--data", pool, "--model", tiny.model, "--out", tmp_path / "m", "--on-bad", "skip"],
        *["--epochs", 1, "--max-length", 20],
    )
    assert code == 0, said
    assert "pool.jsonl: 12 read, 8 kept" in said
    assert "examples cut at max_length" in said


def test_columns_by_name_on_the_command_line_and_in_the_config(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    pool = tmp_path / "faq.csv"
    pool.write_text("Frage,Antwort,Nr\nWann?,Um neun.,a\nWo?,Hier.,b\n", encoding="utf-8")
    out = tmp_path / "scores"
    words = ["score", "length", "--pool", pool, "--target", "t", "--references", tiny.root / "references.jsonl"]
    code, _, said = paydirt(*words, "--out", out)
    assert code == 2
    assert "faq.csv:2: unknown form" in said
    assert "name the columns, such as --columns prompt=Frage,answer=Antwort" in said
    assert "--on-bad" not in said, "which would leave out every record"
    code, _, said = paydirt(*words, "--out", out, "--columns", "prompt=Fragen,answer=Antwort")
    assert code == 2
    assert "no column 'Fragen' for prompt" in said
    assert "--on-bad" not in said
    code, _, said = paydirt(*words, "--out", out, "--columns", "prompt=Frage,answer=Antwort", "--columns", "id=Nr")
    assert code == 0, said
    config = json.loads((out / "manifest.json").read_text())["config"]["pool"]
    assert config["columns"] == {"prompt": "Frage", "answer": "Antwort", "id": "Nr"}
    assert open_pool(PoolConfig(**config), tmp_path / "c").ids() == ["a", "b"]
    code, _, said = paydirt("select", out, "--count", 1, "--out", tmp_path / "chosen")  # reads the pool by its columns
    assert code == 0, said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt", "expected NAME=COLUMN"),
        ("question=q,answer=a", "unknown name 'question'"),
        ("prompt=q", "give prompt and answer, or messages"),
        ("prompt=q,answer=a,messages=m", "give prompt and answer, or messages"),
        ("prompt=q,answer=", "answer names no column"),
        ("prompt=q,prompt=r,answer=a", "prompt is named twice"),
        ("input=x", "input follows a prompt"),
        ("prompt=id,answer=gone", "no column 'gone' for answer (columns); the record has: id, messages"),
    ],
)
def test_faults_of_columns_are_named(text: str, message: str, paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", [{"id": "i", "messages": TURNS}])
    code, _, said = paydirt("inspect", path, "--columns", text)
    assert code == 2
    assert message in said


def test_splits_that_are_left_aside_are_said_and_all_can_be_read(paydirt: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"question": f"q{n}", "answer": "a"} for n in range(3)])
    datasets.DatasetDict({"train": rows, "test": rows.select([0])}).save_to_disk(tmp_path / "d")
    code, shown, said = paydirt("inspect", tmp_path / "d")
    assert code == 0, said
    assert "3 read, 3 kept" in shown
    assert "splits not read (set split):" in shown
    assert "d: test" in shown
    code, shown, said = paydirt("inspect", tmp_path / "d", "--data-split", "all")
    assert code == 0, said
    assert "4 read, 4 kept" in shown
    assert "splits not read" not in shown


def test_a_pool_imported_by_another_version_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paydirt.data import pool as module

    config = PoolConfig(files=str(write_jsonl(tmp_path / "p.jsonl", [{"messages": TURNS}])))
    first = open_pool(config, tmp_path / "cache")
    assert not open_pool(config, tmp_path / "cache").fresh
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    again = open_pool(config, tmp_path / "cache")
    assert again.fresh
    assert again.fingerprint == first.fingerprint


def test_a_fraction_may_be_a_percentage_and_a_count_is_not_one(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    code, _, said = paydirt(*command("score", tiny.root / "pool.jsonl", tiny, scores))
    assert code == 0, said
    for given in ("0.05", "5%"):
        code, shown, said = paydirt("select", scores, "--fraction", given, "--out", tmp_path / "five")
        assert code == 0, said
    assert "nothing was done" in shown
    for given, remedy in (
        ("5", "for 5 % of the pool give 5%, for examples a count"),
        ("0", "above 0 and at most 1"),
        ("-5%", "above 0 and at most 1"),
        ("101%", "at most 100%"),
        ("nan", "above 0 and at most 1"),
        ("inf", "for examples give a count"),
        ("1000", "for examples give a count"),
        ("few", "such as 0.05 or 5%"),
    ):
        code, _, said = paydirt("select", scores, f"--fraction={given}", "--out", tmp_path / "none")
        assert code == 2
        assert "fraction" in said
        assert remedy in said
