"""`paydirt spend` over the real stages on the tiny world: within the budget, resumable, and it says why."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.stages import ENCODING, TRAINING, Tiny

import paydirt as pay
from paydirt.core.artifacts import open_artifact
from paydirt.core.config import dump_yaml, parse
from paydirt.study.recipe import Study
from paydirt.study.spend import open_world, plan_text, run_spend
from paydirt.study.spend_world import StudyWorld, unit_of


def _study(tiny: Tiny, **more: Any) -> dict[str, Any]:
    return {
        "name": "small", "pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "encoding": ENCODING,
        "methods": ["random", "length", "bm25", "ppl"], "fractions": [0.25, 0.5, 1.0], "seeds": [3], "training": TRAINING,
        "evaluation": {"name": "likelihood"}, **more,
    }  # fmt: skip


def _world(tiny: Tiny, out: Path, **more: Any) -> StudyWorld:
    return open_world(parse(Study, _study(tiny, **more)), None, out)


def _row(world: StudyWorld, label: str, fraction: float, epochs: float = 1.0) -> int:
    return next(
        i for i, o in enumerate(world.options)
        if o.entry is not None and (o.entry.label, o.fraction, o.epochs) == (label, fraction, epochs)
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 1.5])
def test_a_budget_is_spent_and_not_passed(tiny: Tiny, tmp_path: Path, share: float) -> None:
    world = _world(tiny, tmp_path / "out")
    budget = share * world.training_flops(world.total, world.count)
    lines: list[str] = []
    done = run_spend(world, budget, lines.append)
    assert 0 <= done.flops <= budget
    written = json.loads((tmp_path / "out" / "spend.json").read_text(encoding="utf-8"))
    assert written["flops"] == done.flops == pytest.approx(sum(s["flops"] for s in written["steps"]))
    assert len(lines) == len(done.steps) >= (2 if share > 1 else 1)
    assert all("(" in line for line in lines)  # each says why
    report = (tmp_path / "out" / "spend.md").read_text(encoding="utf-8")
    assert world.describe(done.kept) in report
    told = [w["budget"] for w in written["what_if"]]
    assert {budget / 2, budget * 2} <= set(told)
    # The results table is that of a study, one row a run and the untuned model's.
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert len(rows) == len(done.steps)
    spent = {r["method"]: r["selection_flops"] for r in rows}
    assert sum(spent.values()) + sum(r["training_flops"] for r in rows) == pytest.approx(done.flops)
    # The same command again finds everything and takes the same course at the same cost.
    models = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").rglob("*.safetensors")}
    again = run_spend(_world(tiny, tmp_path / "out"), budget, lambda line: None)
    assert again.steps == done.steps
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").rglob("*.safetensors")} == models


def test_texts_longer_than_foreseen_are_cut_to_the_budget(tiny: Tiny, tmp_path: Path) -> None:
    """`length` takes the longest examples, which cost more than the mean that was planned with."""
    world = _world(tiny, tmp_path / "out")
    row = _row(world, "length", 0.25)
    foreseen = world.price(row, frozenset())
    world.run(0, frozenset(), foreseen)
    _, spent = world.run(row, frozenset(), foreseen)
    assert spent <= foreseen
    assert world.price(row, frozenset()) > foreseen  # and the next price knows it
    assert world.runs[row].fraction < 0.25  # and the table says what was trained on
    with pytest.raises(ValueError, match="raise the budget"):
        world.run(row, frozenset(), 1.0)


def test_a_training_of_fewer_epochs_is_a_pilot_of_its_own(tiny: Tiny, tmp_path: Path) -> None:
    """A third of the epochs is a third of the price; what is trained has them, and the table tells them apart."""
    study = parse(Study, _study(tiny, training=TRAINING | {"epochs": 3}))
    plain = open_world(study, None, tmp_path / "out")
    assert {o.epochs for o in plain.options} == {0.0, 3.0, 6.0}  # 60 examples are too few for small pilots
    world = StudyWorld(study, plain.target, plain.out, plain.workspace, fewest=5)
    one, all_ = _row(world, "bm25", 0.5, 1.0), _row(world, "bm25", 0.5, 3.0)
    assert world.price(one, frozenset()) == pytest.approx(world.price(all_, frozenset()) / 3)
    assert world.at.n[one] == pytest.approx(world.at.n[all_] / 3)
    assert world.at.x[one] == world.at.x[all_] == 0.5
    assert "1 epoch instead of 3" in world.describe(one)
    world.run(0, frozenset(), 1.0)
    _, spent = world.run(one, frozenset(), 1e15)
    trained = open_artifact(world.runs[one].model, "train")
    assert trained.manifest["config"]["training"]["epochs"] == 1
    assert spent == trained.notes["predicted_flops"]["architectural"]
    assert world.runs[one].entry.label == "bm25 (1 of 3 epochs)"


def test_a_recipe_of_one_method_still_may_end_in_random_everything_or_more_epochs(tiny: Tiny, tmp_path: Path) -> None:
    world = _world(tiny, tmp_path / "out", methods=["bm25"], fractions=[0.25])
    once = world.training_flops(world.total, world.count)
    whole, twice = _row(world, "random", 1.0), _row(world, "random", 1.0, 2.0)
    assert world.price(whole, frozenset()) == pytest.approx(once)
    assert world.price(twice, frozenset()) == pytest.approx(2 * once)
    assert world.at.x[twice] == 2.0
    assert _row(world, "random", 0.25) > 0
    # What is left is put to use: sizes between the recipe's and the whole are offered too.
    mine = [i for i, o in enumerate(world.options) if o.entry is not None and o.entry.label == "bm25"]
    assert [world.options[i].fraction for i in mine if world.pilot[i]] == [0.25]
    sizes = sorted(world.options[i].fraction for i in mine)
    assert len(sizes) > 4
    assert max(b / a for a, b in pairwise(sizes)) < 1.4


def test_errors_are_turned_so_that_less_is_more() -> None:
    loss, share, percent = unit_of(2.5, "loss"), unit_of(0.25, "exact_match"), unit_of(25.0, "accuracy")
    assert loss.factor * 2.0 + loss.shift > loss.factor * 2.5 + loss.shift == 50
    assert loss.back(loss.factor * 2.0 + loss.shift) == pytest.approx(2.0)
    assert share.factor * 0.25 == percent.factor * 25.0 == 25.0


def test_the_command_plans_and_refuses(tiny: Tiny, tmp_path: Path, paydirt) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_yaml(_study(tiny)), encoding="utf-8")
    code, out, _ = paydirt("spend", recipe, "--budget", "1e12", "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "pilot" in out
    assert "end with" in out
    assert re.search(r"takes about [\d.]+ .B with", out)
    assert "of one processor core" in out
    assert not (tmp_path / "out" / "models").exists()
    for budget in ("0", "-1", "inf", "1e308", "5e-324"):
        code, _, err = paydirt("spend", recipe, "--budget", budget, "--out", tmp_path / "out")
        assert code == 2
        assert "budget" in err
    assert (
        plan_text(_world(tiny, tmp_path / "out"), 1e12).splitlines() == out.strip().splitlines()
    )  # the same in Python
    code, _, err = paydirt("spend", recipe, "--budget", "1e12", "--hardware", "h10", "--out", tmp_path / "out")
    assert code == 2
    assert "h100" in err


def test_a_studys_folder_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "results.parquet").write_bytes(b"of a study")
    with pytest.raises(ValueError, match="would be lost"):
        _world(tiny, tmp_path)


def test_hours_dollars_and_a_plan_by_call(tiny: Tiny, tmp_path: Path) -> None:
    """Hours times hardware are a budget; utilisation and price override the table's."""
    how = {"hardware": "cpu-core", "hours": 1e-3, "out": tmp_path / "out"}
    assert "0.001 hours on 1 x cpu-core, about 0.00 dollars" in pay.spend(_study(tiny), **how, dry_run=True)
    dear = pay.spend(_study(tiny), **how, utilisation=1.0, price=5000, dry_run=True)
    assert "0.001 hours on 1 x cpu-core, about 5.00 dollars" in dear
    found = pay.spend(_study(tiny), budget=4e8, hardware="cpu-core", price=5000, out=tmp_path / "out")
    assert isinstance(found, pay.Spending)
    assert 0 <= found.flops <= 4e8
    assert "dollars" in found.paragraph
    assert "wide and sure can both hold" in found.paragraph
    assert found.to_arrow().num_rows == len(found.course["steps"])
    assert [round(w / 4e8, 6) for w in found.what_if()["budget"].to_pylist()] == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    assert 'id="budget"' in found.study.report.read_text(encoding="utf-8")
