"""Learners and diagnostics against scikit-learn, scipy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.metrics import accuracy_score, r2_score

from paydirt.prediction import diagnostics, kernel, learners


def curve(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, 6] and two values [n, 2] that depend on them, not linearly."""
    x = np.random.default_rng(seed).normal(size=(n, 6))
    return x, np.stack([np.sin(x[:, 0]) + 0.5 * x[:, 1], np.abs(x[:, 2])], axis=1)


def test_kernel_ridge_is_scikit_learns() -> None:
    x, y = curve(80)
    new, _ = curve(30, 1)
    ours = kernel.KernelRidge(scale=7.0, penalty=0.3).fit(x, y).predict(new)
    theirs = SklearnKernelRidge(alpha=0.3, kernel="rbf", gamma=1 / 7).fit(x, y - y.mean(axis=0)).predict(new)
    np.testing.assert_allclose(ours, theirs + y.mean(axis=0), atol=1e-9)


def test_the_search_minimises_the_error_of_leaving_one_out() -> None:
    """Every width and penalty, every point left out in turn by a fit of its own."""
    x, y = curve(40)
    centred = y - y.mean(axis=0)
    typical = float(np.median(kernel.squared_distances(x, x)))
    errors = {}
    for width in kernel.WIDTHS:
        for penalty in kernel.PENALTIES:
            model = SklearnKernelRidge(alpha=penalty, kernel="rbf", gamma=1 / (width * typical))
            left_out = []
            for i in range(len(x)):
                others = np.arange(len(x)) != i
                left_out.append(centred[i] - model.fit(x[others], centred[others]).predict(x[i : i + 1])[0])
            errors[width * typical, float(penalty)] = float(np.mean(np.square(left_out)))
    assert kernel.search(x, y) == min(errors, key=lambda k: errors[k])


@pytest.mark.parametrize("name", learners.LEARNERS.names())
def test_a_regressor_explains_points_it_has_not_seen(name: str) -> None:
    x, y = curve(400)
    new, true = curve(200, 1)
    found = learners.fit_values(name, x, y).predict(new)
    assert found.shape == (200, 2)
    assert r2_score(true[:, 0], found[:, 0]) > 0.5
    again = learners.fit_values(name, x, y).predict(new)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("name", learners.LEARNERS.names())
def test_a_classifier_beats_chance_and_predicts_level_means(name: str) -> None:
    x, y = curve(400)
    new, true = curve(200, 1)
    fitted = learners.fit_levels(name, x, y, y[:, 0])
    assert accuracy_score(diagnostics.levels_of(true[:, 0]), fitted.levels(new)) > 0.5
    np.testing.assert_allclose(fitted.probabilities(new).sum(axis=1), 1, atol=1e-6)
    high = y[diagnostics.levels_of(y[:, 0]) == 2]
    np.testing.assert_allclose(fitted.means[2], high.mean(axis=0))


def test_constant_features_and_scale_change_nothing() -> None:
    x, y = curve(100)
    new, _ = curve(20, 1)
    plain = learners.fit_values("ridge", x, y).predict(new)
    padded = learners.fit_values("ridge", np.c_[x * 1000 + 5, np.ones(100)], y).predict(
        np.c_[new * 1000 + 5, np.ones(20)]
    )
    np.testing.assert_allclose(plain, padded, atol=1e-8)


def test_unknown_learner_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown learner 'rigde'; did you mean 'ridge'"):
        learners.fit_values("rigde", *curve(30))


def test_diagnostics_are_scikit_learns_and_scipys() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=300)
    predicted = 0.5 * true + rng.normal(size=300)
    found = diagnostics.diagnose(true, predicted)
    assert found["r2"] == pytest.approx(r2_score(true, predicted))
    assert found["spearman"] == pytest.approx(spearmanr(true, predicted).statistic)
    levels = [np.searchsorted(np.quantile(v, [1 / 3, 2 / 3]), v) for v in (true, predicted)]
    assert found["accuracy"] == pytest.approx(accuracy_score(*levels), abs=0.011)  # ties at the borders
    assert found["accuracy_of_chance"] == pytest.approx(1 / 3)
    top = set(np.argsort(-true)[:15]) & set(np.argsort(-predicted)[:15])
    assert found["recall_top_5%"] == pytest.approx(len(top) / 15)


def test_calibration_tells_a_boaster() -> None:
    """Twice too bold: the slope is a half, and bins lie off the diagonal."""
    true = np.random.default_rng(0).normal(size=2000)
    honest, bold = (diagnostics.calibration(true + 0, k * true) for k in (1, 2))
    assert honest["slope"] == pytest.approx(1)
    assert bold["slope"] == pytest.approx(0.5)
    assert len(bold["bins"]) == 10
    assert bold["bins"][-1][0] == pytest.approx(2 * bold["bins"][-1][1])


def test_levels_have_equal_sizes_whatever_the_ties() -> None:
    assert np.bincount(diagnostics.levels_of(np.zeros(9))).tolist() == [3, 3, 3]
    assert diagnostics.levels_of(np.array([5.0, 1, 3])).tolist() == [2, 0, 1]


def test_a_predictor_must_beat_its_cheapest_feature_either_way_up() -> None:
    better, rival, height = diagnostics.beats({"spearman": 0.4}, {"length": -0.5, "rds": 0.9}, ["length"])
    assert (better, rival, height) == (False, "length", 0.5)
    assert diagnostics.beats({"spearman": 0.6}, {"length": -0.5, "rds": 0.9}, ["length"])[0]
    assert diagnostics.beats({"spearman": -1}, {}, ["words"])[0]
