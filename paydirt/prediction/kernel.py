"""Kernel ridge regression: width and penalty chosen by leave-one-out error, or both as influence distillation sets them.

scikit-learn's KernelRidge has no cheap leave-one-out; its closed form (Rifkin and Lippert, MIT-CSAIL-TR-2007-025) costs
one eigendecomposition for a width, so that all penalties and all outputs are tried for the price of one fit. The search
is done on at most 2,000 points, the fit on all.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
WIDTHS = (0.5, 1.5, 5.0)  # times the median squared distance of two points
PENALTIES = np.logspace(-3, 2, 11)
SEARCHED = 2000


class KernelRidge:
    """y = K a + mean, K a Gaussian of the squared distance; [m, C] outputs share width and penalty."""

    def __init__(self, scale: float | None = None, penalty: float | None = None) -> None:
        self.scale, self.penalty = scale, penalty

    def fit(self, x: Array, y: Array) -> KernelRidge:
        from scipy.linalg import cho_factor, cho_solve

        if self.scale is None or self.penalty is None:
            step = -(-len(x) // SEARCHED)
            self.scale, self.penalty = search(x[::step], y[::step])
        self.x, self.mean = x, y.mean(axis=0)
        kernel = np.exp(-squared_distances(x, x) / self.scale)
        kernel[np.diag_indices_from(kernel)] += self.penalty
        self.weights = cho_solve(cho_factor(kernel, overwrite_a=True), y - self.mean)
        return self

    def predict(self, x: Array) -> Array:
        return np.exp(-squared_distances(x, self.x) / self.scale) @ self.weights + self.mean

    def refitted(self, x: Array, y: Array) -> KernelRidge:
        """The same width and penalty on other points."""
        return KernelRidge(self.scale, self.penalty).fit(x, y)


class MedianRidge:
    """y = K a, K a Gaussian whose bandwidth is the median distance of two points; nothing searched, nothing centred.

    How influence distillation takes influence from landmarks to the rest (arXiv 2505.19051; METHODS section 8): the
    diagonal grows by `damping` of its mean. Of more than 1,000 points the median is of so many, evenly spaced.
    """

    def __init__(self, damping: float = 1e-2) -> None:
        self.damping = damping

    def fit(self, x: Array, y: Array) -> MedianRidge:
        from scipy.linalg import cho_factor, cho_solve

        some = x[:: -(-len(x) // 1000)]
        apart = np.sqrt(squared_distances(some, some)[np.triu_indices(len(some), 1)])
        self.x, self.scale = x, 2 * (float(np.median(apart)) if len(apart) else 0.0) ** 2 or 1.0
        kernel = np.exp(-squared_distances(x, x) / self.scale)
        kernel[np.diag_indices_from(kernel)] += self.damping * np.diag(kernel).mean()
        self.weights = cho_solve(cho_factor(kernel, overwrite_a=True), y)
        return self

    def predict(self, x: Array) -> Array:
        return np.exp(-squared_distances(x, self.x) / self.scale) @ self.weights


def search(x: Array, y: Array) -> tuple[float, float]:
    """Width (as squared distance) and penalty with the least squared leave-one-out error over all outputs."""
    centred, best, found = y - y.mean(axis=0), np.inf, (1.0, 1.0)
    distances = squared_distances(x, x)
    typical = float(np.median(distances)) or 1.0
    for width in WIDTHS:
        values, vectors = np.linalg.eigh(np.exp(-distances / (width * typical)))
        rotated = vectors.T @ centred
        for penalty in PENALTIES:
            inverse = 1 / (np.maximum(values, 0) + penalty)
            weights = vectors @ (inverse[:, None] * rotated)
            left_out = weights / (vectors**2 @ inverse)[:, None]  # y_i minus its prediction without point i
            error = float((left_out**2).mean())
            if error < best:
                best, found = error, (width * typical, float(penalty))
    return found


def squared_distances(one: Array, other: Array) -> Array:
    """Squared Euclidean distances [n, m]."""
    found = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    return np.maximum(found, 0)
