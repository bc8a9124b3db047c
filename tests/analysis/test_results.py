"""Laws of the results table: any spelling, unit or order loads to the same cells; nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from paydirt.analysis.loading import load_results
from paydirt.analysis.published import C_FULL, S_LESS, S_PPL, published
from paydirt.analysis.results import Results, concat, panels

ROWS = [
    {"task": t, "model": "tiny", "method": m, "train_params": 1e6, "fraction": f, "selection_flops": s,
     "training_flops": f * 1e12, "total_flops": s + f * 1e12, "score": base + 10 * f + seed, "seed": seed}
    for t, base in (("a", 10.0), ("b", 20.0))
    for m, s in (("random", 0.0), ("less", 5e11))
    for f in (0.05, 0.25, 1.0)
    for seed in (0, 1, 2)
]  # fmt: skip


def test_rows_gather_into_panels_curves_and_cells() -> None:
    got = panels(Results.from_rows(ROWS))
    assert [p.name for p in got] == ["a tiny", "b tiny"]
    curve = got[0].curves["less"]
    assert curve.fraction.tolist() == [0.05, 0.25, 1.0]
    assert curve.mean == pytest.approx([11.5, 13.5, 21.0])
    assert curve.sd == pytest.approx([1.0, 1.0, 1.0])
    assert curve.seeds.tolist() == [3, 3, 3]


def test_order_of_rows_does_not_matter() -> None:
    shuffled = [ROWS[i] for i in np.random.default_rng(0).permutation(len(ROWS))]
    for a, b in zip(panels(Results.from_rows(ROWS)), panels(Results.from_rows(shuffled))):
        assert a.curves.keys() == b.curves.keys()
        for name in a.curves:
            np.testing.assert_allclose(a.curves[name].mean, b.curves[name].mean)


def test_parquet_csv_and_jsonl_load_alike(tmp_path: Path) -> None:
    table = Results.from_rows(ROWS).table()
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet")
    pyarrow.csv.write_csv(table.drop_columns(["metric"]), tmp_path / "r.csv")
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(r) for r in ROWS), encoding="utf-8")
    (tmp_path / "r.json").write_text(json.dumps(ROWS), encoding="utf-8")
    loaded = [load_results(tmp_path / f"r.{e}") for e in ("parquet", "csv", "jsonl", "json")]
    for other in loaded[1:]:
        np.testing.assert_allclose(other.numbers["score"], loaded[0].numbers["score"])
        np.testing.assert_allclose(other.numbers["total_flops"], loaded[0].numbers["total_flops"])


def test_the_published_csv_loads_without_an_adapter(reference: Path) -> None:
    """Percents, billions and totals alone are enough: the split into selection and training is found again."""
    ours, theirs = published(), load_results(reference / "ccds_fit_points.csv")
    order = [np.lexsort((r.numbers["fraction"], r.text("method"), r.numbers["train_params"], r.text("task")))
             for r in (ours, theirs)]  # fmt: skip
    for name in ("fraction", "train_params", "score", "total_flops", "selection_flops", "training_flops"):
        np.testing.assert_allclose(
            ours.numbers[name][order[0]], theirs.numbers[name][order[1]], rtol=1e-3, atol=1, err_msg=name
        )


def test_published_costs_split_into_their_constants(paper: dict) -> None:
    for size in ("7B", "70B"):  # 13B's LESS totals are rounded to 1e15, and its first one is 1 % low as published
        panel = paper[f"MMLU {size}"]
        assert np.median(panel.curves["PPL"].selection_flops) == pytest.approx(S_PPL, rel=1e-3)
        assert np.median(panel.curves["LESS"].selection_flops) == pytest.approx(S_LESS, rel=1e-3)
        assert panel.curves["Random"].training_flops[5] == pytest.approx(C_FULL[size], rel=1e-4)
    assert len(published()) == 215


def test_zero_shot_by_any_name_is_a_row_without_cost(tmp_path: Path) -> None:
    rows = [*ROWS, {"task": "a", "model": "tiny", "method": "Zero_Shot", "score": 9.0}]
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    got = panels(load_results(tmp_path / "r.jsonl"))
    assert got[0].zero_shot.tolist() == [9.0]
    assert "zero-shot" not in got[0].curves


@pytest.mark.parametrize(("budget", "values"), [("n_examples", [10, 50, 200]), ("tokens", [1e3, 5e3, 2e4]),
                                                 ("flops", [1e12, 5e12, 2e13])])  # fmt: skip
def test_budgets_in_any_unit_become_fractions(tmp_path: Path, budget: str, values: list[float]) -> None:
    rows = [{"task": "t", "model": "Llama-3.2-1B", "method": "random", budget: v, "score": 1.0 + i}
            for i, v in enumerate(values)]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    results = load_results(tmp_path / "r.jsonl")
    assert panels(results)[0].curves["random"].fraction == pytest.approx([0.05, 0.25, 1.0])
    assert results.numbers["train_params"][0] == 1e9
    assert any("largest run" in note for note in results.notes)


def test_rows_without_a_score_are_dropped_and_counted() -> None:
    results = Results.from_rows([*ROWS, {**ROWS[0], "score": float("nan")}])
    assert len(results) == len(ROWS)
    assert any("1 rows without a finite score" in note for note in results.notes)


def test_several_selectors_of_one_method_stay_apart() -> None:
    rows = [{**r, "selector_params": p} for r in ROWS if r["method"] == "less" for p in (1e9, 7e9)]
    assert set(panels(Results.from_rows(rows))[0].curves) == {"less", "less @7B"}


def test_a_model_is_not_its_name() -> None:
    """A 1e6-parameter accuracy and a 7e9 F1 of two models that are both called "model" are no cell of two seeds."""
    one = {"task": "t", "model": "model", "method": "random", "fraction": 0.05, "train_params": 1e6, "metric": "accuracy",
           "training_flops": 1.0, "selection_flops": 0.0, "total_flops": 1.0, "score": 0.5, "seed": 0}  # fmt: skip
    for change, names in (
        ({"train_params": 7e9}, {"t model (0.001B)", "t model (7B)"}),
        ({"metric": "f1"}, {"t (accuracy) model", "t (f1) model"}),
        ({"model_id": "bbb"}, {"t model (aaa)", "t model (bbb)"}),
        ({"train_params": 7e9, "metric": "f1"}, {"t (accuracy) model (0.001B)", "t (f1) model (7B)"}),
    ):
        results = Results.from_rows([{**one, "model_id": "aaa"}, {**one, "model_id": "aaa", "seed": 1, **change}])
        got = panels(results)
        assert {p.name for p in got} == names
        assert [p.curves["random"].seeds.tolist() for p in got] == [[1], [1]]
        assert any("kept apart" in note for note in results.notes)
        again = concat([results])
        assert {p.name for p in panels(again)} == names, "names that tell apart are left alone"
    both = panels(Results.from_rows([one, {**one, "seed": 1}]))
    assert [p.name for p in both] == ["t model"]
    assert both[0].curves["random"].seeds.tolist() == [2]


def test_rows_that_do_not_say_their_model_are_of_the_only_one(tmp_path: Path) -> None:
    """Zero-shot rows of older tables have no size; with two sizes nobody knows whose they are, and that is said."""
    zero = {"task": "a", "model": "tiny", "method": "zero-shot", "score": 9.0}
    assert [len(p.zero_shot) for p in panels(Results.from_rows([*ROWS, zero]))] == [1, 0]
    larger = [{**r, "train_params": 7e9} for r in ROWS if r["task"] == "a"]
    got = {p.name: p for p in panels(Results.from_rows([*ROWS, *larger, zero]))}
    assert len(got["a tiny (not stated)"].zero_shot) == 1
    assert len(got["a tiny (7B)"].zero_shot) == 0


def test_concat_keeps_every_row_and_name() -> None:
    both = concat([Results.from_rows(ROWS), published()])
    assert len(both) == len(ROWS) + 215
    assert set(both.levels["method"]) == {"random", "less", "Random", "BM25", "Embed", "PPL", "LESS"}


@pytest.mark.parametrize(
    ("table", "needle"),
    [
        ({"method": ["a"], "fraction": [0.1]}, "no score column"),
        ({"score": [1.0], "fraction": [0.1]}, "no method"),
        ({"score": [1.0], "method": ["a"]}, "no budget"),
        ({"score": ["high"], "method": ["a"], "fraction": [0.1]}, "not a number"),
    ],
)
def test_bad_tables_say_what_is_wrong(tmp_path: Path, table: dict, needle: str) -> None:
    pyarrow.parquet.write_table(pa.table(table), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=needle):
        load_results(tmp_path / "bad.parquet")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.csv"):
        load_results(tmp_path / "nowhere.csv")
    (tmp_path / "x.parquet").write_text("not parquet", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.parquet"):
        load_results(tmp_path / "x.parquet")
    (tmp_path / "x.xlsx").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="ending"):
        load_results(tmp_path / "x.xlsx")
