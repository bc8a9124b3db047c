"""Laws of the advisor: budgets bind, pilots move it the right way, ignorance is said, intervals hold what they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from paydirt.analysis.advisor import advise
from paydirt.analysis.law import law
from paydirt.analysis.points import ask, family, points
from paydirt.analysis.posterior import Model, learn, predict
from paydirt.analysis.prior import levels
from paydirt.analysis.published import C_FULL, published
from paydirt.analysis.results import Panel, Results, panels
from paydirt.analysis.strategies import Job, nominal_architecture, selection_cost, strategies
from paydirt.cost.hardware import budget_flops

JOB = Job(train_params=7e9, pool_tokens=97.91e6, references=285, task="MMLU")


def _pilot(
    winner: str, *, unit: float = 1.0, task: str = "new", seeds: int = 2, zero_shot: float | None = None
) -> Results:
    """A pilot in which one method is clearly best at 2.5, 5 and 10 % of the pool, scores in points / unit."""
    rng = np.random.default_rng(0)
    rates = {"Random": 2.0, "BM25": 2.0, "Embed": 2.0, winner: 30.0}
    rows = [{"task": task, "model": "m", "method": m, "train_params": 7e9, "fraction": f, "selection_flops": 0.0,
             "training_flops": f * 4.1e18, "total_flops": f * 4.1e18, "seed": s,
             "score": float(law(f, 40.0, r, 60.0) + rng.normal(0, 0.1)) / unit}
            for m, r in rates.items() for f in (0.025, 0.05, 0.1) for s in range(seeds)]  # fmt: skip
    if zero_shot is not None:
        rows.append({"task": task, "model": "m", "method": "zero-shot", "train_params": 7e9, "score": zero_shot / unit,
                     "fraction": 0.0, "selection_flops": 0.0, "training_flops": 0.0, "total_flops": 0.0})  # fmt: skip
    return Results.from_rows(rows)


def test_nothing_over_budget_is_advised_and_random_and_zero_shot_are_always_shown() -> None:
    for budget in (2e16, 5e17, 5e18, 1e20):
        advice = advise(JOB, budget, draws=500, find_pilot=False)
        assert all(r.strategy.total_flops <= budget * (1 + 1e-9) for r in advice.ranking)
        shown = {r.strategy.method for r in advice.ranking}
        assert {"Random", "zero-shot"} <= shown
        assert sum(r.p_best for r in advice.ranking) == pytest.approx(1.0)
        expected = [r.expected for r in advice.ranking]
        assert expected == sorted(expected, reverse=True)


def test_intervals_surround_expectations_and_gain_is_against_random() -> None:
    advice = advise(JOB, 1e18, draws=1000, find_pilot=False)
    for r in advice.ranking:
        assert r.low <= r.expected <= r.high
    random = next(r for r in advice.ranking if r.strategy.method == "Random")
    assert (random.gain, random.gain_low, random.gain_high) == (0.0, 0.0, 0.0)


def test_with_money_for_everything_the_whole_pool_is_trained_on() -> None:
    advice = advise(JOB, 10 * C_FULL["7B"], draws=500, find_pilot=False)
    assert (advice.best.strategy.method, advice.best.strategy.fraction) == ("Random", 1.0)


def test_costly_selection_is_advised_for_large_models_only() -> None:
    """The paper's main message, at the same share of a full pass: selection by a 7B model is dear for 7B, cheap for 70B."""
    costs = {p: replace(JOB, train_params=p) for p in (7e9, 70e9)}
    best = {
        p: advise(j, 0.25 * j.full_training_flops, draws=500, find_pilot=False).best.strategy for p, j in costs.items()
    }
    assert family(best[7e9].method) in ("lexical", "embedding")
    assert family(best[70e9].method) in ("perplexity", "gradient", "embedding")
    assert not any(
        family(s.method) == "gradient" for s in strategies(costs[7e9], 0.25 * costs[7e9].full_training_flops)
    )


@pytest.mark.parametrize("winner", ["BM25", "Random", "my-own-method"])
def test_a_clear_pilot_decides(winner: str) -> None:
    job = replace(JOB, task="new", model="m", methods=("Random", "BM25", "Embed", winner))
    advice = advise(job, 0.12 * 4.1e18, results=_pilot(winner), draws=1000, find_pilot=False)
    assert advice.best.strategy.method == winner
    assert advice.best.p_best > 0.8
    assert advice.enough_evidence


def test_the_oracle_of_a_study_is_never_advised() -> None:
    job = replace(JOB, task="new", model="m")
    advice = advise(job, 4e17, results=_pilot("oracle"), draws=300, find_pilot=False)
    assert "oracle" not in {r.strategy.method for r in advice.ranking}


def test_a_pilot_narrows_the_interval() -> None:
    job = replace(JOB, task="new", model="m")
    before, after = (advise(job, 4e17, results=r, draws=1000, find_pilot=False) for r in (None, _pilot("Embed")))
    width = [a.best.high - a.best.low for a in (before, after)]
    assert width[1] < width[0] / 5


def test_scores_as_fractions_give_the_same_advice_as_percentages() -> None:
    job = replace(JOB, task="new", model="m")
    percent, share = (
        advise(job, 4e17, results=_pilot("BM25", unit=u), draws=1000, find_pilot=False) for u in (1.0, 100.0)
    )
    seen = [[(r.strategy.label, r.strategy.fraction) for r in a.ranking] for a in (percent, share)]
    assert seen[0] == seen[1]
    assert share.best.expected == pytest.approx(percent.best.expected / 100)


def test_a_measured_zero_shot_above_all_runs_is_respected() -> None:
    """Tuning can harm: where the untuned model was measured and beats every pilot run, that is the advice."""
    job = replace(JOB, task="new", model="m", methods=("Random", "BM25", "Embed"))
    advice = advise(job, 0.05 * 4.1e18, results=_pilot("Random", zero_shot=70.0), draws=1000, find_pilot=False)
    assert advice.best.strategy.method == "zero-shot"


def test_too_little_evidence_is_said_with_the_cheapest_pilot() -> None:
    job = replace(JOB, task="an unseen task", methods=("Random", "never-published"))
    advice = advise(job, 5e17, draws=800)
    assert not advice.enough_evidence
    assert "not enough evidence" in advice.verdict
    assert any("never-published: no results" in note for note in advice.notes)
    assert advice.pilot is not None
    assert advice.pilot.flops > 0
    assert advice.pilot.p_good_after >= advice.pilot.p_good_now


def test_shared_store_is_cheaper_and_only_offered_to_several_tasks() -> None:
    job = replace(JOB, train_params=70e9, tasks=5)
    shared, alone = (selection_cost(job, "LESS", 7e9, store) for store in (True, False))
    assert shared < alone / 3  # references are each task's own
    labels = {s.label for s in strategies(job, 1e20)}
    assert {"LESS @7B", "LESS @7B (shared store)"} <= labels
    assert not any(s.store for s in strategies(replace(job, tasks=1), 1e20))


def test_measured_selection_costs_come_before_closed_forms() -> None:
    rows = [{"task": "t", "model": "m", "method": "LESS", "train_params": 7e9, "selector_params": 7e9, "fraction": f,
             "selection_flops": 123.0, "training_flops": f, "total_flops": 123.0 + f, "score": 1.0}
            for f in (0.1, 0.2)]  # fmt: skip
    assert selection_cost(JOB, "LESS", 7e9, False, panels(Results.from_rows(rows))[0]) == 123.0


def test_hours_on_hardware_are_a_budget() -> None:
    advice = advise(JOB, hardware="h100", wall_hours=2, draws=300, find_pilot=False)
    assert advice.budget == budget_flops("h100", 2)
    assert all(r.hours is not None and r.hours <= 2 + 1e-9 for r in advice.ranking)


def test_the_answer_over_budgets_covers_two_decades_and_improves() -> None:
    rows = advise(JOB, 1e18, draws=400, find_pilot=False).by_budget
    assert rows[0][0] == pytest.approx(1e17)
    assert rows[-1][0] == pytest.approx(1e19)
    expected = [r.expected for _, r in rows]
    assert expected == sorted(expected)


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="budget"):
        advise(JOB)
    with pytest.raises(ValueError, match="hours need hardware"):
        advise(JOB, wall_hours=3)
    with pytest.raises(ValueError, match="not both"):
        advise(JOB, 1e18, hardware="h100", wall_hours=3)
    with pytest.raises(ValueError, match=r"trains on less than"):
        advise(JOB, 1e10)
    with pytest.raises(ValueError, match="train_params"):
        Job(train_params=0, pool_tokens=1)
    with pytest.raises(ValueError, match="fractions"):
        Job(train_params=1e6, pool_tokens=1, fractions=(1.5,))


@pytest.mark.parametrize("params", [1e6, 1.25e8, 1e9, 7e9, 7e10])
def test_a_nominal_architecture_is_near_its_size(params: float) -> None:
    assert 0.5 < nominal_architecture(params).parameters / params < 1.6


@pytest.fixture(scope="module")
def bbh() -> Model:
    """A model that knows the three BBH panels."""
    return learn(points([p for p in panels(published()) if p.task == "BBH"]), levels())


def test_conditioning_on_a_panel_reproduces_it_within_noise(paper: dict[str, Panel], bbh: Model) -> None:
    own = points([paper["MMLU 70B"]])
    mean = predict(bbh, replace(own, y=np.full(len(own), np.nan)), own).mean()
    assert np.abs(own.y - mean).max() < 0.5  # scores span 1.6 points there


def test_every_method_meets_at_the_whole_pool(paper: dict[str, Panel], bbh: Model) -> None:
    at = ask(paper["MMLU 7B"], ["random", "less", "ppl"], [1.0, 1.0, 1.0])
    sample, _ = predict(bbh, at).draw(50, np.random.default_rng(0))
    assert np.ptp(sample, axis=1).max() < 1e-3
