"""Cascades: what each stage sees and keeps, the order of what was dropped, and the budget."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.scorers.cascade import tiers
from paydirt.scoring.base import make_scorer
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace
from scorers.test_learned import CHEAP, LEARNED

FULL = CHEAP | {"warmup_epochs": 2}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("cascade") / "shared")


def run(
    tiny: Tiny, out: Any, workspace: Workspace, stages: list[Any], **more: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores [N] and the account of a cascade."""
    artifact = tiny.score({"name": "cascade", "stages": stages, "full": FULL, **more}, out, workspace)
    return Scores(artifact.path).reduce()[0], json.loads((artifact.path / "cascade.json").read_text())


def test_dropped_examples_rank_below_survivors_stage_by_stage() -> None:
    dropped = [(np.array([0, 2]), np.array([5.0, 9])), (np.array([3, 5]), np.array([1.0, 0]))]
    scores = tiers(6, np.array([1, 4]), np.array([0.3, -0.2]), dropped)
    assert np.argsort(-scores).tolist() == [1, 4, 3, 5, 2, 0]


def test_stages_narrow_and_the_last_one_decides(tiny, workspace, tmp_path) -> None:
    stages = [{"name": "bm25", "keep": 0.5}, {"name": "length", "keep": 0.5}, {"name": "gradient", **CHEAP}]
    scores, told = run(tiny, tmp_path / "c", workspace, stages, share=1.0)
    seen = [(s["method"], s["seen"], s["kept"]) for s in told["stages"]]
    assert seen == [("bm25", 60, 30), ("length", 30, 15), ("gradient", 15, 15)]
    bm25 = make_scorer("bm25").scores(tiny.job("bm25", tmp_path / "bm25", workspace))
    length = make_scorer("length").scores(tiny.job("length", tmp_path / "length", workspace))
    full, _ = Scores(tiny.score({"name": "gradient", **CHEAP}, tmp_path / "g", workspace).path).reduce()
    first = np.sort(np.argsort(-bm25, kind="stable")[:30])
    second = first[np.argsort(-length[first], kind="stable")[:15]]
    order = np.argsort(-scores, kind="stable")
    assert set(order[:15].tolist()) == set(second.tolist())
    np.testing.assert_allclose(scores[second], full[second], atol=0.02)  # int8 stores of other rows
    assert set(order[:30].tolist()) == set(first.tolist())


@pytest.mark.parametrize("share", [0.35, 0.6])
def test_gradients_take_what_the_budget_pays_for(tiny, workspace, tmp_path, share: float) -> None:
    scores, told = run(tiny, tmp_path / "c", workspace, ["bm25", {"name": "gradient", **CHEAP}], share=share)
    assert told["spent"] <= told["budget"]
    bm25 = make_scorer("bm25").scores(tiny.job("bm25", tmp_path / "bm25", workspace))
    verified = told["stages"][-1]["kept"]
    assert 0 < verified <= 60
    best = np.argsort(-bm25, kind="stable")[:verified]
    assert set(np.argsort(-scores, kind="stable")[:verified].tolist()) == set(best.tolist())


def test_a_learned_stage_spends_the_rest(tiny, workspace, tmp_path) -> None:
    stages = [
        LEARNED | {"rounds": 3},
        {"name": "gradient", **CHEAP},
    ]
    _, told = run(tiny, tmp_path / "c", workspace, stages, share=0.46)
    assert 0.85 * told["budget"] < told["spent"] <= told["budget"]
    assert 20 < told["stages"][-1]["kept"] < 60
    assert (tmp_path / "c" / "diagnostics.json").exists()


def test_a_dear_stage_sees_what_half_of_the_rest_can_pay_for(tiny, workspace, tmp_path) -> None:
    job = tiny.job("rds", tmp_path / "job", workspace)
    whole = make_scorer("rds").predict_cost(job).flops
    scores, told = run(
        tiny, tmp_path / "c", workspace, ["bm25", "rds", {"name": "gradient", **CHEAP}], budget=whole * 30
    )
    assert told["stages"][0]["kept"] == 60
    with pytest.raises(ValueError, match=r"cascade: a budget of .* cannot be kept to; give at least"):
        run(tiny, tmp_path / "d", workspace, ["bm25", "rds", {"name": "gradient", **CHEAP}], budget=whole / 2)
    assert np.isfinite(scores).all()


def test_a_dear_feature_is_left_out_and_said(tiny, workspace, tmp_path, capsys) -> None:
    stages = [LEARNED | {"features": ["length", "rds", "loss"]}, {"name": "gradient", **CHEAP}]
    _, told = run(tiny, tmp_path / "c", workspace, stages, share=0.9)
    report = json.loads((tmp_path / "c" / "diagnostics.json").read_text())
    assert report["features"] == ["length", "loss"]
    assert "the feature 'rds' would cost" in capsys.readouterr().err
    assert told["spent"] <= told["budget"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["bm25"], "at least 2 items"),
        (["learned", "bm25", "gradient"], "the stage 'learned' is the last one, or followed by the truth"),
        (["bm25", "cascade"], "a cascade cannot be a stage of a cascade"),
        (["bm52", "gradient"], r"unknown method 'bm52'; did you mean 'bm25'\?"),
        ([{"name": "bm25", "keep": 2}, "gradient"], "less than or equal to 1"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(stages: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scorer({"name": "cascade", "stages": stages})
