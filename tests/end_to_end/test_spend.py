"""`paydirt spend` over the real stages on the tiny world: within the budget, resumable, and it says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.stages import ENCODING, TRAINING, Tiny

from paydirt.core.config import dump_yaml, parse
from paydirt.study.recipe import Study
from paydirt.study.spend import open_world, plan_text, run_spend


def _study(tiny: Tiny) -> dict[str, Any]:
    return {
        "name": "small", "pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "encoding": ENCODING,
        "methods": ["random", "length", "bm25", "ppl"], "fractions": [0.25, 0.5, 1.0], "seeds": [3], "training": TRAINING,
        "evaluation": {"name": "likelihood"},
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 1.5])
def test_a_budget_is_spent_and_not_passed(tiny: Tiny, tmp_path: Path, share: float) -> None:
    world = open_world(parse(Study, _study(tiny)), None, tmp_path / "out")
    budget = share * world._training(world.total, world.count)
    lines: list[str] = []
    done = run_spend(world, budget, lines.append)
    assert 0 <= done.flops <= budget
    written = json.loads((tmp_path / "out" / "spend.json").read_text(encoding="utf-8"))
    assert written["flops"] == done.flops == pytest.approx(sum(s["flops"] for s in written["steps"]))
    assert len(lines) == len(done.steps) >= (2 if share > 1 else 1)
    assert all("(" in line for line in lines)  # each says why
    report = (tmp_path / "out" / "spend.md").read_text(encoding="utf-8")
    assert "With" in report
    assert world.describe(done.kept) in report
    # The same command again finds everything and takes the same course at the same cost.
    models = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").rglob("*.safetensors")}
    again = run_spend(open_world(parse(Study, _study(tiny)), None, tmp_path / "out"), budget, lambda line: None)
    assert again.steps == done.steps
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").rglob("*.safetensors")} == models


def test_texts_longer_than_foreseen_are_cut_to_the_budget(tiny: Tiny, tmp_path: Path) -> None:
    """`length` takes the longest examples, which cost more than the mean that was planned with."""
    world = open_world(parse(Study, _study(tiny)), None, tmp_path / "out")
    row = next(
        i for i, e in enumerate(world.entries) if e is not None and e.label == "length" and world.fractions[i] == 0.25
    )
    foreseen = world.price(row, frozenset())
    _, spent = world.run(row, frozenset(), foreseen)
    assert spent <= foreseen
    assert world.price(row, frozenset()) > foreseen  # and the next price knows it


def test_the_command_plans_and_refuses(tiny: Tiny, tmp_path: Path, paydirt) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_yaml(_study(tiny)), encoding="utf-8")
    code, out, _ = paydirt("spend", recipe, "--budget", "1e12", "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "pilot" in out
    assert "end with" in out
    assert not (tmp_path / "out" / "models").exists()
    for budget in ("0", "-1", "inf", "1e308", "5e-324"):
        code, _, err = paydirt("spend", recipe, "--budget", budget, "--out", tmp_path / "out")
        assert code == 2
        assert "budget" in err
    world = open_world(parse(Study, _study(tiny)), None, tmp_path / "out")
    assert plan_text(world, 1e12).splitlines() == out.strip().splitlines()  # the same in Python
