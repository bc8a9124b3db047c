"""Targets from small hand-made files, reference for reference, and from the real LESS layout, count for count."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paydirt.core.config import parse
from paydirt.core.types import Message, Target
from paydirt.tasks import TARGETS, TargetConfig, load_target

Write = Callable[..., str]


def put(root: Path, name: str, content: Any) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def load(name: str, data: Path | str | None = None, **options: Any) -> Target:
    return load_target(TargetConfig(name=name, data=str(data) if data else None, **options))


def test_mmlu_prompt_and_answer(tmp_path: Path) -> None:
    put(tmp_path, "eval/mmlu/dev/high_school_art_dev.csv", 'What?,red,None,"a, b",N/A,C\nWho?,1,2,3,4,A\n')
    target = load("mmlu", tmp_path)
    first, second = target.references
    question = "high school art.\n\nWhat?\nA. red\nB. None\nC. a, b\nD. N/A\nAnswer:"
    header = "The following are multiple choice questions (with answers) about "
    assert first.prompt == f"{header} {question}"
    assert first.messages[1] == Message("assistant", "The answer is: C", "The answer is:", end=False)
    turn = load("mmlu", tmp_path, form="turn").references[0]
    assert turn.messages == (Message("user", header + question), Message("assistant", "The answer is: C"))
    assert (first.id, first.source, first.subset) == ("mmlu/high_school_art/0", "mmlu", "high_school_art")
    assert second.answer == "The answer is: A"
    assert target.subtask_of == ("high_school_art", "high_school_art")


def test_bbh_shots_take_turns(tmp_path: Path) -> None:
    text = "Do it.\n\nA note.\n\nQ: one\nA: Think.\nSo 1.\n\nQ: two\nA: 2\n\nQ: three\nOptions:\n(A) x\nA: 3"
    put(tmp_path, "bbh/bbh-three-shot.json", {"counting": text})
    target = load("bbh", tmp_path)
    assert [(e.prompt, e.completion.removeprefix(" ")) for e in target.references] == [
        ("Do it.\n\nA note.\n\nQ: two\nA: 2\n\nQ: three\nOptions:\n(A) x\nA: 3\n\nQ: one", "Think.\nSo 1."),
        ("Do it.\n\nA note.\n\nQ: one\nA: Think.\nSo 1.\n\nQ: three\nOptions:\n(A) x\nA: 3\n\nQ: two", "2"),
        ("Do it.\n\nA note.\n\nQ: one\nA: Think.\nSo 1.\n\nQ: two\nA: 2\n\nQ: three\nOptions:\n(A) x", "3"),
    ]
    assert {(e.opening, e.messages[-1].end) for e in target.references} == {("A:", False)}
    turn = load("bbh", tmp_path, form="turn")
    assert [(e.prompt, e.answer) for e in turn.references] == [
        (e.prompt, e.completion.strip()) for e in target.references
    ]
    assert {(e.opening, e.messages[-1].end) for e in turn.references} == {("", True)}


def test_tydiqa_prompt_and_answer(tmp_path: Path) -> None:
    item = {"context": " HBO is owned by X. ", "question": "Who owns HBO?", "answers": [{"text": "X"}, {"text": "Y"}]}
    put(tmp_path, "eval/tydiqa/tydiqa-one-shot.json", {"finnish": [item], "klingon": [item]})
    finnish, klingon = load("tydiqa", tmp_path).references
    assert finnish.prompt == (
        "Vastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.Kappale:  HBO is owned by X. \n"
        "Kysymys: Who owns HBO?"
    )
    assert finnish.messages[1] == Message("assistant", "Vastaus: X", "Vastaus:", end=False)
    assert klingon.opening == "Answer:"
    finnish, klingon = load("tydiqa", tmp_path, form="turn").references
    assert finnish.prompt == "Lue teksti ja vastaa kysymykseen.\n\nTeksti: HBO is owned by X.\nKysymys: Who owns HBO?"
    assert finnish.messages[1] == Message("assistant", "X")
    assert klingon.prompt.startswith("Read the passage and answer the question.\n\nPassage: ")


def test_ifeval_pairs_and_families(tmp_path: Path) -> None:
    folder = tmp_path / "eval" / "ifeval"
    pairs = [{"prompt": f"p{n}", "response": f"r{n}"} for n in range(105)]
    put(folder, "gpt4_responses.jsonl", "\n".join(map(json.dumps, pairs)))
    assert load("ifeval", tmp_path).subtasks == ("ifeval",)
    put(folder, "input_data.jsonl", json.dumps({"prompt": "p1", "instruction_id_list": ["keywords:x", "case:y"]}))
    target = load("ifeval", tmp_path)
    assert len(target.references) == 100
    assert target.references[1].messages[1].content == "r1"
    assert Counter(target.subtask_of) == {"ifeval": 99, "keywords": 1}


def test_ifeval_takes_the_seeds_form(tmp_path: Path) -> None:
    put(tmp_path, "ifeval/pairs.json", {"7": "Say hi. Response: hi Response: there"})
    (example,) = load("ifeval", tmp_path).references
    assert (example.id, example.prompt, example.answer) == ("ifeval/ifeval/7", "Say hi.", "hi Response: there")


def test_any_file_is_a_target(jsonl: Write) -> None:
    rows = [{"prompt": f"p{n}", "completion": "c", "subtask": "ab"[n % 2]} for n in range(5)]
    path, test = jsonl("r.jsonl", *rows), jsonl("t.jsonl", {"prompt": "t", "completion": "c"})
    target = load("mine", references=path, test=test, limit_per_subtask=2)
    assert target.name == "mine"
    assert target.subtask_of == ("a", "b", "a", "b")
    assert [e.prompt for e in target.test] == ["t"]
    assert load("mine", references=test).subtasks == ("mine",)
    assert load("mmlu", references=path).name == "mmlu"  # references go before the built-in of that name


def test_a_files_answers_may_open_and_need_not_end(jsonl: Write) -> None:
    row = {"prompt": "p", "completion": "So it is: c", "opening": "So it is:", "end": False}
    path, test = jsonl("r.jsonl", row), jsonl("t.jsonl", {**row, "prompt": "t"})
    target = load("mine", references=path, test=test)
    assert target.references[0].messages[1] == Message("assistant", "So it is: c", "So it is:", end=False)
    assert (target.test[0].opening, target.test[0].completion) == ("So it is:", " c")
    with pytest.raises(
        ValueError, match=r"r.jsonl: example '\w+': opening 'No:' must begin the text of an assistant turn"
    ):
        load("mine", references=jsonl("r.jsonl", {**row, "opening": "No:"}))
    with pytest.raises(ValueError, match="`opening` is a text and `end` true or false"):
        load("mine", references=jsonl("r.jsonl", {**row, "end": "no"}))
    with pytest.raises(ValueError, match="is also the test example"):  # another form of the answer is the same text
        load("mine", references=jsonl("r.jsonl", {"prompt": "t", "completion": "So it is: c"}), test=test)


REFERENCE = {"prompt": "p", "completion": "c"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"r.jsonl: no examples in it; give at least one"),
        ([{"text": "x"}], r"r.jsonl:1: unknown form: the record has the keys text; known forms: messages"),
        ([REFERENCE, {"prompt": "p", "completion": ""}], r"r.jsonl:2: turn 2 \(assistant\) is empty"),
        ([{**REFERENCE, "id": "i"}, {**REFERENCE, "id": "i"}], r"r.jsonl:2: the id 'i' is already taken by line 1"),
        ([{**REFERENCE, "subtask": "s"}, REFERENCE], r"has no `subtask` though others have"),
        (["{"], r"r.jsonl:1: malformed JSON at column 2"),
    ],
)
def test_bad_references_are_named(jsonl: Write, lines: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("mine", references=jsonl("r.jsonl", *lines))


def test_a_reference_in_the_test_split_is_an_error(jsonl: Write) -> None:
    path = jsonl("r.jsonl", REFERENCE)
    with pytest.raises(ValueError, match=r"reference '\w{16}' is also the test example .*remove it"):
        load("mine", references=path, test=path)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown target 'mmul'; did you mean 'mmlu'\? or give `references`"):
        load("mmul")
    with pytest.raises(ValueError, match="unknown key 'refs'"):
        parse(TargetConfig, {"name": "mine", "refs": "x"})


@pytest.mark.parametrize("name", ["mmlu", "bbh", "tydiqa", "ifeval"])
def test_missing_data_names_path_and_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"target '{name}': give `data`, a folder in the LESS layout .*eval/{name}/"):
        load(name)
    with pytest.raises(ValueError, match=rf"no {tmp_path}/eval/{name}.* and no {tmp_path}/{name}.*point `data`"):
        load(name, tmp_path)
    assert name in TARGETS.names()


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("mmlu", "mmlu/dev/a_dev.csv", "q,1,2,3,4,E\n", r"a_dev.csv:1: expected question, two or more options"),
        ("mmlu", "mmlu/dev/a_dev.csv", "q,1\n", r"a_dev.csv:1: expected question"),
        ("mmlu", "mmlu/dev/a_dev.csv", "", r"a_dev.csv: empty"),
        ("mmlu", "mmlu/dev/readme.txt", "", r"no \*_dev.csv in .*mmlu/dev"),
        (
            "bbh",
            "bbh/bbh-three-shot.json",
            {"t": "Prompt\n\nQ: a\nA: b"},
            r"json: t: expected a task prompt and 3 shots",
        ),
        ("bbh", "bbh/bbh-three-shot.json", '{"t":\n', r"bbh-three-shot.json:2: malformed JSON"),
        ("bbh", "bbh/bbh-three-shot.json", [], r"expected a JSON object"),
        ("tydiqa", "tydiqa/tydiqa-one-shot.json", {"thai": [{"context": "c"}]}, r"json: thai\[0\]: expected context"),
        ("tydiqa", "tydiqa/tydiqa-one-shot.json", {"thai": {}}, r"json: thai: expected a list of questions"),
        ("ifeval", "ifeval/gpt4_responses.jsonl", {"prompt": "p"}, r"responses.jsonl:1: expected texts `prompt` and"),
        ("ifeval", "ifeval/x.json", {"k": "no mark"}, r"x.json: entry 'k' has no 'Response:'"),
        ("ifeval", "ifeval/readme.txt", "", r"no references in .*ifeval \(.json files: none\)"),
    ],
)
def test_damaged_layouts_are_named(tmp_path: Path, name: str, file: str, content: Any, message: str) -> None:
    put(tmp_path, file, content)
    with pytest.raises(ValueError, match=message):
        load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "subtasks", "each", "distinct"),
    # In the files themselves logical_deduction_{three,five,seven} share their shots, as do the three of
    # tracking_shuffled_objects, and college_physics asks one question twice.
    [("mmlu", 57, 5, 284), ("bbh", 27, 3, 69), ("tydiqa", 9, 1, 9)],
)
def test_real_counts(shared: Path, name: str, subtasks: int, each: int, distinct: int) -> None:
    target = load(name, shared)
    assert set(Counter(target.subtask_of).values()) == {each}
    assert len(target.subtasks) == subtasks
    assert len({example.id for example in target.references}) == subtasks * each
    assert len({example.messages for example in target.references}) == distinct
    assert load(name, shared / "eval") == target
    assert len(load(name, shared, limit_per_subtask=1).references) == subtasks


def test_real_ifeval(shared: Path) -> None:
    target = load("ifeval", shared)
    assert len(target.references) == 100
    assert len(target.subtasks) == 9
    assert "ifeval" not in target.subtasks  # every prompt was found in input_data.jsonl


def test_real_mmlu_answers_are_the_files_letters(shared: Path) -> None:
    references = {example.id: example for example in load("mmlu", shared).references}
    with open(shared / "eval/mmlu/dev/anatomy_dev.csv", newline="") as handle:
        for number, row in enumerate(csv.reader(handle)):
            example = references[f"mmlu/anatomy/{number}"]
            assert example.completion == f" {row[-1]}"
            assert all(f"\n{letter}. {option}" in example.prompt for letter, option in zip("ABCD", row[1:5]))


def test_real_bbh_answers_end_as_chain_of_thought_does(shared: Path) -> None:
    for example in load("bbh", shared).references:
        assert "he answer is" in example.answer, example.id
        assert example.completion not in example.prompt
        assert example.prompt.count("\nA:") == 2
