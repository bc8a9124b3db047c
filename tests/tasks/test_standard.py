"""The standard benchmarks: right answers get 100, a known letter its share, on little data and on the real files."""

from __future__ import annotations

import json
import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.data import shared_data

pytest.importorskip("lm_eval", reason="standard benchmarks need the extra `eval`")

from paydirt.core.types import Message
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.tasks import TargetConfig, load_target
from paydirt.tasks.benchmark import make_benchmark
from paydirt.tasks.harness.offline import prepare_ifeval, require_lm_eval
from paydirt.tasks.harness.runner import ratio
from paydirt.tasks.mmlu import read_questions

from .layout import TASK, Told, gold_bbh, gold_tydiqa, write, write_layout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_lm_eval()
    return write_layout(tmp_path_factory.mktemp("less"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def ask(name: str, lm: Any, data: Path, out: Path, target: Any = None, **options: Any) -> Any:
    benchmark = make_benchmark({"name": name, "data": str(data), **options})
    return benchmark.ask(lm, "tulu", target, out, benchmark.prepare())


def test_a_letter_gets_exactly_its_share(data: Path, tmp_path: Path) -> None:
    found = ask("mmlu", Told(letter="B"), data, tmp_path)
    assert found.by_subtask == {"anatomy": 2 / 4, "astronomy": 2 / 3}
    assert found.metrics["acc_micro"] == pytest.approx(4 / 7)
    assert found.metrics["acc_macro"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert found.main == "acc_micro"
    assert found.n == 7


@pytest.mark.parametrize("letter", "AD")
def test_a_letter_gets_its_share_of_the_real_questions(letter: str, tmp_path: Path) -> None:
    data = shared_data()
    found = ask("mmlu", Told(letter=letter), data, tmp_path, limit=4)
    questions = [q for f in sorted((data / "eval/mmlu/test").glob("*.csv")) for q in read_questions(f)[:4]]
    assert found.n == len(questions) == 57 * 4
    assert found.score == pytest.approx(sum("ABCD"[q["answer"]] == letter for q in questions) / len(questions))


@pytest.mark.parametrize("prompts", ["references", "lm_eval"])
def test_gold_answers_get_everything(data: Path, tmp_path: Path, prompts: str) -> None:
    bbh = ask("bbh", Told(gold_bbh), data, tmp_path, prompts=prompts)
    assert bbh.metrics["exact_match_macro"] == bbh.metrics["exact_match_micro"] == 1
    tydiqa = ask("tydiqa", Told(gold_tydiqa), data, tmp_path, prompts=prompts)
    assert tydiqa.by_subtask == {"english": 1.0, "finnish": 1.0}
    assert tydiqa.metrics["exact_match_micro"] == 1


def test_gold_answers_get_everything_on_the_real_files(tmp_path: Path) -> None:
    data = shared_data()
    bbh = ask("bbh", Told(gold_bbh), data, tmp_path, limit=3)
    assert (bbh.score, bbh.n, len(bbh.by_subtask)) == (1, 81, 27)
    tydiqa = ask("tydiqa", Told(gold_tydiqa), data, tmp_path, limit=3)
    assert (tydiqa.score, tydiqa.metrics["exact_match_macro"], len(tydiqa.by_subtask)) == (1, 1, 9)


def test_wrong_answers_get_nothing(data: Path, tmp_path: Path) -> None:
    assert ask("bbh", Told(lambda doc: "So the answer is 42."), data, tmp_path).score == 0
    assert ask("tydiqa", Told(lambda doc: "koira"), data, tmp_path).score == 0


def test_prompts_are_those_of_the_references(data: Path, tmp_path: Path) -> None:
    config = TargetConfig(name="bbh", data=str(data))
    reference = load_target(config).references[0].prompt  # its task prompt, the other two shots, its question
    told = Told(gold_bbh)
    ask("bbh", told, data, tmp_path, limit=1)
    for part in reference.split("\n\n"):
        assert part in told.seen[0]
    assert told.seen[0].startswith("[system]Work out")  # the encoder's model folds this into the user turn
    assert told.seen[0].endswith("(A) one\n(B) two[assistant]A:")
    ask("bbh", told := Told(gold_bbh), data, tmp_path, limit=1, form="turn")
    assert told.seen[0].endswith("(A) one\n(B) two")
    told = Told()
    ask("mmlu", told, data, tmp_path, limit=1)
    assert told.seen[0].endswith("Answer:[assistant]The answer is:")
    assert told.seen[0].count("Answer: ") == 5
    assert "(with answers) about  anatomy.\n\n" in told.seen[0]
    for form in (None, "turn"):
        target = load_target(TargetConfig(name="tydiqa", data=str(data), form=form)).references[1]
        assert target.subset == "finnish"
        ask("tydiqa", told := Told(gold_tydiqa), data, tmp_path, limit=1, form=form)
        assert f"[user]{target.prompt}" in told.seen[1]  # the shot, then the question in the same words
        assert f"[assistant]{target.answer}[user]" in told.seen[1]
        assert told.seen[1].endswith("Kysymys: What is red 0?[assistant]Vastaus:" if form is None else "What is red 0?")


def test_the_form_is_the_targets(data: Path) -> None:
    config = TargetConfig(name="bbh", data=str(data), form="turn")
    for name in ("bbh", "standard"):
        benchmark = make_benchmark(name).resolved(config)
        assert (benchmark.form, benchmark.data) == ("turn", str(data))
        assert benchmark.identity() != make_benchmark("bbh").identity()
    assert make_benchmark("bbh").identity() == make_benchmark({"name": "bbh", "form": "published"}).identity()
    assert make_benchmark("mmlu").resolved(config).form is None  # another's form says nothing of it


def test_without_chat_form_lm_evals_wording_is_used_and_named(data: Path, tmp_path: Path) -> None:
    told = Told(gold_bbh)
    found = ask("bbh", told, data, tmp_path, chat_template=False)
    assert told.seen[0].endswith("A: Let's think step by step.\n")
    assert "lm-eval's plain text" in found.settings["prompts"]
    assert found.settings["chat_template"] is None


def test_details_are_left_beside_the_result(data: Path, tmp_path: Path) -> None:
    ask("bbh", Told(gold_bbh), data, tmp_path, limit=2)
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [item["exact_match"] for item in items] == [1.0, 1.0]
    assert items[0]["answer"] == "(A)"
    assert json.loads((tmp_path / "subtasks.json").read_text())[TASK]["n"] == 2
    assert "step by step" in json.loads((tmp_path / "prompts.json").read_text())[TASK]["prompt"]


def test_references_are_left_out_of_ifeval(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = load_target(TargetConfig(name="ifeval", data=str(data)))
    told = Told(lambda doc: "Yes. Sure.")
    found = ask("ifeval", told, data, tmp_path, target)
    assert (found.n, found.score, found.settings["references_left_out"]) == (2, 1.0, 1)
    assert "1 of 3 prompts are references" in capsys.readouterr().err
    assert ask("ifeval", told, data, tmp_path, target, include_references=True).n == 3
    assert "1 of the prompts are references of the target and are tested on" in capsys.readouterr().err
    alone = ask("ifeval", told, data, tmp_path)  # no target: those that the IFEval target of this folder has
    assert (alone.n, alone.settings["references_left_out"]) == (2, 1)
    assert "1 of 3 prompts are references of the IFEval target and are left out" in capsys.readouterr().err
    everything = ask("ifeval", told, data, tmp_path, include_references=True)
    assert (everything.n, everything.settings["references_tested_on"]) == (3, 1)


def test_the_real_references_are_left_out() -> None:
    config = TargetConfig(name="ifeval", data=str(shared_data()))
    benchmark = make_benchmark("ifeval").resolved(config)
    assert len(benchmark.rows(load_target(config))) == len(benchmark.rows(None)) == 441
    everything = make_benchmark({"name": "ifeval", "include_references": True}).resolved(config)
    assert len(everything.rows(None)) == 541
    assert everything.inputs() != benchmark.inputs()
    assert everything.remarks(None)["verdicts_drawn_at_random"] == ["1122", "1129"]


def test_sentences_are_counted_without_nltks_data(data: Path) -> None:
    degraded = prepare_ifeval()
    assert not degraded or "punkt_tab" in degraded[0]
    from lm_eval.tasks.ifeval import instructions_util

    assert instructions_util.count_sentences("Dr. Smith went home. He said hi! Who, e.g. you?") == 3


def test_standard_errors() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    assert ratio(values) == pytest.approx((0.6, np.std(values, ddof=1) / math.sqrt(5)))
    assert ratio([[v] for v in values]) == pytest.approx(ratio(values))
    together = ratio([[v, v] for v in values])  # verdicts that stand and fall together are no more evidence
    assert together == pytest.approx(ratio(values))
    assert math.isnan(ratio([1.0])[1])


def test_begun_answers_have_the_tokens_of_training(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    encoder = Encoder(AutoTokenizer.from_pretrained(tiny_model), EncodingConfig())
    user, answer = Message("user", "Which? </s> Answer:"), Message("assistant", "The answer is: A")
    text, ids = encoder.open_prompt([user], "The answer is:")
    whole = encoder.encode([user, answer])
    assert whole.ids[: len(ids)].tolist() == ids.tolist()
    assert text.endswith("<|assistant|>\nThe answer is:")
    assert encoder.tokenizer.eos_token_id not in ids  # spelled in the data, it stays text


def test_faults_name_the_place(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give `data`"):
        make_benchmark("mmlu").specs(None)
    with pytest.raises(ValueError, match="the target's own"):
        make_benchmark("standard").resolved(TargetConfig(name="mine", references="x"))
    bad = tmp_path / "bad_test.csv"
    bad.write_text("Q,a,b,c,d,E\n")
    with pytest.raises(ValueError, match=r"bad_test.csv:1: expected question"):
        read_questions(bad)
    row = {"key": 1, "prompt": "p", "instruction_id_list": ["keywords:existence"], "kwargs": [{"n": 2**70}]}
    (tmp_path / "eval/ifeval").mkdir(parents=True)
    write(tmp_path / "eval/ifeval/input_data.jsonl", row)
    with pytest.raises(ValueError, match=r"input_data.jsonl: its values fit no table .*64 bits"):
        ask("ifeval", Told(lambda doc: ""), tmp_path, tmp_path)
    write(tmp_path / "eval/ifeval/input_data.jsonl", {**row, "kwargs": []})
    with pytest.raises(ValueError, match=r"input_data.jsonl:1: expected eval/ifeval"):
        make_benchmark({"name": "ifeval", "data": str(tmp_path)}).items()
    write(tmp_path / "eval/bbh/test/unheard.json", {"examples": [{"input": "a", "target": "b"}]})
    write(tmp_path / "eval/bbh/bbh-three-shot.json", {"other": "x"})
    with pytest.raises(ValueError, match="bbh other: expected an instruction"):
        make_benchmark({"name": "bbh", "data": str(tmp_path)}).specs(None)
