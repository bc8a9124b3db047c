"""Laws of a budget that spends itself, replayed on the published panels: never over, never twice, better than habits."""

from __future__ import annotations

import numpy as np
import pytest

from paydirt.analysis.cases import Case, cases
from paydirt.analysis.posterior import predict
from paydirt.analysis.prior import prior_model
from paydirt.analysis.spending import Replay, Spent, opening, spend

PANELS = ("gsm8k llama3.2-3b", "mmlu_pro qwen3-4b-base", "tydiqa llama2-7b", "bbh smollm3-3b-base")


def _case(name: str) -> Case:
    return next(c for c in cases("targeted") if c.name == name)


def _model(case: Case):
    task, model = case.name.split(" ")
    return prior_model(task, model, 10 ** float(case.at.size[0]))


def _spent(case: Case, times: float, **more: int) -> Spent:
    return spend(Replay(case), _model(case), times * float(case.cost[case.trained].min()), **more)


@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("times", [1.001, 5, 100])
def test_the_ledger_never_passes_the_budget_and_adds_up(name: str, times: float) -> None:
    done = _spent(_case(name), times)
    assert done.flops <= done.budget
    assert done.flops == pytest.approx(sum(s.flops for s in done.steps))
    assert [s.left for s in done.steps] == pytest.approx(list(done.budget - np.cumsum([s.flops for s in done.steps])))
    assert len({s.row for s in done.steps}) == len(done.steps)  # nothing is bought twice
    assert done.steps[0].kind == "zero-shot"
    assert done.kept in {s.row for s in done.steps}
    told = {w.budget / done.budget: w for w in done.elsewhere}
    assert {0.5, 1.0, 2.0} <= {round(ratio, 6) for ratio in told}
    assert all(w.low <= w.expected <= w.high for w in told.values())
    assert [w.expected for w in done.elsewhere] == sorted(
        w.expected for w in done.elsewhere
    )  # more never promises less
    assert 0 <= done.p_good <= 1


def test_a_selection_is_paid_once() -> None:
    case = _case("tydiqa llama2-7b")
    rds = np.flatnonzero(case.label == "RDS+ (RR)")
    world = Replay(case)
    whole, again = world.price(int(rds[1]), frozenset()), world.price(int(rds[1]), frozenset({"RDS+ (RR)"}))
    assert whole - again == pytest.approx(case.selection[rds[1]])
    assert again > 0


def test_it_may_end_by_not_tuning() -> None:
    """Where small trainings destroy the model (48 to 0.2 points), a small budget keeps the untuned one."""
    case = _case("mmlu_pro qwen3-4b-base")
    done = _spent(case, 2)
    assert case.label[done.kept] == "zero-shot"


def test_the_same_seed_takes_the_same_course() -> None:
    case = _case("gsm8k llama3.2-3b")
    assert _spent(case, 30) == _spent(case, 30)


def test_what_was_measured_before_is_not_bought_again() -> None:
    case = _case("gsm8k llama3.2-3b")
    first = _spent(case, 10)
    known = {s.row: s.score for s in first.steps}
    again = spend(Replay(case), _model(case), first.budget, known=known)
    assert not {s.row for s in again.steps} & set(known)


def test_pilots_paid_from_the_budget_beat_the_prior_alone() -> None:
    """Share of the range lost, mean of four panels at 5, 30 and 100 times the cheapest run."""
    lost, alone = [], []
    for name in PANELS:
        case = _case(name)
        mean = predict(_model(case), case.at).mean()
        for times in (5, 30, 100):
            open_ = np.flatnonzero(case.cost <= times * case.cost[case.trained].min())
            best = case.score[open_].max()
            lost.append((best - _spent(case, times).score) / case.spread)
            alone.append((best - case.score[open_[mean[open_].argmax()]]) / case.spread)
    assert np.mean(lost) < np.mean(alone)


def test_the_opening_plan_says_the_first_step() -> None:
    case = _case("gsm8k llama3.2-3b")
    pilot, final = opening(Replay(case), _model(case), 30 * float(case.cost[case.trained].min()))
    assert final is not None
    assert pilot is None or (pilot[1] > 0 and pilot[2] <= 15.01 * float(case.cost[case.trained].min()))
    with pytest.raises(ValueError, match="positive"):
        spend(Replay(case), _model(case), 0.0)
