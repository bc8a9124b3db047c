"""Options that cut the cost of gradients: each against the plain definition of what it leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stages import Tiny

from paydirt.columns.gradients import Collector, cost_of, fit_cost, freeze_below, spread_over, window
from paydirt.data.encoding import Encoded
from paydirt.gradients.projection import Projection
from paydirt.models.load import ModelConfig, load_model
from paydirt.scoring.base import Job, make_scorer
from paydirt.scoring.gradient_passes import Step, checkpoints, features_of
from paydirt.stages import Workspace
from scorers.test_gradient import loop_gradient, projected
from scorers.test_learned import CHEAP


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("cheaper") / "shared")


def features(tiny: Tiny, out: Path, workspace: Workspace, **options: Any) -> tuple[torch.Tensor, float, Step, Job]:
    """Plain-gradient features of ten pool rows at the last checkpoint, and the counted cost of the whole pool."""
    scorer = make_scorer({"name": "gradient", **CHEAP, "direction": "sgd", **options})
    job = tiny.job(scorer, out, workspace)
    step = list(checkpoints(scorer, job))[-1]
    with Collector(features_of(scorer, job, step, "sgd")) as collect:
        flops = collect.row_flops(job.rows, collect.calibrate())
        return collect.of_pool(np.arange(10)), float(flops.sum()), step, job


def test_the_last_layers_gradients_are_those_of_the_whole(tiny: Tiny, tmp_path: Path, workspace: Workspace) -> None:
    """Backward stops below them, which changes nothing above, and costs less."""
    found, flops, step, job = features(tiny, tmp_path, workspace, layers=1)
    _, whole, _, _ = features(tiny, tmp_path, workspace)
    model = load_model(ModelConfig(path=step.path, device="cpu"), train_adapter=True)
    last = model.config.num_hidden_layers - 1
    projection = Projection(CHEAP["k"], "sketch", 0)
    for row in range(10):
        gradients = {n: g for n, g in loop_gradient(model, job.tokens[row]).items() if f".layers.{last}." in n}
        assert gradients
        expected = projected(gradients, projection)
        np.testing.assert_allclose(found[row] / found[row].norm(), expected, atol=1e-5)
    assert flops < 0.95 * whole


def test_all_layers_are_the_default(tiny: Tiny, tmp_path: Path, workspace: Workspace) -> None:
    layers = load_model(ModelConfig(path=str(tiny.model), device="cpu")).config.num_hidden_layers
    limited, flops, _, _ = features(tiny, tmp_path, workspace, layers=layers + 3)
    plain, whole, _, _ = features(tiny, tmp_path, workspace)
    torch.testing.assert_close(limited, plain)
    assert flops == pytest.approx(whole)


def test_a_model_without_numbered_layers_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="name no numbered layer; leave it out"):
        freeze_below(torch.nn.Linear(2, 2), 1)


def test_fewer_tokens_are_the_gradients_of_the_window(tiny: Tiny, tmp_path: Path, workspace: Workspace) -> None:
    found, flops, step, job = features(tiny, tmp_path, workspace, max_tokens=16)
    _, whole, _, _ = features(tiny, tmp_path, workspace)
    model = load_model(ModelConfig(path=step.path, device="cpu"), train_adapter=True)
    for row in range(10):
        cut = window(job.tokens[row], 16)
        expected = projected(loop_gradient(model, cut), Projection(CHEAP["k"], "sketch", 0))
        np.testing.assert_allclose(found[row] / found[row].norm(), expected, atol=1e-5)
    assert flops < whole


def example(length: int, first: int, answer: int) -> Encoded:
    supervised = np.zeros(length, dtype=bool)
    supervised[first : first + answer] = True
    return Encoded(np.arange(length), supervised)


@pytest.mark.parametrize(
    ("length", "first", "answer", "span"),
    [
        (10, 4, 6, (0, 10)),  # short enough
        (100, 50, 50, (42, 58)),  # half before the answer
        (100, 3, 97, (0, 16)),  # the answer begins early
        (100, 98, 2, (84, 100)),  # the answer ends the text
    ],
)
def test_the_window_holds_the_start_of_the_answer(length: int, first: int, answer: int, span: tuple[int, int]) -> None:
    cut = window(example(length, first, answer), 16)
    assert cut.ids.tolist() == list(range(*span))
    assert cut.n_supervised > 0


def test_a_dozen_counts_tell_the_cost_of_all(tiny: Tiny, tmp_path: Path, workspace: Workspace) -> None:
    """Against counting every example of the pool, one at a time."""
    from paydirt.cost.measure import count_flops

    scorer = make_scorer({"name": "gradient", **CHEAP, "direction": "sgd"})
    job = tiny.job(scorer, tmp_path, workspace)
    step = list(checkpoints(scorer, job))[-1]
    with Collector(features_of(scorer, job, step, "sgd")) as collect:
        every = sum(count_flops(lambda row=row: collect.of_pool(np.asarray([row]), True))[0] for row in range(60))
        passes = collect.row_flops(job.rows, collect.calibrate()).sum() - collect.projection_flops(60)
        assert passes == pytest.approx(every, rel=0.01)


def test_extrapolation_is_exact_for_what_is_quadratic_in_length() -> None:
    lengths = np.random.default_rng(0).lognormal(5, 1, 500).astype(int) + 4
    answers = lengths // 3
    cost = 7.0 * lengths + 0.01 * lengths**2 + 3.0 * answers + 50
    some = spread_over(lengths)
    found = cost_of(lengths, answers, fit_cost(lengths[some], answers[some], cost[some].tolist()))
    np.testing.assert_allclose(found, cost, rtol=1e-6)
    same = np.full(30, 8)
    some = spread_over(same)
    assert cost_of(same, same, fit_cost(same[some], same[some], [5.0] * len(some))).sum() == pytest.approx(150)
