"""Laws of the loader and of what advice is drawn from: pools, prices, metrics, units, names, spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paydirt.analysis.advisor import Advice, advise
from paydirt.analysis.cases import HOLDS, STUDIES, cases, prior_points, without
from paydirt.analysis.evidence import gather
from paydirt.analysis.law import law
from paydirt.analysis.loading import load_results
from paydirt.analysis.names import lower_is_better, method_key
from paydirt.analysis.prior import known_without
from paydirt.analysis.results import Results, panels
from paydirt.analysis.strategies import Job, selection_cost, strategies

JOB = Job(7e9, 3.6e8, 200, task="new", model="m", pool_examples=1e6)


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return path


def _on_pool(path: Path) -> Results:
    return load_results(path, pool_tokens=JOB.pool_tokens, pool_examples=JOB.pool_examples)


def _pilot(**more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [{"task": "new", "model": "m", "method": m, "n_examples": n, "seed": s, "train_params": 7e9,
             "score": float(law(np.array(n / 1e6), 40.0, r, 60.0)) + rng.normal(0, 0.1), **more}
            for m, r in (("Random", 5.0), ("BM25", 30.0), ("Embed", 5.0)) for n in (500, 5000) for s in (0, 1)]  # fmt: skip


def _shown(advice: Advice) -> list[tuple[str, float, float, float]]:
    return [
        (r.strategy.label.lower(), r.strategy.fraction, round(r.expected, 6), round(r.high, 6)) for r in advice.ranking
    ]


def test_runs_counted_in_examples_stand_on_the_jobs_pool_not_on_everything(tmp_path: Path) -> None:
    """Three pilots at `n_examples` became one point on the whole pool (regret 1.25 to 3.86)."""
    path = _write(tmp_path / "r.jsonl", _pilot())
    told = _on_pool(path)
    assert sorted(set(told.numbers["fraction"])) == pytest.approx([500e-6, 5000e-6])
    placed = gather(JOB, load_results(path), use_published=True)  # nobody told the loader
    assert sorted(set(placed.own.n)) == pytest.approx([500, 5000])
    assert "everything" not in set(placed.own.method)


@pytest.mark.parametrize("pool", [{"pool": 1_000_000}, {"pool": "mix-1000k"}, {"pool_size": 1e6}])
def test_a_table_tells_its_pool_by_a_column(tmp_path: Path, pool: dict[str, Any]) -> None:
    results = load_results(_write(tmp_path / "r.jsonl", _pilot(**pool)))
    assert results.numbers["pool_examples"][0] == 1e6
    assert panels(results)[0].curves["Random"].fraction == pytest.approx([500e-6, 5000e-6])


def test_rows_of_two_pools_are_two_panels(tmp_path: Path) -> None:
    rows = _pilot(pool="flan-100k") + _pilot(pool="tulu-200k")
    results = load_results(_write(tmp_path / "r.jsonl", rows))
    assert [p.model for p in panels(results)] == ["m [flan-100k]", "m [tulu-200k]"]
    assert any("several pools" in note for note in results.notes)


def test_a_selection_cost_that_nobody_gave_is_unknown_and_priced_by_closed_form(tmp_path: Path) -> None:
    """A LESS row without cost became "99 % sure" at a budget that its selection exceeds."""
    rows = _pilot() + [{**r, "method": "LESS", "score": r["score"] + 9} for r in _pilot()[:4]]
    results = _on_pool(_write(tmp_path / "r.jsonl", rows))
    less = results.text("method") == "LESS"
    assert np.isnan(results.numbers["selection_flops"][less]).all()
    assert (results.numbers["selection_flops"][results.text("method") == "Random"] == 0).all()
    assert any("LESS" in n and "unknown, not 0" in n for n in results.notes)
    budget = 0.01 * JOB.full_training_flops
    assert selection_cost(JOB, "LESS", 7e9, False) > budget
    assert "LESS" not in {
        r.strategy.method for r in advise(JOB, budget, results=results, find_pilot=False, draws=200).ranking
    }


def test_a_measured_price_is_scaled_to_the_jobs_pool() -> None:
    """A pilot on a pool of a thousandth set LESS at a thousandth of its price."""
    small = [{"task": "new", "model": "m", "method": "LESS", "train_params": 7e9, "selector_params": 7e9, "fraction": f,
              "selection_flops": 3e16, "training_flops": f * 1e16, "score": 50.0 + f, "n_examples": f * 1000,
              "tokens": f * 3.6e5, "total_flops": 3e16 + f * 1e16} for f in (0.1, 0.5)]  # fmt: skip
    import pyarrow as pa

    from paydirt.analysis.completion import complete
    from paydirt.analysis.loading import from_table

    known = gather(JOB, complete(from_table(pa.Table.from_pylist(small))), use_published=True)
    assert known.pilot_tokens == pytest.approx(3.6e5)
    there = selection_cost(JOB, "LESS", 7e9, False, known.panel, known.pilot_tokens)
    assert 800 * 3e16 < there < 1001 * 3e16  # references cost the same on any pool
    assert selection_cost(JOB, "LESS", 7e9, False, known.panel, JOB.pool_tokens) == 3e16


def test_losses_are_minimised(tmp_path: Path) -> None:
    rows = [{**r, "metric": "validation loss", "score": 3 - r["score"] / 30} for r in _pilot()]
    results = _on_pool(_write(tmp_path / "r.jsonl", rows))
    assert (results.numbers["score"] < 0).all()
    assert any("better when lower" in n for n in results.notes)
    up = load_results(
        _write(tmp_path / "up.jsonl", _pilot()), pool_tokens=JOB.pool_tokens, pool_examples=JOB.pool_examples
    )
    best = [
        advise(JOB, 0.01 * JOB.full_training_flops, results=r, find_pilot=False, draws=200).best for r in (results, up)
    ]
    assert best[0].strategy.method == best[1].strategy.method == "BM25"
    assert -3 < best[0].expected < 0
    told = [{**r, "metric": "surprise", "higher_is_better": False} for r in _pilot()]
    assert (
        load_results(_write(tmp_path / "told.jsonl", told), pool_tokens=3.6e8, pool_examples=1e6).numbers["score"] < 0
    ).all()


def test_names_of_errors() -> None:
    assert all(map(lower_is_better, ("loss", "eval_loss", "test loss", "Perplexity", "WER", "valLoss")))
    assert not any(map(lower_is_better, ("accuracy", "f1", "likelihood", "closs-book em", "")))


def test_two_metrics_are_never_averaged(tmp_path: Path) -> None:
    rows = [{**r, "metric": "f1"} for r in _pilot()] + [{**r, "metric": "exact match", "score": 1.0} for r in _pilot()]
    results = _on_pool(_write(tmp_path / "r.jsonl", rows))
    with pytest.raises(ValueError, match=r"exact match, f1.*--metric"):
        gather(JOB, results, use_published=True)
    assert gather(JOB, results, True, metric="F1").panel.curves["BM25"].mean.min() > 30


def test_each_task_has_its_own_unit(tmp_path: Path) -> None:
    """One task in percent made another task's shares of 1 count as percents."""
    other = [{**r, "task": "other", "score": r["score"] / 100} for r in _pilot()]
    results = load_results(
        _write(tmp_path / "r.jsonl", _pilot() + other), pool_tokens=JOB.pool_tokens, pool_examples=JOB.pool_examples
    )
    known = gather(JOB, results, use_published=False)
    assert 35 < known.model.known.y.min() < 65


@pytest.mark.parametrize(("column", "value", "needle"), [
    ("fraction", 2.5, r"row 2 has fraction 2\.5.*\(0, 1\]"), ("fraction", -0.1, "row 2 has fraction -0.1"),
    ("percent", 250.0, "percent 250"), ("fraction", 0.0, "fraction is 0"), ("n_examples", float("inf"), "n_examples is inf"),
])  # fmt: skip
def test_shares_outside_their_range_are_refused(tmp_path: Path, column: str, value: float, needle: str) -> None:
    rows = [{"task": "t", "model": "m", "method": "Random", column: v, "score": 1.0} for v in (0.1, value)]
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "r.parquet")
    with pytest.raises(ValueError, match=needle):
        load_results(tmp_path / "r.parquet")


def test_whole_multiples_of_a_hundred_percent_are_epochs(tmp_path: Path) -> None:
    rows = [
        {"task": "t", "model": "m", "method": "Random", "percent": v, "flops": v, "score": 1.0} for v in (10.0, 200.0)
    ]
    results = load_results(_write(tmp_path / "r.jsonl", rows))
    assert results.numbers["fraction"].tolist() == pytest.approx([0.1, 2.0])
    assert any("further epochs" in note for note in results.notes)


@pytest.mark.parametrize(("name", "key"), [
    ("RDS+ (RR)", "rds (rr)"), ("rds+(round robin)", "rds (rr)"), ("  LESS ", "less"), ("gradient", "less"),
    ("LESS (KNN-Unif.)", "less (unif)"), ("EMBED (RR)", "embed (rr)"), ("my own", "myown"),
])  # fmt: skip
def test_methods_are_known_by_any_spelling(name: str, key: str) -> None:
    assert method_key(name) == key


def test_other_peoples_columns_are_found(tmp_path: Path) -> None:
    rows = [{"Task": "t", "Base Model": "m-7b", "method": "RDS+ (RR)", "num_samples": n, "true_metric": 50.0 + n,
             "pool": 1000}
            for n in (10, 100)]  # fmt: skip
    results = load_results(_write(tmp_path / "r.jsonl", rows))
    assert results.numbers["fraction"].tolist() == [0.01, 0.1]
    assert results.numbers["score"].tolist() == [60.0, 150.0]


@pytest.mark.parametrize("names", [{"task": "nwe"}, {"task": "new", "model": "mm"}])
def test_a_mistyped_name_is_answered_with_the_near_one(tmp_path: Path, names: dict[str, str]) -> None:
    from dataclasses import replace

    results = load_results(
        _write(tmp_path / "r.jsonl", _pilot()), pool_tokens=JOB.pool_tokens, pool_examples=JOB.pool_examples
    )
    notes = gather(replace(JOB, model="m", **{k: v for k, v in names.items() if k == "task"}) if "model" not in names
                   else replace(JOB, **names), results, True).notes  # fmt: skip
    assert "did you mean 'new'?" in notes[0] or "did you mean 'm'?" in notes[0] or "they are of m" in notes[0]


def test_case_spaces_order_and_duplicates_change_nothing(tmp_path: Path) -> None:
    rows = _pilot()
    odd = [{**r, "task": (" NEW", "new", "New ")[i % 3], "model": ("M", "m")[i % 2],
            "method": (r["method"].upper(), r["method"])[i % 2]} for i, r in enumerate(rows)]  # fmt: skip
    ways = {"plain": rows, "shuffled": [rows[i] for i in np.random.default_rng(0).permutation(len(rows))], "spelt": odd}
    seen = []
    for name, way in ways.items():
        results = _on_pool(_write(tmp_path / f"{name}.jsonl", way))
        seen.append(_shown(advise(JOB, 1e17, results=results, find_pilot=False, draws=300)))
    assert seen[0] == seen[1] == seen[2]


def test_a_mean_told_twice_is_not_more_evidence_than_its_seeds(tmp_path: Path) -> None:
    """The same rows twice move the expectation nowhere."""
    rows = _pilot()
    once, twice = (_on_pool(_write(tmp_path / f"{i}.jsonl", rows * i)) for i in (1, 2))
    a, b = (advise(JOB, 1e17, results=r, find_pilot=False, draws=300).best for r in (once, twice))
    assert (a.strategy.label, a.strategy.fraction) == (b.strategy.label, b.strategy.fraction)
    assert a.expected == pytest.approx(b.expected, abs=0.2)


def test_without_references_only_methods_that_need_none_are_offered() -> None:
    job = Job(7e9, 1e8, 0)
    assert {s.method for s in strategies(job, 1e20)} == {"Random", "zero-shot"}
    advice = advise(job, 1e18, find_pilot=False, draws=200)
    assert any("references=0" in n and "LESS" in n for n in advice.notes)
    assert "LESS" in {s.method for s in strategies(Job(7e9, 1e8), 1e20)}  # not told is not none


def test_costs_take_the_pools_mean_length_not_the_models_maximum() -> None:
    """Budgets bought a fifth of what they pay for."""
    from paydirt.analysis.published import ARCHITECTURES
    from paydirt.cost.forms import training_flops

    arch = ARCHITECTURES["7B"]
    job = Job(7e9, 1e8, 100, pool_examples=1e6, train_architecture=arch)
    assert job.full_training_flops == training_flops(arch, 1e8, 100.0)


@pytest.mark.parametrize("name", ["MMLU|7B", "mmlu|Llama-2-7b-hf", " Mmlu |llama2-7b", "M-MLU|7b"])
def test_the_prior_leaves_out_the_users_own_panel_however_spelt(name: str) -> None:
    task, model = name.split("|")
    left = known_without(task, model, 6.74e9 if "lama" in model else 7e9)
    assert not ((left.task == "mmlu") & (left.model == "llama27b")).any()
    assert ((left.task == "mmlu") & (left.model == "llama213b")).any()


@pytest.mark.parametrize("budget", [1e16, 1e17, 1e18, 1e19])
def test_more_budget_never_promises_less(budget: float) -> None:
    rows = advise(Job(7e9, 1e8, 200), budget, find_pilot=False, draws=200).by_budget
    expected = [r.expected for _, r in rows]
    assert expected == sorted(expected)


def test_more_data_never_widens_what_is_believed_of_a_score() -> None:
    """Under each value of the panel's scale, the variance of every true score only falls when a run is added.

    (The mixture over scales may widen when a run shows that the panel's scale is larger than thought; that is learning.)
    """
    from paydirt.analysis.points import ask, points
    from paydirt.analysis.posterior import Points, predict
    from paydirt.analysis.prior import prior_model
    from paydirt.analysis.results import Panel

    panel = panels(Results.from_rows([{**r, "fraction": r["n_examples"] / 1e6} for r in _pilot()]))[0]
    own = points([panel], 1.0, {("new", "m"): 1e6})
    model = prior_model("new", "m", 7e9)
    at = ask(Panel("new", "m", 7e9), ["BM25", "LESS", "PPL"], [0.05, 0.1, 0.5], pool=1e6)
    before = None
    for k in range(len(own) + 1):
        some: Points | None = own.where(np.arange(k)) if k else None
        variance = np.array([np.diag(c) for c in predict(model, at, some).covariances])
        if before is not None:
            assert (variance <= before + 1e-6).all()
        before = variance


@pytest.mark.parametrize("bad", [0, -1, 5e-324, 1e308, float("inf"), float("nan")])
@pytest.mark.parametrize(
    "field", ["train_params", "pool_tokens", "references", "pool_examples", "seq_len", "selector_params"]
)
def test_sizes_beyond_reason_are_refused_at_once(field: str, bad: float) -> None:
    """`advise` with 1e308 parameters hung."""
    if (field, bad) in (("references", 0), ("references", 5e-324)):
        return  # no references is a thing to say
    given: dict[str, Any] = {
        "train_params": 7e9,
        "pool_tokens": 1e8,
        field: (bad,) if field == "selector_params" else bad,
    }
    with pytest.raises(ValueError, match=field):
        Job(**given)


@pytest.mark.parametrize("value", ["0", "-1", "5e-324", "1e308", "inf", "nan"])
@pytest.mark.parametrize("option", ["--budget", "--pool-tokens", "--train-params", "--level", "--devices"])
def test_the_command_refuses_what_is_beyond_reason(paydirt: Any, option: str, value: str) -> None:
    """Exit 2 with the value's name and range, at once."""
    given = {"--train-params": "7e9", "--pool-tokens": "1e8", "--budget": "1e18", option: value}
    code, _, err = paydirt("advise", *(word for pair in given.items() for word in pair))
    assert code == 2
    assert option.strip("-").replace("-", "_") in err.replace("-", "_")


@pytest.mark.parametrize("value", ["0", "-1", "1e308", "inf", "nan"])
@pytest.mark.parametrize("option", ["--level", "--pool-tokens", "--pool-examples"])
def test_fit_refuses_what_is_beyond_reason(paydirt: Any, option: str, value: str) -> None:
    code, _, err = paydirt("fit", "published", option, value)
    assert code == 2
    assert option.strip("-").replace("-", "_") in err.replace("-", "_")


@pytest.mark.parametrize("hold", HOLDS)
def test_a_back_test_never_reads_the_held_out_scores(hold: str) -> None:
    """What is learned from holds no point of the held-out panel, whatever is held out, and the options hold no score."""
    for study in STUDIES:
        for held in cases(study):
            left, _ = without(prior_points(), held, hold)
            assert len(left)
            own = (left.task == held.at.task[0]) & (left.model == held.at.model[0])
            if hold == "study":  # the other study's runs of the same task and model are evidence, and not of this panel
                own &= left.study == held.study
            assert not own.any(), held.name
            shared = {"model": left.model, "task": left.task, "study": left.study}.get(hold)
            key = {"model": held.at.model[0], "task": held.at.task[0], "study": held.study}.get(hold)
            assert shared is None or not (shared == key).any(), held.name
            assert np.isnan(held.at.y).all()
