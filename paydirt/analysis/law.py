"""The compute-performance law, fitted per method, model and task, with intervals and without silent extrapolation.

    P(C) = P0 + (Pbar - P0) (1 - exp(-lambda C / C_total))          (arXiv 2410.16208, section 5)

P0 base score, Pbar score after training on everything, lambda how fast a method gets there. Two named variants:

- `published`: C is the total cost including selection, C_total the largest cost in the panel, every point used. It is
  what the paper's code fits. Methods with a large selection cost start at C far from 0, so their P0 is extrapolated back
  over a range without data and lands on its bound 0 in 9 of the 35 published curves.
- `training`: C is the training cost alone, C_total the cost of one pass over the pool; zero-shot scores, where the
  study has them, are points at C = 0. P0 then is a base score, and lambda compares methods at equal data. Selection is
  added back where costs are compared (front, break-even, advice).

Intervals: bootstrap over seeds inside each cell and over cells of a curve, percentile method (Efron & Tibshirani 1993,
chapter 13). A curve of one seed per cell is resampled over cells alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from paydirt.analysis.results import Curve, Floats, Panel, Results, panels
from paydirt.analysis.solver import solve

VARIANTS = ("published", "training")
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class LawFit:
    """One fitted curve. `x` = cost / `cost_total`; `draws` [B, 2] are bootstrap (P0, lambda)."""

    task: str
    model: str
    method: str
    variant: str
    p0: float
    rate: float
    pbar: float
    pbar_source: str
    cost_total: float
    cost: Floats
    score: Floats
    residuals: Floats
    draws: Floats
    level: float

    @property
    def rmse(self) -> float:
        """Root mean squared residual over the cells, in points."""
        return float(np.sqrt(np.mean(self.residuals**2)))

    @property
    def at_bound(self) -> bool:
        """Whether P0 sits on its lower bound: the fit then says nothing about the base score."""
        return self.p0 < 1e-3

    def interval(self, which: str) -> Interval:
        """Bootstrap interval of "p0" or "lambda" at `level`; NaN without draws."""
        column = {"p0": 0, "lambda": 1}[which]
        return percentile(self.draws[:, column], self.level)

    def predict(self, cost: float | Floats, *, extrapolate: bool = False) -> Floats:
        """Scores at `cost` FLOPs (of the variant's kind).

        Raises ValueError outside the costs that were fitted, unless `extrapolate` says that this is meant; `outside`
        tells which of them those are.
        """
        cost = np.atleast_1d(np.asarray(cost, dtype=np.float64))
        beyond = self.outside(cost)
        if beyond.any() and not extrapolate:
            raise ValueError(
                f"{self.method} on {self.task} {self.model}: {cost[beyond][0]:.3g} FLOPs lies outside the fitted "
                f"{self.cost.min():.3g} to {self.cost.max():.3g}; pass extrapolate=True to go there, and say so"
            )
        return law(cost / self.cost_total, self.p0, self.rate, self.pbar)

    def outside(self, cost: float | Floats) -> np.ndarray:
        """True where a cost lies outside the fitted range (0.1 % of slack for rounded costs)."""
        cost = np.atleast_1d(np.asarray(cost, dtype=np.float64))
        return (cost < self.cost.min() * 0.999) | (cost > self.cost.max() * 1.001)

    def band(self, cost: Floats) -> tuple[Floats, Floats]:
        """Pointwise bootstrap band of the fitted curve at `cost`."""
        x = np.asarray(cost, dtype=np.float64)[None, :] / self.cost_total
        curves = law(x, self.draws[:, :1], self.draws[:, 1:], self.pbar)
        tail = (1 - self.level) / 2
        return np.quantile(curves, tail, axis=0), np.quantile(curves, 1 - tail, axis=0)


def law(x: Floats, p0: float | Floats, rate: float | Floats, pbar: float | Floats) -> Floats:
    """P0 + (Pbar - P0) (1 - exp(-lambda x)), x = C / C_total."""
    return np.asarray(p0 + (pbar - p0) * (1 - np.exp(-rate * x)))


def percentile(draws: Floats, level: float) -> Interval:
    """Central interval holding `level` of the draws; (NaN, NaN) for none."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def fit(
    results: Results,
    variant: str = "training",
    *,
    pbar: Mapping[tuple[str, str], float] | None = None,
    bootstrap: int = 500,
    level: float = 0.9,
    seed: int = 0,
    max_fits: int = 200_000,
) -> list[LawFit]:
    """Fit every curve of every panel; `pbar` overrides the asymptote of (task, model) panels.

    Curves with fewer than 3 cells are left out (2 parameters). The number of bootstrap draws per curve is lowered on
    tables with thousands of curves so that draws x curves stays within `max_fits`, never below 40.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r} of the law; choose one of {', '.join(VARIANTS)}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), not {level}")
    jobs = [job for panel in panels(results) for job in _jobs(panel, variant, pbar or {})]
    if not jobs:
        return []
    draws = max(40, min(bootstrap, max_fits // len(jobs))) if bootstrap else 0
    width = max(len(j.x) for j in jobs)
    x, y, w = (np.zeros((len(jobs), width)) for _ in range(3))
    for row, job in enumerate(jobs):
        x[row, : len(job.x)], y[row, : len(job.x)], w[row, : len(job.x)] = job.x, job.y, 1.0
    tops = np.array([job.pbar for job in jobs])
    lower = min(0.0, float(y.min()))  # scores such as negative losses have no floor at 0
    best = solve(x, y, w, tops, lower)
    replicates = _bootstrap(jobs, x, y, tops, lower, draws, np.random.default_rng(seed))
    fits = []
    for row, job in enumerate(jobs):
        p0, rate = float(best.p0[row]), float(best.rate[row])
        residuals = job.y - law(job.x, p0, rate, job.pbar)
        fits.append(
            LawFit(job.curve.task, job.curve.model, job.label, variant, p0, rate, job.pbar, job.source, job.total,
                   job.x * job.total, job.y, residuals, replicates[row], level)
        )  # fmt: skip
    return fits


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    curve: Curve
    label: str
    x: Floats
    y: Floats
    scores: tuple[Floats, ...]
    pbar: float
    source: str
    total: float


def _jobs(panel: Panel, variant: str, overrides: Mapping[tuple[str, str], float]) -> list[_Job]:
    if not panel.curves:
        return []
    top, source = panel.full_score()
    if (panel.task, panel.model) in overrides:
        top, source = overrides[panel.task, panel.model], "given"
    jobs = []
    total = panel_cost(panel, variant)
    for label, curve in panel.curves.items():
        cost = curve.total_flops if variant == "published" else curve.training_flops
        y, scores = curve.mean, curve.scores
        if variant == "training" and len(panel.zero_shot):
            cost = np.concatenate(([0.0], cost))
            y = np.concatenate(([panel.zero_shot.mean()], y))
            scores = (panel.zero_shot, *scores)
        if len(y) >= 3:
            jobs.append(_Job(curve, label, cost / total, y, scores, top, source, total))
    return jobs


def panel_cost(panel: Panel, variant: str) -> float:
    """C_total in FLOPs: the largest total in the panel, or the training cost of one pass over the pool."""
    if variant == "published":
        return float(max(c.total_flops.max() for c in panel.curves.values()))
    rates = [c.training_flops[-1] / c.fraction[-1] for c in panel.curves.values() if c.fraction[-1] > 0]
    return float(np.median(rates))


def _bootstrap(
    jobs: Sequence[_Job], x: Floats, y: Floats, tops: Floats, lower: float, draws: int, rng: np.random.Generator
) -> Floats:
    """[M, draws, 2] of (P0, lambda) refitted on resampled seeds and cells."""
    m, width = x.shape
    if not draws:
        return np.full((m, 0, 2), np.nan)
    weights = np.zeros((m, draws, width))
    noise = np.zeros((m, draws, width))
    for row, job in enumerate(jobs):
        n = len(job.x)
        weights[row, :, :n] = _resample_cells(n, draws, rng)
        for cell, scores in enumerate(job.scores):
            if len(scores) > 1:
                noise[row, :, cell] = _resample_mean(scores, draws, rng) - job.y[cell]
    shape = (m * draws, width)
    x_all = np.broadcast_to(x[:, None, :], (m, draws, width)).reshape(shape)
    y_all = (y[:, None, :] + noise).reshape(shape)
    found = solve(x_all, y_all, weights.reshape(shape), np.repeat(tops, draws), lower, rounds=2)
    return np.stack([found.p0, found.rate], axis=-1).reshape(m, draws, 2)


def _resample_cells(n: int, draws: int, rng: np.random.Generator) -> Floats:
    """Bootstrap weights [draws, n]; draws with fewer than 3 distinct cells, which fix no curve, are drawn again."""
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    for _ in range(20):
        poor = (weights > 0).sum(axis=1) < min(3, n)
        if not poor.any():
            break
        weights[poor] = rng.multinomial(n, np.full(n, 1 / n), size=int(poor.sum()))
    return weights


def _resample_mean(scores: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Means of `draws` resamples of the seeds; beyond 50 seeds the normal limit of that mean."""
    if len(scores) > 50:
        return rng.normal(scores.mean(), scores.std() / np.sqrt(len(scores)), draws)
    return scores[rng.integers(0, len(scores), (draws, len(scores)))].mean(axis=1)


def fits_table(fits: Sequence[LawFit]) -> pa.Table:
    """One row per fit: parameters, intervals, residual size, and whether P0 sits on its bound."""
    rows = []
    for f in fits:
        p0, rate = f.interval("p0"), f.interval("lambda")
        rows.append(
            {
                "task": f.task, "model": f.model, "method": f.method, "variant": f.variant,
                "p0": f.p0, "p0_low": p0[0], "p0_high": p0[1],
                "lambda": f.rate, "lambda_low": rate[0], "lambda_high": rate[1],
                "pbar": f.pbar, "pbar_source": f.pbar_source, "cost_total": f.cost_total,
                "cells": len(f.cost), "rmse": f.rmse, "worst_residual": float(f.residuals[np.abs(f.residuals).argmax()]),
                "p0_at_bound": f.at_bound,
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows)
