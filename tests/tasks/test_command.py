"""`paydirt evaluate` on the standard benchmarks: a model, recorded answers, a study's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.data import shared_data
from support.stages import Tiny

pytest.importorskip("lm_eval", reason="standard benchmarks need the extra `eval`")

from paydirt.stages import read_result

from .layout import write_layout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_layout(tmp_path_factory.mktemp("less"))


def test_all_four_in_one_command(paydirt: Any, tiny: Tiny, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    command = ["evaluate", tiny.model, "--benchmark", "mmlu,bbh,tydiqa,ifeval", "--data", data, "--out", out]
    command += ["--max-gen-tokens", 4, "--limit", 2, "--batch-size", 2]
    code, shown, said = paydirt(*command)
    assert code == 0, said
    assert "acc_micro" in shown
    assert "± standard error" in shown
    manifest = json.loads((out / "mmlu" / "manifest.json").read_text())
    assert manifest["versions"]["lm-eval"]
    assert manifest["notes"]["settings"]["chat_template"] == "tulu"
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"mmlu", "bbh", "tydiqa", "ifeval"}
    assert (read_result(out / "mmlu").n, read_result(out / "bbh").n, read_result(out / "ifeval").n) == (4, 2, 2)
    assert "nothing was done" in paydirt(*command)[1]


def test_the_batch_does_not_change_the_result(paydirt: Any, tiny: Tiny, data: Path, tmp_path: Path) -> None:
    items = []
    for size in (1, 4):
        out = tmp_path / str(size)
        command = ["evaluate", tiny.model, "--benchmark", "tydiqa", "--data", data, "--out", out]
        assert paydirt(*command, "--batch-size", size, "--max-gen-tokens", 6)[0] == 0
        items.append((out / "items.jsonl").read_text())
    assert items[0] == items[1]


def test_recorded_responses(paydirt: Any, data: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "graded", tmp_path / "responses.jsonl"
    lines = [
        {"prompt": "Say yes without commas.", "response": "Yes, gladly."},
        {"prompt": "No commas at all.", "response": "None."},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["evaluate", "--responses", file, "--benchmark", "ifeval", "--data", data, "--out", out]
    code, shown, said = paydirt(*command)
    assert code == 0, said
    found = read_result(out)
    assert (found.n, found.score) == (2, 0.5)
    assert found.settings["items_without_response"] == 1
    assert found.settings["responses_without_item"] == 0
    assert "items without response: 1" in shown
    lines.append({"key": 2**70, "response": "Nobody asked."})  # beyond 64 bits, and fits nothing
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, _, said = paydirt(*command)
    assert code == 0
    assert f"1 of 3 responses fit no item that was asked and are not graded, first '{2**70}'" in " ".join(said.split())
    assert read_result(out).settings["responses_without_item"] == 1
    for line, message in (
        ({"prompt": "x"}, "responses.jsonl:1: expected `prompt`"),
        ({"prompt": ["x"], "response": "y"}, 'responses.jsonl:1: `prompt` is ["x"]; expected a text or a whole number'),
        ({"prompt": "x", "response": "y"}, "no recorded response fits an item"),
    ):
        file.write_text(json.dumps(line) + "\n")
        code, _, said = paydirt(*command)
        assert code == 2
        assert message in said


def test_graders_are_lm_evals_own(tmp_path: Path, paydirt: Any) -> None:
    """A part of the real GPT-4 responses through the command gives lm-eval's verdict of each."""
    data, out = shared_data(), tmp_path / "graded"
    file = tmp_path / "part.jsonl"
    lines = (data / "eval/ifeval/gpt4_responses.jsonl").read_text().splitlines()[:30]
    file.write_text("\n".join(lines) + "\n")
    assert paydirt("evaluate", "--responses", file, "--benchmark", "ifeval", "--data", data, "--out", out)[0] == 0
    from lm_eval.tasks.ifeval import utils

    rows = map(json.loads, (data / "eval/ifeval/input_data.jsonl").read_text().splitlines())
    docs = {row["prompt"].strip(): row for row in rows}
    items = {i["id"]: i for i in map(json.loads, (out / "items.jsonl").read_text().splitlines())}
    assert len(items) == 30
    drawn = read_result(out).settings["verdicts_drawn_at_random"]
    for line in map(json.loads, lines):
        doc = docs[line["prompt"].strip()]
        if str(doc["key"]) in drawn:
            continue
        verdict = utils.process_results(doc, [line["response"]])
        assert items[str(doc["key"])]["inst_level_strict_acc"] == verdict["inst_level_strict_acc"]
        assert items[str(doc["key"])]["inst_level_loose_acc"] == verdict["inst_level_loose_acc"]


def test_options_that_do_not_fit_are_refused(paydirt: Any, tiny: Tiny, tmp_path: Path) -> None:
    code, _, said = paydirt(
        "evaluate", tiny.model, "--benchmark", "mmlu", "--include-references", "--out", tmp_path / "x"
    )
    assert code == 2
    assert "does not take --include-references" in said
    code, _, said = paydirt("evaluate", "--out", tmp_path / "x")
    assert code == 2
    assert "give a model directory or --responses FILE, to grade" in said
    code, _, said = paydirt("evaluate", tiny.model, "--responses", tmp_path / "r.jsonl", "--out", tmp_path / "x")
    assert code == 2
    assert "not both" in said
    for benchmark, option, value in (
        ("exact_match", "limit", 0),
        ("likelihood", "limit", -1),
        ("mmlu", "limit", 0),
        ("ifeval", "max-gen-tokens", 0),
        ("bbh", "batch-size", 0),
        ("bbh", "batch-size", -3),
        ("bbh", "batch-size", "many"),
    ):
        command = ["evaluate", tiny.model, "--benchmark", benchmark, f"--{option}", value, "--out", tmp_path / "x"]
        code, _, said = paydirt(*command)
        assert code == 2
        assert "Traceback" not in said
        assert option.replace("-", "_") in said
        assert str(value) in said


def test_forms_on_the_command_line(paydirt: Any, tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """Scores and evaluations of the two forms are different artifacts; a form that is not there is refused."""
    pool = ["--pool", tiny.root / "pool.jsonl", "--target", "bbh", "--data", data, "--model", tiny.model]
    score = ["score", "rds", *pool, "--max-length", 1024, "--out", tmp_path / "s", "--cache", tmp_path / "c"]
    assert paydirt(*score)[0] == 0
    assert "nothing was done" in paydirt(*score, "--target-form", "published")[1]
    other = [*score[:-4], "--cache", tmp_path / "c", "--target-form", "turn"]
    assert "wrote" in paydirt(*other, "--out", tmp_path / "turn")[1]
    assert "wrote" in paydirt(*other, "--newline-label", "--out", tmp_path / "newline")[1]
    assert "holds the finished output of another config" in paydirt(*score, "--target-form", "turn")[2]
    code, _, said = paydirt(*score, "--target-form", "both")
    assert code == 2
    assert "no form 'both'; it has published and turn" in said
    command = ["evaluate", tiny.model, "--benchmark", "bbh", "--data", data, "--limit", 1, "--max-gen-tokens", 2]
    assert paydirt(*command, "--out", tmp_path / "e")[0] == 0
    assert "form published" in read_result(tmp_path / "e").settings["prompts"]
    assert paydirt(*command, "--target-form", "turn", "--out", tmp_path / "turned")[0] == 0
    assert "form turn" in read_result(tmp_path / "turned").settings["prompts"]


def test_a_study_on_a_standard_benchmark(paydirt: Any, tiny: Tiny, data: Path, tmp_path: Path) -> None:
    """It leaves leaks out, says so, and its rows state how they were measured."""
    import pyarrow.parquet as pq
    import yaml

    question = "Work out the date_understanding.\n\nQ: Which day is 0?\nOptions:\n(A) one\n(B) two"
    answer = "Let's think step by step.\nIt is 0. So the answer is (A)."
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    leak = {"id": "leak", "messages": turns}
    pool = tmp_path / "pool.jsonl"
    pool.write_text(Path(tiny.root / "pool.jsonl").read_text() + json.dumps(leak) + "\n")
    recipe = {
        "name": "study",
        "pool": {"files": [str(pool)]},
        "targets": [{"name": "bbh", "data": str(data)}],
        "model": tiny.model_config,
        "encoding": {"template": "tulu", "max_length": 512},
        "methods": ["random"],
        "fractions": [0.1],
        "seeds": [3],
        "training": {"method": "full", "epochs": 1, "save": "no"},
        "evaluation": {"name": "standard", "limit": 2, "max_gen_tokens": 4},
        "workers": 1,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    code, _, said = paydirt("run", tmp_path / "recipe.yaml", "--out", tmp_path / "study")
    assert code == 0, said
    assert "1 of 61 examples hold items" in said
    rows = pq.read_table(tmp_path / "study" / "results.parquet").to_pylist()
    assert {row["benchmark"] for row in rows} == {"bbh"}
    settings = json.loads(rows[0]["evaluation_settings"])
    assert settings["limit"] == 2
    assert json.loads(rows[0]["evaluation_versions"])["lm-eval"]
    assert all(row["n_items"] == 2 for row in rows)
    code, _, said = paydirt("run", tmp_path / "recipe.yaml", "--out", tmp_path / "study")
    assert " 0 artifacts made" in said
