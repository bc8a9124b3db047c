"""`--set KEY=VALUE` reaches any option; what a predictor learnt is told by `inspect`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.stages import Tiny

from paydirt.cli.options import with_settings


def score_learned(tiny: Tiny, out: Path) -> list[str]:
    """A small learned score of the tiny pool, as a user would type it."""
    words = ["score", "learned", "--pool", *tiny.pool["files"], "--target", "any"]
    words += ["--references", tiny.target["references"], "--model", str(tiny.model), "--max-length", "128"]
    words += ["--points", "30", "--no-refuse", "--features", "length", "--features", "bm25", "--learner", "ridge"]
    words += ["--cache", str(out.parent / "cache"), "--out", str(out)]
    for setting in (
        "truth.name=gradient",
        "truth.k=128",
        "truth.lora.r=4",
        "truth.warmup_fraction=0.2",
        "truth.warmup_epochs=1",
    ):
        words += ["--set", setting]
    return words


def test_settings_reach_nested_options_and_inspect_tells_what_was_learnt(tiny: Tiny, tmp_path: Path, paydirt) -> None:
    code, _, errors = paydirt(*score_learned(tiny, tmp_path / "scores"))
    assert code == 0, errors
    config = yaml.safe_load((tmp_path / "scores" / "config.yaml").read_text())["method"]
    assert config["truth"]["k"] == 128
    assert config["truth"]["lora"]["r"] == 4
    assert config["truth"]["lora"]["alpha"] == 512, "what is not set keeps its default"
    assert config["features"] == ["length", "bm25"]
    code, shown, _ = paydirt("inspect", str(tmp_path / "scores"))
    assert code == 0
    assert "predictor from length, bm25, on 30 points held out in turn" in shown
    assert "accuracy on three levels" in shown
    assert "rank correlation of features alone: length" in shown


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("truth.k", "--set truth.k: expected KEY=VALUE"),
        ("truth.kk=1", "unknown key 'kk'; did you mean 'k'?"),
        ("truth.k=[1", "the value is not YAML"),
        ("truth.k=zero", "k: "),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(tiny: Tiny, tmp_path: Path, paydirt, setting: str, message: str) -> None:
    code, _, errors = paydirt(*score_learned(tiny, tmp_path / "scores"), "--set", setting)
    assert code == 2
    assert message in errors


def test_settings_merge_into_what_flags_gave() -> None:
    assert with_settings({"lora": {"r": 4}}, ["lora.alpha=8", "token-budget=64"]) == {
        "lora": {"r": 4, "alpha": 8},
        "token_budget": 64,
    }
