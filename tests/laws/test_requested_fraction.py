"""Law: a learning rate that goes by the share of the pool goes by the share asked for, not by a rounded count over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.stages import TRAINING, Tiny

from paydirt.core.artifacts import MANIFEST, open_artifact
from paydirt.selection.select import fraction_beside, requested_fraction, selected_ids
from paydirt.stages import Workspace

# 2.5 % of 60 examples are 2, which is 3.3 %: above the 2.5 % up to which the higher rate holds.
SMALL = {"small_fraction": 0.025, "small_fraction_learning_rate": 4e-3}


@pytest.fixture
def selection(tiny: Tiny, tmp_path: Path) -> Path:
    workspace = Workspace(tmp_path / "cache")
    scores = tiny.score("length", tmp_path / "scores", workspace)
    return tiny.select(scores, tmp_path / "selection", workspace, {"fraction": 0.025}).path


def test_a_selection_states_the_share_asked_for(tiny: Tiny, selection: Path, tmp_path: Path) -> None:
    assert json.loads((selection / "selection.json").read_text())["fraction"] == 0.025
    assert requested_fraction(selection) == fraction_beside(selection / "selection.jsonl") == 0.025
    assert fraction_beside(tiny.root / "pool.jsonl") is None
    workspace = Workspace(tmp_path / "cache")
    by_count = tiny.select(open_artifact(tmp_path / "scores"), tmp_path / "n", workspace, {"count": 15})
    assert requested_fraction(by_count.path) == 0.25


def test_a_selection_of_an_older_version_has_it_in_its_config(selection: Path) -> None:
    manifest = json.loads((selection / MANIFEST).read_text())
    del manifest["notes"]["fraction"]
    (selection / MANIFEST).write_text(json.dumps(manifest))
    assert requested_fraction(selection) == 0.025


def test_the_stage_trains_at_the_rate_of_the_share_asked_for(tiny: Tiny, selection: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "cache")
    tuned = tiny.train(tmp_path / "tuned", workspace, SMALL, selection=str(selection))
    assert tuned.notes["examples"] == 2
    assert tuned.notes["learning_rate"] == 4e-3
    whole = tiny.train(tmp_path / "whole", workspace, SMALL, selection=str(selection), fraction=0.1)
    assert whole.fresh, "another rate is another model"
    assert whole.notes["learning_rate"] == TRAINING["learning_rate"]


def test_the_command_finds_the_share_beside_the_file(paydirt, tiny: Tiny, selection: Path, tmp_path: Path) -> None:
    flags = ["--model", tiny.model, "--method", "full", "--epochs", 1, "--save", "no", "--device", "cpu"]
    flags += ["--set", "small_fraction=0.025", "--set", "small_fraction_learning_rate=4e-3"]
    flags += ["--cache", tmp_path / "cache"]
    code, out, said = paydirt("train", "--data", selection / "selection.jsonl", *flags, "--out", tmp_path / "tuned")
    assert code == 0, said
    assert "learning rate: 0.004" in out
    assert paydirt("export", selection, "--name", "e", "--cache", tmp_path / "cache", "--out", tmp_path / "e")[0] == 0
    code, out, said = paydirt("train", "--data", tmp_path / "e" / "e.jsonl", *flags, "--out", tmp_path / "exported")
    assert code == 0, said
    assert "learning rate: 0.004" in out
    code, out, said = paydirt("train", "--data", tiny.root / "pool.jsonl", *flags, "--out", tmp_path / "whole")
    assert code == 0, said
    assert "learning rate: 2e-05" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"ids": ["a", 7]}', r"selection\.json: ids\[1\] is '7', not a text; make it again"),
        ('{"ids": "abc"}', "of type str, not a list"),
        ('{"examples": 3}', "of type NoneType, not a list"),
        ("[1, 2]", "holds a list instead of an object"),
        ("{", "JSONDecodeError"),
        ("[" * 100_000, "Recursion"),
    ],
)
def test_a_damaged_list_of_ids_is_named(selection: Path, text: str, message: str) -> None:
    (selection / "selection.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        selected_ids(selection)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--over", "reference", "--count", 3], "--over is an option of round_robin; give --policy round_robin"),
        (["--policy", "top", "--over", "subtask", "--count", 3], "--over is an option of round_robin"),
        (["--policy", "top", "--share", "sums=1", "--count", 3], "--share is an option of quota"),
        (["--policy", "quota", "--share", "sums", "--count", 3], "--share sums: expected GROUP=WEIGHT"),
        (["--policy", "quota", "--share", "sums=x", "--count", 3], "--share sums=x: expected GROUP=WEIGHT"),
        (["--count", 3, "--flops-per-token", 10], "flops_per_token is the price of a FLOPs budget"),
        (["--flops", 10, "--flops-per-token", 0], "flops_per_token"),
        (["--within", "max", "--count", 3], "one number an example"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    paydirt, selection: Path, tmp_path: Path, flags: list, message: str
) -> None:
    code, _, said = paydirt(
        "select", tmp_path / "scores", *flags, "--cache", tmp_path / "cache", "--out", tmp_path / "o"
    )
    assert code == 2
    assert message in said


def test_a_seed_that_changes_nothing_is_said(paydirt, selection: Path, tmp_path: Path) -> None:
    command = ["select", tmp_path / "scores", "--count", 3, "--cache", tmp_path / "cache", "--seed", 5]
    assert "the seed 5 changes nothing" in paydirt(*command, "--out", tmp_path / "o")[2]
    assert "seed 5" not in paydirt(*command, "--policy", "random", "--out", tmp_path / "p")[2]


def test_perplexity_is_selected_from_below_unless_told(paydirt, tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "cache")
    tiny.score({"name": "ppl", "tune_epochs": 0}, tmp_path / "ppl", workspace)
    places = {}
    for policy in (None, "low", "top"):
        flags = ["--policy", policy] if policy else []
        out = tmp_path / str(policy)
        assert (
            paydirt("select", tmp_path / "ppl", *flags, "--count", 9, "--cache", tmp_path / "cache", "--out", out)[0]
            == 0
        )
        places[policy] = selected_ids(out)
        assert open_artifact(out).manifest["config"]["selection"]["policy"]["name"] == (policy or "low")
    assert places[None] == places["low"] != places["top"]
