"""Laws of a plan: what it says of a recipe or a verb is what the run then states, to the artifact and the FLOP."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.data import record, write_jsonl
from support.stages import ENCODING, TRAINING, Tiny

import paydirt as pay
from paydirt.core.artifacts import Artifact
from paydirt.core.config import dump_yaml, parse
from paydirt.core.units import number
from paydirt.cost.hardware import hardware
from paydirt.data.encoding import EncodingConfig
from paydirt.data.pool import PoolConfig
from paydirt.models.load import ModelConfig
from paydirt.planning.study import study_plan
from paydirt.stages import Workspace
from paydirt.study.recipe import Study
from paydirt.study.run import run_study

CHEAP = {"name": "ppl", "tune_epochs": 1, "tune_method": "full"}


@pytest.fixture(scope="module")
def even(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A pool whose texts differ and have equal lengths: then the share of a pool says exactly what it holds."""
    root = tmp_path_factory.mktemp("even")
    pairs = [(a, b) for a in range(2, 10) for b in range(2, 10)]
    rows = [record(f"e{a}{b}", f"What is {a} plus {b}?", f"It is {(a + b) % 10}.") for a, b in pairs]
    write_jsonl(root / "all.jsonl", rows)
    space, files = Workspace(root / "shared"), PoolConfig(files=str(root / "all.jsonl"))
    lengths = space.tokens(files, ModelConfig(path=str(tiny.model)), EncodingConfig(max_length=128)).lengths
    [(common, count)] = Counter(lengths.tolist()).most_common(1)
    assert count >= 32
    write_jsonl(root / "pool.jsonl", [row for row, n in zip(rows, lengths) if n == common][:32])
    write_jsonl(root / "references.jsonl", [record(f"r{i}", f"Is {i} more than 1?", "It is.") for i in range(3, 9)])
    write_jsonl(root / "test.jsonl", [record(f"t{i}", f"Is {i} more than 0?", "It is.") for i in range(1, 4)])
    return Tiny(root, tiny.model)


def recipe(even: Tiny, **changes: Any) -> dict[str, Any]:
    return {
        "name": "planned", "pool": even.pool, "targets": [even.target], "model": even.model_config, "encoding": ENCODING,
        "methods": ["random", "bm25", "rds", CHEAP], "fractions": [0.125, 1.0], "seeds": [3, 6], "training": TRAINING,
        "workers": 1, **changes,
    }  # fmt: skip


def stated(study: Path) -> float:
    """FLOPs that a study's artifacts state as predicted, each once."""
    total = 0.0
    for manifest in study.rglob("manifest.json"):
        made = Artifact(manifest.parent)
        stage = made.manifest["stage"]
        if manifest.relative_to(study).parts[0] == "shared":
            continue
        if stage == "score":
            total += made.notes["predicted_flops"]
        elif stage == "train":
            total += made.notes["predicted_flops"]["architectural"]
        elif stage == "evaluate":
            total += json.loads((made.path / "result.json").read_text())["predicted_flops"]
    return total


def test_a_study_makes_what_its_plan_counted(even: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Artifacts and FLOPs before the run, nothing to do after it, and the rest when a part has been taken away."""
    study = parse(Study, recipe(even))
    before = study_plan(study, tmp_path / "study")
    assert before.up_to_date == 0
    capsys.readouterr()
    run_study(study, tmp_path / "study")
    made, _ = map(int, re.search(r"(\d+) artifacts made, (\d+) were", capsys.readouterr().err).groups())  # type: ignore[union-attr]
    assert before.artifacts == made
    assert before.flops == pytest.approx(stated(tmp_path / "study"), rel=1e-9)
    assert before.flops > 0
    after = study_plan(study, tmp_path / "study")
    assert (after.artifacts, after.up_to_date, after.flops) == (0, made, 0.0)

    more = study_plan(parse(Study, recipe(even, fractions=[0.125, 0.5, 1.0])), tmp_path / "study")
    assert more.up_to_date == made
    assert more.artifacts > 0
    trained = sum(work.flops or 0 for work in more.works if work.what == "train on 50.0%")
    assert trained > 0
    assert all(work.made == 0 for work in more.works if work.what.startswith("score"))


def test_a_verb_makes_what_its_plan_said(even: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Score, select, train, evaluate as calls: the same FLOPs, one artifact, and then none."""
    monkeypatch.setenv("PAYDIRT_CACHE", str(tmp_path))
    pool = pay.Pool.from_records(str(even.root / "pool.jsonl"))
    target = pay.Target.from_records(
        str(even.root / "references.jsonl"), name="even", test=str(even.root / "test.jsonl")
    )
    for method in ("bm25", "rds", CHEAP, {"name": "gradient", "k": 64, "warmup_fraction": 0.25, "warmup_epochs": 1}):
        call = (pay.score, pool, target, method)
        plan = pay.plan(*call, model=even.model, encoding=ENCODING, probe=False)
        assert (plan.artifacts, plan.up_to_date) == (1, 0)
        scores = pay.score(*call[1:], model=even.model, encoding=ENCODING)
        assert plan.flops == scores.notes["predicted_flops"]
        again = pay.plan(*call, model=even.model, encoding=ENCODING, probe=False)
        assert (again.artifacts, again.up_to_date, again.flops) == (0, 1, 0.0)
    assert pay.plan(pay.select, scores, fraction="25%", probe=False).artifacts == 1
    picked = pay.select(scores, fraction="25%")
    plan = pay.plan(pay.train, picked, even.model, training=TRAINING, probe=False)
    tuned = pay.train(picked, even.model, training=TRAINING)
    assert plan.flops == tuned.notes["predicted_flops"]["architectural"]
    plan = pay.plan(pay.evaluate, tuned, target, probe=False)
    result = pay.evaluate(tuned, target)
    assert plan.flops == pytest.approx(result.result.predicted_flops)
    assert plan.artifacts == 1


def test_a_refusal_comes_from_the_plan_already(even: Tiny, tmp_path: Path) -> None:
    pool = pay.Pool.from_records(str(even.root / "pool.jsonl"))
    target = pay.Target.from_records(str(even.root / "references.jsonl"), name="even")
    with pytest.raises(ValueError, match="selector model"):
        pay.plan(pay.score, pool, target, "rds", probe=False)


def test_hours_of_a_named_machine(even: Tiny, tmp_path: Path, paydirt) -> None:
    """FLOPs over what so many devices do; the command takes a recipe, or a verb with its options."""
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe(even)))
    plan = pay.plan(tmp_path / "recipe.yaml", hardware="h100", devices=8, out=tmp_path / "study")
    h100 = hardware("h100")
    assert plan.hours == pytest.approx(plan.flops / (8 * h100.peak_flops * h100.mfu) / 3600)
    code, out, err = paydirt(
        "plan", tmp_path / "recipe.yaml", "--hardware", "h100", "--devices", 8, "--out", tmp_path / "s"
    )
    assert code == 0, err
    assert "8 x h100 at 40% of the peak; nothing was run" in out
    assert number(plan.flops) in out
    scoring = ["score", "rds", "--pool", even.root / "pool.jsonl", "--target", "t", "--model", even.model]
    scoring += ["--references", even.root / "references.jsonl", "--max-length", 128, "--out", tmp_path / "scores"]
    code, planned, err = paydirt("plan", "--no-probe", *scoring)
    assert code == 0, err
    code, dry, err = paydirt(*scoring, "--dry-run")
    assert code == 0, err
    assert planned == dry
    assert not (tmp_path / "scores").exists()
    code, out, err = paydirt("plan", "frobnicate", "--hardware", "h100")
    assert code == 2
    code, out, err = paydirt("plan")
    assert code == 2
    assert "say what to plan" in err


def test_a_probe_is_remembered(even: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of this machine are there once it was measured, and then without measuring again."""
    monkeypatch.setenv("PAYDIRT_CACHE", str(tmp_path / "cache"))
    study = parse(Study, recipe(even, methods=["rds"], fractions=[0.125], seeds=[3]))
    assert study_plan(study, tmp_path / "study").hours is None
    measured = study_plan(study, tmp_path / "study", measure=True)
    assert measured.hours is not None
    assert 0 < measured.hours < 1
    kinds = {path.name.split("-")[0] for path in (tmp_path / "cache" / "probes").iterdir()}
    assert {"start", "reading", "training", "writing"} <= kinds
    again = study_plan(study, tmp_path / "study")
    assert again.hours == pytest.approx(measured.hours)
    assert again.peak_bytes is not None
