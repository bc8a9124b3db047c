"""Least squares for many compute-performance laws at once.

The law P(x) = Pbar - (Pbar - P0) exp(-lambda x) is linear in the gap a = Pbar - P0 once lambda is fixed, so the best gap
is a ratio of two sums and only lambda is searched (variable projection, Golub & Pereyra 1973). A log grid finds the
valley, repeated zooming its floor: no starting point, no local solver, and thousands of curves or bootstrap replicates
in one array operation. `scipy.optimize.curve_fit` on the same problem is the reference in the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paydirt.analysis.results import Floats

GRID = np.concatenate(([0.0], np.geomspace(1e-3, 1e4, 141)))  # lambda per unit of x
ZOOM = np.linspace(-1.0, 1.0, 9)


class Solution(NamedTuple):
    """Per curve: base score, rate, weighted sum of squared residuals; all [M]."""

    p0: Floats
    rate: Floats
    sse: Floats


def solve(
    x: Floats, y: Floats, weights: Floats, pbar: Floats, lower: float = 0.0, rounds: int = 12, chunk: int = 20_000
) -> Solution:
    """Fit M laws: x, y, weights [M, n] (weight 0 pads or drops a point), pbar [M]; P0 kept in [lower, pbar].

    `rounds` of zooming each narrow lambda fourfold; 12 reach 1e-8 of its value, 4 are ample for a bootstrap.
    """
    parts = [
        _solve(x[i : i + chunk], y[i : i + chunk], weights[i : i + chunk], pbar[i : i + chunk], lower, rounds)
        for i in range(0, len(x), chunk)
    ]
    if not parts:
        empty = np.empty(0)
        return Solution(empty, empty, empty)
    return Solution(*(np.concatenate(column) for column in zip(*parts)))


def _solve(x: Floats, y: Floats, w: Floats, pbar: Floats, lower: float, rounds: int) -> Solution:
    # Shifting x to start at 0 keeps exp() in range; the gap at the first point takes the shift's factor.
    start = np.where(w > 0, x, np.inf).min(axis=1)
    start = np.where(np.isfinite(start), start, 0.0)
    shifted = np.where(w > 0, x - start[:, None], 0.0)
    z = np.where(w > 0, pbar[:, None] - y, 0.0)
    wz, total = w * z, (w * z * z).sum(axis=1)
    most = pbar - lower

    def gap_and_sse(rate: Floats) -> tuple[Floats, Floats]:
        """rate [M, G] -> gap at `start`, sse, both [M, G]."""
        e = np.exp(-rate[:, :, None] * shifted[:, None, :])
        ze = np.einsum("mgn,mn->mg", e, wz)
        ee = np.einsum("mgn,mn->mg", e * e, w)
        ceiling = most[:, None] * np.exp(-rate * start[:, None])
        gap = np.clip(ze / np.maximum(ee, 1e-300), 0.0, ceiling)
        return gap, total[:, None] - 2 * gap * ze + gap * gap * ee

    def best(rate: Floats) -> tuple[Floats, Floats, Floats]:
        gap, sse = gap_and_sse(rate)
        pick = sse.argmin(axis=1)[:, None]
        return (np.take_along_axis(a, pick, 1)[:, 0] for a in (rate, gap, sse))  # type: ignore[return-value]

    grid = GRID if rounds > 6 else np.concatenate(([0.0], np.geomspace(1e-2, 1e3, 36)))
    rate, gap, sse = best(np.broadcast_to(grid, (len(x), len(grid))))
    step = np.log(grid[2] / grid[1])
    for _ in range(rounds):
        near = np.where(rate[:, None] > 0, rate[:, None] * np.exp(step * ZOOM), grid[1] * (1 + ZOOM) / 2)
        rate, gap, sse = best(near)
        step /= 4
    full_gap = np.minimum(gap * np.exp(np.minimum(rate * start, 700.0)), most)
    return Solution(pbar - full_gap, rate, np.maximum(sse, 0.0))
