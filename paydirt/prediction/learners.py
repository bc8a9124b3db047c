"""Learners of a score from features [n, F]: well-kept ones of scikit-learn, and the seed's head of 512 units in torch.

Enters: features and true values [m, C] of the points. Leaves: a fitted `Predictor`. A regressor predicts the values; a
classifier predicts which of three equal-count levels the reduced score falls into, and its value is the levels' mean,
weighted by their probabilities, so that both can be ranked, mixed with true values and diagnosed alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from paydirt.core.registry import Registry
from paydirt.prediction.diagnostics import levels_of

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


LEARNERS: Registry[Learner] = Registry("learner", "paydirt.prediction.learners", "paydirt.learners")


class Learner:
    """Base of a learner: a subclass with a `name` registers itself, here or from another distribution.

    What it makes has `fit` and `predict` as scikit-learn's estimators have them, over standardised features [m, F].
    """

    name: ClassVar[str] = ""
    keeps_proportions: ClassVar[bool] = False
    """Whether a block of features is scaled as a whole, instead of each column by itself."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            LEARNERS.add(cls.name, cls)

    def regressor(self, seed: int) -> Any:
        """An unfitted estimator of values [m, C]."""
        raise NotImplementedError(f"{type(self).__name__} must define regressor")

    def classifier(self, seed: int) -> Any:
        """An unfitted estimator of levels [m] in 0, 1, 2 that has `predict_proba`; for `mode: classify`."""
        raise ValueError(f"the learner {self.name!r} has no classifier; use mode regress, or another learner")

    def flops(self, points: float, width: int, outputs: int, fits: int, predicted: float) -> float:
        """FLOPs of `fits` fits on `points` and of `predicted` predictions, by closed form; 0 of what is not counted."""
        return 0.0


class Ridge(Learner):
    """Linear, its penalty chosen by leaving one out."""

    name = "ridge"

    def regressor(self, seed: int) -> Any:
        from sklearn.linear_model import RidgeCV

        return RidgeCV(alphas=np.logspace(0, 6, 13))

    def classifier(self, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=0.01, max_iter=500)

    def flops(self, points: float, width: int, outputs: int, fits: int, predicted: float) -> float:
        return fits * 4.0 * points * width * min(points, width) + 2.0 * predicted * width * outputs


class Kernel(Ridge):
    """Kernel ridge; levels by logistic regression."""

    name = "kernel"

    def regressor(self, seed: int) -> Any:
        from paydirt.prediction.kernel import KernelRidge

        return KernelRidge()

    def flops(self, points: float, width: int, outputs: int, fits: int, predicted: float) -> float:
        searched = min(points, 2000)
        fit = 2 * points**2 * (width + outputs) + points**3 / 3
        return 3 * 10 * searched**3 + fits * fit + 2.0 * predicted * points * (width + outputs)


class Landmark(Kernel):
    """Influence distillation's: Gaussian kernel ridge with the bandwidth of the median; levels by logistic regression."""

    name = "landmark"
    keeps_proportions = True

    def regressor(self, seed: int) -> Any:
        from paydirt.prediction.kernel import MedianRidge

        return MedianRidge()

    def flops(self, points: float, width: int, outputs: int, fits: int, predicted: float) -> float:
        fit = 2 * points**2 * (width + outputs) + points**3 / 3
        return fits * fit + 2.0 * predicted * points * (width + outputs)


class Boosting(Learner):
    """Boosted trees, whose work is not counted."""

    name = "boosting"

    def regressor(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return Each(
            lambda: HistGradientBoostingRegressor(
                max_iter=200, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=10, random_state=seed
            )
        )

    def classifier(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=10, random_state=seed
        )


class MLP(Learner):
    """The published head: one layer of 512 units."""

    name = "mlp"

    def regressor(self, seed: int) -> Any:
        from paydirt.prediction.mlp import Head

        return Head(seed=seed)

    def classifier(self, seed: int) -> Any:
        from paydirt.prediction.mlp import LevelHead

        return LevelHead(seed=seed)

    def flops(self, points: float, width: int, outputs: int, fits: int, predicted: float) -> float:
        weights = 512 * (width + outputs)
        return fits * 30 * 6.0 * points * weights + 2.0 * predicted * weights


def fit_values(
    learner: str, features: Array, values: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Scaled:
    """A regressor of `values` [m, C] from `features` [m, F]; ValueError for an unknown learner.

    `widths` cut the columns into blocks that weigh the same, however many columns they have.
    """
    estimator = LEARNERS.get(learner)().regressor(seed)
    fitted = _scaled(features, widths, learner)
    fitted.estimator = estimator.fit(fitted.inside(features), np.asarray(values, dtype=np.float64))
    return fitted


def refit_values(
    fitted: Scaled, learner: str, features: Array, values: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Scaled:
    """The same learner on other points, with the settings that were found before where finding them is dear."""
    if not hasattr(fitted.estimator, "refitted"):
        return fit_values(learner, features, values, seed, widths)
    again = _scaled(features, widths, learner)
    again.estimator = fitted.estimator.refitted(again.inside(features), np.asarray(values, dtype=np.float64))
    return again


def fit_levels(
    learner: str, features: Array, values: Array, scores: Array, seed: int = 0, widths: Sequence[int] | None = None
) -> Levels:
    """A classifier of the level of `scores` [m]; `values` [m, C] give each level its mean.

    Raises ValueError for a learner that has none.
    """
    classifier = LEARNERS.get(learner)().classifier(seed)
    levels = levels_of(scores)
    fitted = _scaled(features, widths, learner)
    fitted.estimator = classifier.fit(fitted.inside(features), levels)
    return Levels(fitted, np.stack([values[levels == level].mean(axis=0) for level in range(3)]))


def _scaled(features: Array, widths: Sequence[int] | None, learner: str) -> Scaled:
    """Standardised columns; each block of `widths` then has the same share of the variance, columns' mean still 1.

    For a learner that keeps proportions a block has one scale, so of a single block nothing changes but its unit.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    if LEARNERS.get(learner).keeps_proportions:
        edges = np.cumsum([0, *(widths or [features.shape[1]])])
        for start, stop in itertools.pairwise(edges):
            scale[start:stop] = np.sqrt((scale[start:stop] ** 2).mean())
    if widths:
        block = np.repeat(np.asarray(widths, dtype=np.float64), widths)
        scale = scale * np.sqrt(block * len(widths) / len(block))
    return Scaled(None, mean, np.where(scale > 0, scale, np.inf))


def folds_of(count: int, folds: int, seed: int) -> Array:
    """Fold [count] of each point, seeded: every point is predicted once by a predictor that has not seen it."""
    return np.random.default_rng([seed, 7]).permutation(count) % folds
