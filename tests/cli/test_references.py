"""References are read like pools, by every verb that takes them: any split of a datasets directory, columns of any name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import typer
from support.data import record, write_jsonl

from paydirt.cli import command

PAIRS = [(f"Wie viel ist {a} plus {b}?", f"Es ist {a + b}.") for a, b in ((3, 4), (5, 2), (6, 1))]
COLUMNS = ("--references-columns", "prompt=Frage,answer=Antwort")


def test_every_verb_with_references_says_how_to_read_them() -> None:
    if not command.app.registered_commands:
        command._register()
    root: Any = typer.main.get_command(command.app)
    reading = [*root.commands.items(), *root.commands["score"].commands.items()]
    lacking, found = [], 0
    for name, verb in reading:
        kinds = {option for p in verb.params for option in p.opts}
        if "--references" in kinds and name not in ("cost", "advise"):  # which take a count
            found += 1
            lacking += [f"{name} {o}" for o in ("--references-split", "--references-columns") if o not in kinds]
    assert found > 15
    assert lacking == []


@pytest.fixture
def places(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """The same references as a split of a datasets directory, and as a table with columns of its own names."""
    rows = [record(f"r{n}", q, a) for n, (q, a) in enumerate(PAIRS)]
    other = [record("x", "Never meant", "Nor this")]
    splits = {"train": other, "validation": rows}
    datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in splits.items()}).save_to_disk(tmp_path / "set")
    table = tmp_path / "fragen.tsv"
    table.write_text("Frage\tAntwort\n" + "".join(f"{q}\t{a}\n" for q, a in PAIRS), encoding="utf-8")
    return {"split": (str(tmp_path / "set"), "--references-split", "validation"), "columns": (str(table), *COLUMNS)}


@pytest.mark.parametrize("how", ["split", "columns"])
@pytest.mark.parametrize("verb", ["score", "decontaminate", "train", "evaluate"])
def test_a_split_and_columns_are_read(
    verb: str, how: str, places: dict[str, tuple[str, ...]], tiny_model: Path, tmp_path: Path, paydirt: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pool = [record(f"p{n}", f"What is {n} plus 1?", f"It is {n + 1}.") for n in range(6)]
    pool.append(record("planted", PAIRS[1][0], PAIRS[1][1]))
    write_jsonl(tmp_path / "pool.jsonl", pool)
    model = ("--model", tiny_model, "--max-length", "128")
    words = {
        "score": ("score", "bm25", "--pool", "pool.jsonl"),
        "decontaminate": ("decontaminate", "--pool", "pool.jsonl", "--ngram", "3"),
        "train": ("train", "--data", "pool.jsonl", *model, "--early-stop", "1", "--set", "lora.r=2"),
        "evaluate": ("evaluate", tiny_model, "--max-length", "128"),
    }[verb]
    if verb == "evaluate":  # the test examples are read as the references are
        tested = write_jsonl(tmp_path / "test.jsonl", [record("t", "What is 2 plus 2?", "It is 4.")])
        tested = {"split": tested, "columns": Path("andere.tsv")}[how]
        Path("andere.tsv").write_text("Frage\tAntwort\nWie viel ist 8 plus 1?\tEs ist 9.\n", encoding="utf-8")
        words += ("--test", str(tested), "--benchmark", "likelihood")
    code, _, err = paydirt(*words, "--references", *places[how], "--out", tmp_path / "out")
    assert code == 0, err
    if verb == "score":
        code, _, err = paydirt("select", "out", "--count", 1, "--out", "best")
        assert code == 0, err
        assert "planted" in (tmp_path / "best" / "selection.jsonl").read_text()
    if verb == "decontaminate":
        assert "planted" in (tmp_path / "out" / "matches.jsonl").read_text()


def test_a_prompt_may_stand_alone_where_no_answer_is_read(
    places: dict[str, tuple[str, ...]], tmp_path: Path, paydirt: Any
) -> None:
    write_jsonl(tmp_path / "pool.jsonl", [record("p", "What is 1 plus 1?", "2.")])
    table, *_ = places["columns"]
    words = ("score", "bm25", "--pool", tmp_path / "pool.jsonl", "--references", table)
    code, _, err = paydirt(*words, "--references-columns", "prompt=Frage", "--out", tmp_path / "a")
    assert code == 0, err
    code, _, err = paydirt(*words, "--references-columns", "prompt=Fragen", "--out", tmp_path / "b")
    assert code == 2
    assert "no column 'Fragen' for prompt" in err
    assert "Frage" in err.split("the record has:")[1]


def test_a_test_file_without_a_target_is_not_passed_over(tiny_model: Path, tmp_path: Path, paydirt: Any) -> None:
    write_jsonl(tmp_path / "test.jsonl", [record("t", "What is 2 plus 2?", "It is 4.")])
    code, _, err = paydirt("evaluate", tiny_model, "--test", tmp_path / "test.jsonl", "--out", tmp_path / "out")
    assert code == 2
    assert "--test is of a target" in err
