"""Any scorer as the truth: its own values at the rows it was asked for, and what it says these rows will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scorers.test_learned import CHEAP, LEARNED
from support.stages import Tiny

from paydirt.cost.methods import selection_cost
from paydirt.prediction.budget import least_allowance
from paydirt.prediction.passes import learn
from paydirt.prediction.truth import Truth
from paydirt.scoring.base import make_scorer
from paydirt.selection.scores import Scores, reduced
from paydirt.stages import Workspace

DROP = {"name": "drop", "depth": 2, "rate": 1e-2, "tune_batch_size": 2, "token_budget": 256}
CONSENSUS = {"name": "consensus", "method": DROP, "seeds": [0, 1]}
TRUTHS: dict[str, dict[str, Any]] = {
    "drop": DROP,
    "drop, full": DROP | {"method": "full", "first_end": "first", "tokens": "all"},
    "consensus": CONSENSUS,
    "gradient": {"name": "gradient", **CHEAP},
    "gradient, no store": {"name": "gradient", **CHEAP, "store": False},
    "tov": {"name": "tov", "gradient": CHEAP, "rate": 1e-2, "token_budget": 256},
    "rds": {"name": "rds", "token_budget": 256},
    "ppl": {"name": "ppl", "tune_epochs": 1, "token_budget": 256},
    "length": {"name": "length"},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("truth") / "shared")


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_bought_rows_have_the_truths_own_values(name: str, tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    """In whatever order and number they are bought; ranks are those among what was bought."""
    method = make_scorer(TRUTHS[name])
    truth = Truth(tiny.job(TRUTHS[name], tmp_path / "job", workspace), method)
    truth.of(np.array([41, 7, 3, 22]))
    rows = np.array([0, 3, 7, 12, 22, 33, 41, 59])
    found = truth.of(rows[::-1])[::-1]
    part = tiny.job(TRUTHS[name], tmp_path / "whole", workspace)
    if name == "consensus":
        (tmp_path / "part").mkdir()
        own = method.scores(part.asking(rows, tmp_path / "part"))
    else:
        own = method.scores(part)[rows]
    spread = np.ptp(own)
    assert spread > 1e-4, "this test needs values"
    np.testing.assert_allclose(reduced(found, truth.columns, method.reduction), own, rtol=0, atol=1e-2 * spread)


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_rows_cost_no_more_than_was_said(name: str, tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    """Before the first, by the ceiling; after them, where the method can tell, to a hundredth."""
    method = make_scorer(TRUTHS[name])
    job = tiny.job(TRUTHS[name], tmp_path / "job", workspace)
    truth = Truth(job, method)
    order = np.random.default_rng(3).permutation(60)
    ceiling = method.fixed_ceiling(job.facts) + truth.expected(order[:20])
    truth.of(order[:20])
    assert job.meter.flops <= ceiling
    spent, said = job.meter.flops, truth.expected(order[20:45])
    truth.of(order[20:45])
    taken = job.meter.flops - spent
    assert taken <= said
    if method.row_charges(job, order[45:]) is not None:
        assert taken > 0.99 * said
    assert (method.row_charges(job, order[45:]) is None) == (
        name in ("rds", "ppl", "length", "tov", "gradient, no store")
    )


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_a_truth_is_priced_in_two_parts(name: str, tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    """What is paid once and what rows add make the price, of a part too."""
    job = tiny.job(TRUTHS[name], tmp_path / "job", workspace)
    method, truth = make_scorer(TRUTHS[name]), Truth(job, make_scorer(TRUTHS[name]))
    assert 0 <= method.fixed_price(job.facts).flops <= selection_cost(method, job.facts).flops
    for rows in (np.arange(9), np.array([20, 50, 30])):
        truth.of(rows)
    alone = [selection_cost(method, job.facts.part(rows)).flops for rows in (np.arange(9), np.array([20, 30, 50]))]
    assert truth.predicted == pytest.approx(sum(alone) - truth.fixed)


@pytest.mark.parametrize("name", ["drop", "consensus"])
@pytest.mark.parametrize("more", [1.0, 1.3, 2.0])
def test_an_allowance_buys_truth_and_is_kept_to(
    name: str, more: float, tiny: Tiny, workspace: Workspace, tmp_path: Path
) -> None:
    config = make_scorer(LEARNED | {"rounds": 3, "truth": TRUTHS[name]})
    job = tiny.job(config, tmp_path / "job", workspace)
    allowance = more * least_allowance(config, job.facts)
    outcome = learn(config, job, allowance)
    assert outcome.report["cost"]["counted"] == job.meter.flops <= allowance
    assert len(outcome.truth) >= 20
    assert len(outcome.truth) == 60 or (name == "consensus" or job.meter.flops > 0.9 * allowance)
    known = outcome.truth.rows
    np.testing.assert_allclose(outcome.scores()[known], outcome.truth.known(known)[:, 0])


def test_another_truth_is_another_score(tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    """Nothing of a truth may be left out of what decides whether a score is current."""
    made = tiny.score(LEARNED | {"truth": DROP}, tmp_path / "scores", workspace)
    assert made.fresh
    assert not tiny.score(LEARNED | {"truth": DROP}, tmp_path / "scores", workspace).fresh
    before = Scores(made.path).reduce()[0]
    workspace.replace = "same stage"
    try:
        for other in (DROP | {"depth": 3}, DROP | {"normalise": False}, CONSENSUS):
            again = tiny.score(LEARNED | {"truth": other}, tmp_path / "scores", workspace)
            assert again.fresh
            assert not np.array_equal(Scores(again.path).reduce()[0], before)
    finally:
        workspace.replace = "nothing"


def test_options_without_a_name_are_the_default_truths() -> None:
    default = make_scorer("learned").truth
    field = "tune_seed" if default.name == "drop" else "warmup_seed"
    changed = make_scorer({"name": "learned", "truth": {field: 7}}).truth
    assert (changed.name, getattr(changed, field)) == (default.name, 7)
    assert make_scorer(make_scorer({"name": "learned", "truth": DROP}).to_dict()).truth == make_scorer(DROP)


def test_a_cascade_ends_in_the_truth_that_it_predicts() -> None:
    cascade = make_scorer({"name": "cascade", "stages": [{"name": "learned", "rounds": 2}, DROP]})
    assert cascade.final.truth == make_scorer(DROP)
    assert cascade.final.rounds == 2
    assert "proxy" not in cascade.final.chosen
    full = DROP | {"method": "full"}  # an option called like a key of a stage
    cascade = make_scorer({"name": "cascade", "stages": ["bm25", full | {"keep": 0.5}, "gradient"]})
    assert cascade.stages[1].method == make_scorer(full)
    assert make_scorer(cascade.to_dict()) == cascade
    cascade = make_scorer({"name": "cascade", "stages": [{"name": "learned", "truth": DROP}, "gradient"]})
    assert "proxy" in cascade.final.chosen, "gradients have a cheap form"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truth": DROP, "predict": "subtasks"}, "'drop' is one number an example; leave predict and aggregation out"),
        ({"truth": DROP, "aggregation": "max"}, "'drop' is one number an example; leave predict and aggregation out"),
        ({"truth": DROP, "features": ["length", "proxy"]}, "'proxy' is cheap gradients, and the truth is 'drop'"),
        ({"truth": "cascade"}, "'cascade' predicts a truth and is none"),
        ({"truth": "dorp"}, r"unknown method 'dorp'; did you mean 'drop'\?"),
    ],
)
def test_a_truth_that_does_not_serve_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scorer({"name": "learned", **options})
