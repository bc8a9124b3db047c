"""Law: what is random in selecting varies with a study's seeds, or the tables say that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stages import ENCODING, TRAINING, Tiny

from paydirt.core.config import dump_yaml, parse, read_yaml
from paydirt.core.seeds import draws, varied
from paydirt.scoring.base import SCORERS, make_scorer
from paydirt.selection.select import selected_ids
from paydirt.study.recipe import Study
from paydirt.study.run import run_study
from paydirt.study.table import coverage, read_rows, results_tables

LEARNED = {"name": "learned", "points_seed": 2, "truth": {"name": "gradient", "warmup_seed": 5}}


def test_every_seed_inside_a_scorer_moves() -> None:
    learned = varied(make_scorer(LEARNED), 3)
    assert (learned.points_seed, learned.truth.warmup_seed, learned.truth.projection_seed) == (5, 8, 3)
    stages = [{**LEARNED, "keep": 0.5}, {"name": "gradient", "warmup_seed": 1}]
    cascade = varied(make_scorer({"name": "cascade", "stages": stages}), 3)
    assert [s.method.points_seed if s.method.name == "learned" else s.method.warmup_seed for s in cascade.stages] == [
        5,
        4,
    ]
    assert cascade.stages[0].method.truth.warmup_seed == 8
    bare = make_scorer("bm25")
    assert varied(bare, 3) is bare
    assert make_scorer(cascade.to_dict()) == cascade


@pytest.mark.parametrize("name", SCORERS.names())
def test_a_seed_of_minus_its_value_is_a_change_too(name: str) -> None:
    """A sum of 0 must not read as "nothing to vary"."""
    options = {"labels": "x"} if name == "oracle" else {}
    made = make_scorer({"name": name, **options})
    assert varied(varied(made, 1), -1) == made
    assert draws(made) == (varied(made, 1) != made)


def study(tiny: Tiny, **changes: Any) -> Study:
    ppl = {"name": "ppl", "tune_epochs": 1, "tune_method": "full", "tune_learning_rate": 1e-2, "tune_batch_size": 1}
    values = {
        "name": "seeds",
        "pool": tiny.pool,
        "targets": [tiny.target],
        "model": tiny.model_config,
        "encoding": ENCODING,
        "methods": [ppl, "bm25"],
        "fractions": [0.1],
        "seeds": [1, 2],
        "training": TRAINING,
        "workers": 1,
    }
    return parse(Study, values | changes)


@pytest.mark.parametrize("how", ["vary", "fixed"])
def test_a_study_varies_its_selections_or_says_so(tiny: Tiny, tmp_path: Path, how: str) -> None:
    rows = read_rows(run_study(study(tiny, selection_seeds=how), tmp_path / how))
    runs = {(r["method"], r["seed"]): r for r in rows}
    seeds = {m: [runs[m, s]["selection_seed"] for s in (1, 2)] for m in ("ppl-low", "bm25")}
    assert seeds == {"ppl-low": [1, 2] if how == "vary" else [0, 0], "bm25": [None, None]}
    places = {runs["ppl-low", s]["selection"] for s in (1, 2)}
    assert len(places) == (2 if how == "vary" else 1)
    if how == "vary":
        manifests = [read_yaml(tmp_path / how / p / "config.yaml")["scores"] for p in sorted(places)]
        told = [read_yaml(Path(m) / "config.yaml")["method"]["tune_seed"] for m in manifests]
        assert told == [1, 2]
    said = coverage(rows)
    assert said == str(results_tables(tmp_path / how / "results.parquet")[0].caption)
    if how == "vary":
        assert said == "spread covers training, and of ppl-low selecting too"
    else:
        assert said == "spread covers training alone; ppl-low draws by one seed, so of selecting nothing is known"
    assert len({r["model_id"] for r in rows}) == 1
    assert all(r["train_params"] for r in rows), "zero-shot is of the same model"
    assert all(selected_ids(tmp_path / how / r["selection"]) for r in rows if r["selection"])
    again = parse(Study, {k: v for k, v in read_yaml(tmp_path / how / "config.yaml").items() if k != "stage"})
    assert parse(Study, again.to_dict()) == again
    assert dump_yaml(again.to_dict()) == dump_yaml(study(tiny, selection_seeds=how).to_dict())
