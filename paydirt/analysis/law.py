"""The compute-performance law, fitted per method, model and task, with intervals and without silent extrapolation.

    P(C) = P0 + (Pbar - P0) (1 - exp(-lambda C / C_total))          (arXiv 2410.16208, section 5)

P0 base score, Pbar score after training on everything, lambda how fast a method gets there. Two named variants:

- `published`: C is the total cost including selection, C_total the largest cost in the panel, every point used. It is
  what the paper's code fits. Methods with a large selection cost start at C far from 0, so their P0 is extrapolated back
  over a range without data and lands on its bound 0 in 9 of the 35 published curves.
- `training`: C is the training cost alone, C_total the cost of one pass over the pool; zero-shot scores, where the
  study has them, are points at C = 0. P0 then is a base score, and lambda compares methods at equal data. Selection is
  added back where costs are compared (front, break-even, advice).

Intervals: parametric bootstrap (Efron & Tibshirani 1993, chapters 6.5 and 13). Every cell is redrawn about its fitted
curve with the noise of its *panel*: the residuals of all the panel's curves pooled over their degrees of freedom, or
the spread between seeds where that is larger. The noise itself is uncertain, so its size is redrawn too (chi-square).
Pbar is redrawn with it: it is one more noisy run, and the cell on everything moves with it. A bootstrap over the cells
of a curve, as before, held 66 to 73 % where it said 90, and had no width at three points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from paydirt.analysis.results import Curve, Floats, Panel, Results, panels
from paydirt.analysis.solver import Solution, solve

VARIANTS = ("published", "training")
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class LawFit:
    """One fitted curve. `x` = cost / `cost_total`; `draws` [B, 3] are bootstrap (P0, lambda, Pbar)."""

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
        curves = law(x, self.draws[:, :1], self.draws[:, 1:2], self.draws[:, 2:])
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
    replicates = _bootstrap(jobs, x, y, best, tops, lower, draws, np.random.default_rng(seed))
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
    whole: np.ndarray  # cells trained on everything: the runs that Pbar is the mean of
    pbar: float
    source: str
    total: float

    @property
    def panel(self) -> tuple[str, str]:
        return self.curve.task, self.curve.model


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
        y, scores, whole = curve.mean, curve.scores, curve.fraction >= 0.999
        if variant == "training" and len(panel.zero_shot):
            cost = np.concatenate(([0.0], cost))
            y = np.concatenate(([panel.zero_shot.mean()], y))
            scores, whole = (panel.zero_shot, *scores), np.concatenate(([False], whole))
        if not np.isfinite(cost).all():  # a selection cost that nobody gave
            known = np.isfinite(cost)
            cost, y, whole = cost[known], y[known], whole[known]
            scores = tuple(s for s, ok in zip(scores, known) if ok)
        if len(y) >= 3:
            jobs.append(_Job(curve, label, cost / total, y, scores, whole, top, source, total))
    return jobs


def panel_cost(panel: Panel, variant: str) -> float:
    """C_total in FLOPs: the largest total in the panel, or the training cost of one pass over the pool."""
    if variant == "published":
        known = np.concatenate([c.total_flops for c in panel.curves.values()])
        return float(np.nanmax(known)) if np.isfinite(known).any() else float("nan")
    rates = [c.training_flops[-1] / c.fraction[-1] for c in panel.curves.values() if c.fraction[-1] > 0]
    return float(np.nanmedian(rates))


def _bootstrap(
    jobs: Sequence[_Job], x: Floats, y: Floats, best: Solution, tops: Floats, lower: float, draws: int,
    rng: np.random.Generator,
) -> Floats:  # fmt: skip
    """[M, draws, 3] of (P0, lambda, Pbar) refitted on cells and asymptotes redrawn with their panel's noise."""
    m, width = x.shape
    if not draws:
        return np.full((m, 0, 3), np.nan)
    fitted = law(x, best.p0[:, None], best.rate[:, None], tops[:, None])
    noise, freedom = _panel_noise(jobs, y, fitted)
    weights, drawn = np.zeros((m, draws, width)), np.zeros((m, draws, width))
    asymptote = np.zeros((m, draws))
    shared: dict[tuple[str, str], tuple[Floats, Floats]] = {}  # a panel's curves meet in one run on everything
    for row, job in enumerate(jobs):
        n = len(job.x)
        if job.panel not in shared:
            df = freedom[job.panel]
            size = np.minimum(np.sqrt(df / rng.chisquare(df, draws)), 10.0)
            shared[job.panel] = size, rng.standard_normal(draws)
        size, top = shared[job.panel]
        each = rng.standard_normal((draws, n))
        each[:, job.whole] = top[:, None]
        drawn[row, :, :n] = size[:, None] * each * noise[job.panel]
        asymptote[row] = tops[row] + size * top * noise[job.panel]
        weights[row, :, :n] = 1.0
    shape = (m * draws, width)
    x_all = np.broadcast_to(x[:, None, :], (m, draws, width)).reshape(shape)
    y_all = (fitted[:, None, :] + drawn).reshape(shape)
    highest = np.maximum(asymptote, lower).reshape(-1)
    found = solve(x_all, y_all, weights.reshape(shape), highest, lower, rounds=2)
    return np.stack([found.p0, found.rate, highest], axis=-1).reshape(m, draws, 3)


# Noise of a cell as a share of how far the panel's scores reach, where a panel has as many parameters as cells: the median
# of the seven published panels is 0.11.
USUAL_NOISE, USUAL_FREEDOM = 0.11, 4.0


def _panel_noise(
    jobs: Sequence[_Job], y: Floats, fitted: Floats
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Per panel: standard deviation of a cell's mean about its law, and the degrees of freedom behind it.

    Residuals over the cells that were not trained on everything (those meet Pbar by construction), less two parameters a
    curve; the spread between seeds where that is larger; `USUAL_NOISE` where neither has a degree of freedom.
    """
    sums: dict[tuple[str, str], Floats] = {}
    reach: dict[tuple[str, str], list[float]] = {}
    for row, job in enumerate(jobs):
        n = len(job.x)
        s = sums.setdefault(job.panel, np.zeros(4))
        part = ~job.whole if job.source != "best seen" else np.ones(n, dtype=bool)
        s[0] += ((y[row, :n] - fitted[row, :n])[part] ** 2).sum()
        s[1] += max(int(part.sum()) - 2, 0)
        for scores in job.scores:
            if len(scores) > 1:
                s[2] += scores.var(ddof=1) / len(scores) * (len(scores) - 1)
                s[3] += len(scores) - 1
        reach.setdefault(job.panel, []).extend(y[row, :n])
    noise, freedom = {}, {}
    for panel, (r, n, v, k) in sums.items():
        usual = USUAL_NOISE * float(np.ptp(reach[panel]))
        found = [(value / count, count) for value, count in ((r, n), (v, k)) if count]
        variance, count = max(found, default=(usual**2, USUAL_FREEDOM))
        noise[panel], freedom[panel] = float(np.sqrt(variance)), float(count)
    return noise, freedom


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
