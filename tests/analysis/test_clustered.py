"""Intervals over clusters: against a plain loop, by coverage in simulation, and what is never called a difference."""

from __future__ import annotations

import numpy as np
import pytest

from paydirt.analysis.clustered import clustered


def simulated(rng: np.random.Generator, clusters: int, runs: int, shift: float, between: float, within: float) -> dict:
    effects = shift + between * rng.standard_normal(clusters)
    return {c: {r: [e + within * rng.standard_normal()] for r in range(runs)} for c, e in enumerate(effects)}


def test_it_is_the_bootstrap_of_a_plain_loop() -> None:
    values = {0: {0: [0.1, 0.3], 1: [0.0, 0.2]}, 1: {0: [0.4, 0.4], 1: [0.5, 0.1]}, 2: {0: [-0.1, 0.1], 1: [0.2, 0.2]}}
    cells = [[0.2, 0.1], [0.4, 0.3], [0.0, 0.2]]
    rng = np.random.default_rng(5)
    means = [np.mean([np.mean(rng.choice(cells[rng.integers(3)], 2)) for _ in range(3)]) for _ in range(6000)]
    found = clustered(values, draws=6000)
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.015)
    assert (found.above, found.clusters, found.draws) == (3, 3, 6)


def test_the_mean_is_over_clusters_however_many_runs_each_has() -> None:
    assert clustered({0: {0: [1.0]}, 1: {r: [0.0] for r in range(9)}}).mean == pytest.approx(0.5)


def test_many_clusters_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)
    inside = [
        (found := clustered(simulated(rng, 20, 3, 0.1, 0.1, 0.1), draws=400)).low <= 0.1 <= found.high
        for _ in range(300)
    ]
    assert 0.85 <= np.mean(inside) <= 0.99


def test_three_clusters_of_noise_are_called_a_difference_as_often_as_was_asked_for() -> None:
    """The bootstrap's interval is too narrow with three clusters; the t test is not."""
    rng = np.random.default_rng(1)
    found = [clustered(simulated(rng, 3, 3, 0.0, 0.05, 0.05), draws=200) for _ in range(1000)]
    assert np.mean([g.low > 0 or g.high < 0 for g in found]) > 0.15, "the reason for asking more"
    assert 0.03 < np.mean([g.sure for g in found]) < 0.07


def test_one_cluster_is_never_sure_and_none_an_error() -> None:
    assert not clustered({0: {0: [1.0], 1: [1.0]}}).sure
    assert not clustered({0: {0: [1.0]}, 1: {0: [1.0]}}).sure
    assert clustered({0: {0: [1.0]}, 1: {0: [1.1]}, 2: {0: [0.9]}}).sure
    assert not clustered({0: {0: [1.0]}, 1: {0: [0.1]}, 2: {0: [2.0]}}).sure
    with pytest.raises(ValueError, match="no differences"):
        clustered({})
