"""Learners of a score from features [n, F]: well-kept ones of scikit-learn, and the seed's head of 512 units in torch.

Enters: features and true values [m, C] of the points. Leaves: a fitted `Predictor`. A regressor predicts the values; a
classifier predicts which of three equal-count levels the reduced score falls into, and its value is the levels' mean,
weighted by their probabilities, so that both can be ranked, mixed with true values and diagnosed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from paydirt.prediction.diagnostics import levels_of
from paydirt.registry import did_you_mean

Array = np.ndarray


class Predictor(Protocol):
    """A fitted learner."""

    def predict(self, features: Any) -> Array:
        """Predicted values float64 [n, C]."""
        ...


@dataclass
class Scaled:
    """An estimator behind standardised features: constant ones are dropped to 0."""

    estimator: Any
    mean: Array
    scale: Array

    def inside(self, features: Array) -> Array:
        return np.asarray((features - self.mean) / self.scale, dtype=np.float64)

    def predict(self, features: Array) -> Array:
        found = np.asarray(self.estimator.predict(self.inside(features)), dtype=np.float64)
        return found.reshape(len(features), -1)


@dataclass
class Levels:
    """A classifier of levels; `means` [3, C] are the mean values of the points of each level."""

    classifier: Scaled
    means: Array

    def probabilities(self, features: Array) -> Array:
        """Probability [n, 3] of low, mid, high."""
        return np.asarray(self.classifier.estimator.predict_proba(self.classifier.inside(features)))

    def predict(self, features: Array) -> Array:
        return self.probabilities(features) @ self.means

    def levels(self, features: Array) -> Array:
        """Most probable level [n]: 0 low, 1 mid, 2 high."""
        return self.probabilities(features).argmax(axis=1)


class Each:
    """One single-output estimator a column."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def fit(self, x: Array, y: Array) -> Each:
        self.parts = [self.make().fit(x, column) for column in y.T]
        return self

    def predict(self, x: Array) -> Array:
        return np.stack([part.predict(x) for part in self.parts], axis=1)


def _ridge(seed: int) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=np.logspace(0, 6, 13))


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return Each(
        lambda: HistGradientBoostingRegressor(
            max_iter=200, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=10, random_state=seed
        )
    )


def _kernel(seed: int) -> Any:
    from paydirt.prediction.kernel import KernelRidge

    return KernelRidge()


def _mlp(seed: int) -> Any:
    from paydirt.prediction.mlp import Head

    return Head(seed=seed)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.01, max_iter=500)


def _boosted_levels(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=10, random_state=seed
    )


def _mlp_levels(seed: int) -> Any:
    from paydirt.prediction.mlp import LevelHead

    return LevelHead(seed=seed)


REGRESSORS: dict[str, Callable[[int], Any]] = {
    "ridge": _ridge,
    "kernel": _kernel,
    "boosting": _boosting,
    "mlp": _mlp,
}
CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "ridge": _logistic,
    "kernel": _logistic,
    "boosting": _boosted_levels,
    "mlp": _mlp_levels,
}


def fit_values(
    learner: str, features: Array, values: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Scaled:
    """A regressor of `values` [m, C] from `features` [m, F]; ValueError for an unknown learner.

    `widths` cut the columns into blocks that weigh the same, however many columns they have.
    """
    if learner not in REGRESSORS:
        raise ValueError(f"unknown learner {learner!r}; {did_you_mean(learner, REGRESSORS)}")
    fitted = _scaled(features, widths)
    fitted.estimator = REGRESSORS[learner](seed).fit(fitted.inside(features), np.asarray(values, dtype=np.float64))
    return fitted


def refit_values(
    fitted: Scaled, learner: str, features: Array, values: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Scaled:
    """The same learner on other points, with the settings that were found before where finding them is dear."""
    if not hasattr(fitted.estimator, "refitted"):
        return fit_values(learner, features, values, seed, widths)
    again = _scaled(features, widths)
    again.estimator = fitted.estimator.refitted(again.inside(features), np.asarray(values, dtype=np.float64))
    return again


def fit_levels(
    learner: str, features: Array, values: Array, scores: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Levels:
    """A classifier of the level of `scores` [m]; `values` [m, C] give each level its mean."""
    if learner not in CLASSIFIERS:
        raise ValueError(f"unknown learner {learner!r}; {did_you_mean(learner, CLASSIFIERS)}")
    levels = levels_of(scores)
    fitted = _scaled(features, widths)
    fitted.estimator = CLASSIFIERS[learner](seed).fit(fitted.inside(features), levels)
    return Levels(fitted, np.stack([values[levels == level].mean(axis=0) for level in range(3)]))


def _scaled(features: Array, widths: Sequence[int] | None) -> Scaled:
    """Standardised columns; each block of `widths` then has the same share of the variance, columns' mean still 1."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    if widths:
        block = np.repeat(np.asarray(widths, dtype=np.float64), widths)
        scale = scale * np.sqrt(block * len(widths) / len(block))
    return Scaled(None, mean, np.where(scale > 0, scale, np.inf))


def folds_of(count: int, folds: int, seed: int) -> Array:
    """Fold [count] of each point, seeded: every point is predicted once by a predictor that has not seen it."""
    return np.random.default_rng([seed, 7]).permutation(count) % folds
