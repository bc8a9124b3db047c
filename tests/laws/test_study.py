"""Laws of a study: killed or not, with one worker or two, it leaves the same bytes; what is done is not done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.command import start
from support.stages import ENCODING, TRAINING, Tiny, files_of

from paydirt.core.artifacts import open_artifact
from paydirt.core.config import dump_yaml, parse
from paydirt.study.recipe import Study
from paydirt.study.run import run_study
from paydirt.study.table import read_rows


def recipe(tiny: Tiny, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "pool": tiny.pool,
        "targets": [tiny.target],
        "model": tiny.model_config,
        "encoding": ENCODING,
        "methods": ["random", "bm25"],
        "fractions": [0.1, 0.2],
        "seeds": [1, 2],
        "training": TRAINING | {"batch_size": 4},
        "workers": 1,
    } | changes


def run(values: dict[str, Any], out: Path) -> Path:
    return run_study(parse(Study, values), out)


def output_bytes(study: Path, *parts: str) -> dict[str, dict[str, bytes]]:
    """Output files of every artifact below the named folders of a study."""
    found = {}
    for part in parts:
        for manifest in sorted((study / part).rglob("manifest.json")):
            found[str(manifest.parent.relative_to(study))] = files_of(manifest.parent)
    return found


def facts(study: Path) -> list[dict[str, Any]]:
    """The results table without what the clock decides."""
    timed = {"selection_seconds", "training_seconds"}
    return [{k: v for k, v in row.items() if k not in timed} for row in read_rows(study / "results.parquet")]


@pytest.fixture(scope="session")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nobody interrupted."""
    out = tmp_path_factory.mktemp("study") / "whole"
    run(recipe(tiny), out)
    return out


def test_the_table_has_every_run_and_zero_shot(whole: Path) -> None:
    rows = read_rows(whole / "results.parquet")
    assert [r["method"] for r in rows].count("zero-shot") == 1
    runs = {(r["method"], r["fraction"], r["seed"]) for r in rows if r["method"] != "zero-shot"}
    assert runs == {(m, f, s) for m in ("random", "bm25") for f in (0.1, 0.2) for s in (1, 2)}
    assert all(r["total_flops"] == r["selection_flops"] + r["training_flops"] for r in rows)
    assert all(0 <= r["score"] <= 1 for r in rows)
    for row in rows:
        if row["method"] != "zero-shot":
            assert row["n_examples"] == round(60 * row["fraction"])
            assert row["training_flops"] > 0
            assert row["measured_training_flops"] > 0
            assert (whole / row["selection"] / "selection.jsonl").exists()
    assert [json.loads(line)["method"] for line in (whole / "results.jsonl").read_text().splitlines()] == [
        r["method"] for r in rows
    ]


def test_selections_of_larger_fractions_hold_the_smaller(whole: Path) -> None:
    for small in sorted((whole / "selections").rglob("*p0.1*")):
        if (small / "selection.json").exists():
            large = small.with_name(small.name.replace("p0.1", "p0.2"))
            less, more = (json.loads((d / "selection.json").read_text())["ids"] for d in (small, large))
            assert more[: len(less)] == less


def test_a_second_run_does_nothing_and_says_so(tiny: Tiny, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("manifest.json")}
    table = (whole / "results.parquet").read_bytes()
    capsys.readouterr()
    run(recipe(tiny), whole)
    assert "tiny: 0 artifacts made" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("manifest.json")} == before
    assert (whole / "results.parquet").read_bytes() == table


def assert_part_of(small: Path, whole: Path, exact: bool) -> None:
    """A smaller study has the selections of the larger one, and its rows."""
    for folder, files in output_bytes(small, "selections").items():
        ids = [json.loads(d["selection.json"])["ids"] for d in (files, output_bytes(whole, "selections")[folder])]
        assert ids[0] == ids[1], folder
    rows = {(r["method"], r["fraction"], r["seed"]): r for r in facts(whole)}
    for row in facts(small):
        other = rows[row["method"], row["fraction"], row["seed"]]
        assert row.keys() == other.keys()
        for name, value in row.items():
            close = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) and not exact else value
            assert other[name] == close, name


def test_worker_processes_change_no_selection_and_no_row(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    run(recipe(tiny, workers=2, methods=["random"], fractions=[0.1]), tmp_path / "two")
    assert_part_of(tmp_path / "two", whole, exact=False)


def test_row_order_of_the_pool_changes_no_selection(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    """Nor a model, nor a result: everything is keyed by id."""
    run(recipe(tiny, pool=tiny.shuffled, fractions=[0.1], seeds=[1]), tmp_path / "shuffled")
    assert_part_of(tmp_path / "shuffled", whole, exact=True)
    for folder, files in output_bytes(tmp_path / "shuffled", "models").items():
        assert files == output_bytes(whole, "models")[folder]


def test_a_changed_input_reruns_what_depends_on_it_and_no_more(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    """Other references: bm25 is scored again, random is not, and its models stay."""
    out = shutil.copytree(whole, tmp_path / "copy")
    lines = (tiny.root / "references.jsonl").read_text().splitlines()
    references = tmp_path / "references.jsonl"
    references.write_text("\n".join(lines[:-1]) + "\n")
    made_at = {p: p.stat().st_mtime_ns for p in out.rglob("manifest.json")}
    run(recipe(tiny, targets=[tiny.target | {"references": str(references)}]), out)
    changed = {
        str(p.parent.relative_to(out))
        for p in out.rglob("manifest.json")
        if p not in made_at or p.stat().st_mtime_ns != made_at[p]
    }
    scores = {c.split("/")[2].split("-")[0] for c in changed if c.startswith("scores/")}
    assert scores == {"bm25"}
    assert all("/bm25" in c for c in changed if c.startswith("selections/"))
    assert any(c.startswith("evaluations/zero-shot") for c in changed), "reference loss is part of an evaluation"


def test_killed_and_continued_it_leaves_the_same_bytes(tiny: Tiny, whole: Path, tmp_path: Path) -> None:
    """SIGKILL once some models are trained; the second process finds what was whole and makes the rest."""
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe(tiny)))
    out = tmp_path / "killed"
    process = start("run", path, "--out", out)
    deadline = time.monotonic() + 120
    while not list(out.glob("models/*/manifest.json")):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline, "no model within two minutes"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "results.parquet").exists(), "it must be killed before it ends"
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("manifest.json")}
    assert kept

    run(recipe(tiny), out)
    for manifest, at in kept.items():
        assert manifest.stat().st_mtime_ns == at, f"{manifest} was whole and must not be made again"
    for part in ("scores", "selections", "models", "evaluations"):
        assert output_bytes(out, part) == output_bytes(whole, part), part
    assert facts(out) == facts(whole)


@pytest.mark.parametrize("folder", ["scores/any", "selections/sums_and_capitals", "models", "evaluations"])
def test_every_artifact_replays_from_its_own_config(tiny: Tiny, whole: Path, tmp_path: Path, folder: str) -> None:
    """`paydirt run DIR/config.yaml` makes the same bytes again."""
    from paydirt.core.config import read_yaml
    from paydirt.stages import STAGES, Workspace

    original = sorted((whole / folder).rglob("manifest.json"))[0].parent
    values = read_yaml(original / "config.yaml")
    cls, function = STAGES[values.pop("stage")]
    again = function(parse(cls, values), tmp_path / "again", Workspace(tmp_path / "shared"))
    assert again.fingerprint == open_artifact(original).fingerprint
    assert files_of(again.path) == files_of(original)
