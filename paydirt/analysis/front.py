"""The Pareto front of score against total compute: the non-dominated strategies, and the line through them.

A strategy is dominated when another costs no more and scores at least as well, better in one of them. Costs within
1e-4 of each other are equal (published costs are rounded). The *line* is least squares of score on log10 C through the
non-dominated strategies, as the published figures 2 and 4 draw it.

Intervals: every cell's score is redrawn with its standard error, and everything is computed again. The standard error
is the seeds' where a study repeats seeds; else the residuals of the panel's fitted laws, pooled over their degrees of
freedom. Its size is uncertain and redrawn too. Cells whose selection cost nobody gave have no place on the axis and are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paydirt.analysis.results import CEILINGS, Floats, Panel
from paydirt.analysis.solver import solve

SAME_COST = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """All trained cells of a panel in one array each, [N], and each one's standard error."""

    method: np.ndarray
    fraction: Floats
    selection: Floats
    training: Floats
    total: Floats
    score: Floats
    error: Floats
    freedom: float = np.inf

    def __len__(self) -> int:
        return len(self.score)

    def draws(self, count: int, rng: np.random.Generator) -> Floats:
        """[count, N] redrawn scores; runs on the whole pool are the same run under any name and move together."""
        noise = rng.standard_normal((count, len(self)))
        if np.isfinite(self.freedom):
            size = np.sqrt(self.freedom / rng.chisquare(self.freedom, count))
            noise *= np.minimum(size, 10.0)[:, None]
        for share in np.unique(self.fraction[self.fraction >= 0.999]):
            same = np.flatnonzero(self.fraction == share)
            noise[:, same] = noise[:, same[:1]]
        return self.score + noise * self.error


def cells(panel: Panel) -> Cells:
    """The panel's cells, curves in order; ceilings such as an oracle are not among them."""
    curves = [(label, c) for label, c in panel.curves.items() if c.method.lower() not in CEILINGS]
    if not curves:
        raise ValueError(f"panel {panel.name!r} has no trained runs")
    label = np.concatenate([np.full(len(c), name, dtype=object) for name, c in curves])
    column = {n: np.concatenate([getattr(c, n) for _, c in curves])
              for n in ("fraction", "selection_flops", "training_flops", "total_flops", "mean", "sd", "seeds")}  # fmt: skip
    priced = np.isfinite(column["total_flops"])
    if not priced.any():
        raise ValueError(
            f"panel {panel.name!r} has no run whose total cost is known; give selection_flops or total_flops"
        )
    label, column = label[priced], {n: v[priced] for n, v in column.items()}
    pooled, freedom = _pooled_sd(column["sd"], column["seeds"])
    stand_in = pooled
    if not np.isfinite(pooled):
        stand_in, freedom = residual_noise(panel)
    error = np.where(column["seeds"] > 1, stand_in / np.sqrt(column["seeds"]), stand_in)
    return Cells(label, column["fraction"], column["selection_flops"], column["training_flops"],
                 column["total_flops"], column["mean"], error, freedom)  # fmt: skip


def _pooled_sd(sd: Floats, seeds: Floats) -> tuple[float, float]:
    """Standard deviation between seeds over all cells that repeat them, and its freedom; NaN with fewer than 5."""
    freedom = np.where(seeds > 1, seeds - 1, 0)
    total = float(freedom.sum())
    return (float(np.sqrt(np.nansum(freedom * sd**2) / total)), total) if total >= 5 else (float("nan"), total)


def residual_noise(panel: Panel) -> tuple[float, float]:
    """Standard deviation of a cell about its training-cost law, pooled over the panel's curves, and its degrees of freedom.

    Cells on everything meet the asymptote by construction and do not count. (0, inf) where no curve has a cell to spare.
    """
    top, source = panel.full_score()
    rss = freedom = 0.0
    for c in panel.curves.values():
        part = c.fraction < 0.999 if source != "best seen" else np.ones(len(c), dtype=bool)
        if part.sum() >= 3:
            fit = solve(c.fraction[None], c.mean[None], np.ones((1, len(c))), np.array([top]), min(0.0, c.mean.min()))
            gap = (c.mean - top + (top - fit.p0[0]) * np.exp(-fit.rate[0] * c.fraction))[part]
            rss, freedom = rss + float(gap @ gap), freedom + float(part.sum() - 2)
    return (float(np.sqrt(rss / freedom)), freedom) if freedom else (0.0, float("inf"))


def non_dominated(cost: Floats, score: Floats) -> np.ndarray:
    """Indices of the non-dominated points in order of cost; of equal points the first."""
    order = np.lexsort((-score, cost))
    kept: list[int] = []
    for i in order:
        if kept and score[i] <= score[kept[-1]]:
            continue
        # The same cost but for rounding: the better one dominates.
        while kept and cost[i] <= cost[kept[-1]] * (1 + SAME_COST):
            kept.pop()
        kept.append(int(i))
    return np.array(kept, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Fronts:
    """Fronts of many score vectors over the same costs: groups of equal cost, and which of them are vertices.

    `cost` [G] ascending, `best` [B, G] best score of each group, `vertex` [B, G], `winner` [B, G] the cell that has it.
    """

    cost: Floats
    best: Floats
    vertex: np.ndarray
    winner: np.ndarray

    @classmethod
    def of(cls, cost: Floats, score: Floats) -> Fronts:
        """cost [N], score [B, N]; the same fronts as `non_dominated` row by row, in one pass over sorted costs."""
        order = np.argsort(cost, kind="stable")
        ordered = cost[order]
        groups: list[int] = []
        anchor = -np.inf
        for i, c in enumerate(ordered):  # a chain of nearly equal costs is one group while it stays near its first
            if c > anchor * (1 + SAME_COST) or not groups:
                groups.append(i)
                anchor = c
        starts = np.array(groups)
        sorted_score = score[:, order]
        best = np.maximum.reduceat(sorted_score, starts, axis=1)
        before = np.concatenate(
            [np.full((len(score), 1), -np.inf), np.maximum.accumulate(best, axis=1)[:, :-1]], axis=1
        )
        ends = np.append(starts[1:], len(order))
        winner = np.stack(
            [order[a + sorted_score[:, a:b].argmax(axis=1)] for a, b in zip(starts, ends)], axis=1
        )  # fmt: skip
        return cls(np.maximum.reduceat(ordered, starts), best, best > before, winner)

    def lines(self) -> tuple[Floats, Floats]:
        """(slope, intercept) [B] of least squares of vertex scores on log10 cost; slope 0 through one vertex."""
        x, w = np.log10(self.cost)[None, :], self.vertex.astype(np.float64)
        n = w.sum(axis=1)
        mx, my = (w * x).sum(axis=1) / n, (w * self.best).sum(axis=1) / n
        dx = x - mx[:, None]
        spread = (w * dx * dx).sum(axis=1)
        slope = np.where(spread > 0, (w * dx * self.best).sum(axis=1) / np.where(spread > 0, spread, 1.0), 0.0)
        return slope, my - slope * mx


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Vertices of a front in order of cost, and its line `intercept + slope log10 C` (NaN with one vertex)."""

    method: tuple[str, ...]
    fraction: Floats
    cost: Floats
    score: Floats
    slope: float
    intercept: float
    slope_interval: tuple[float, float]
    share: dict[str, float]

    def line(self, cost: float | Floats) -> Floats:
        """The line's score at `cost` FLOPs."""
        return np.asarray(self.intercept + self.slope * np.log10(cost))

    def reach(self, score: float | Floats) -> Floats:
        """The cost at which the line has this score."""
        return np.asarray(10 ** ((np.asarray(score) - self.intercept) / self.slope))


def line(cost: Floats, score: Floats) -> tuple[float, float]:
    """(slope, intercept) of score on log10 cost; (0, mean) through a single point."""
    if len(cost) < 2:
        return 0.0, float(np.mean(score))
    slope, intercept = np.polyfit(np.log10(cost), score, 1)
    return float(slope), float(intercept)


def smoothed(panel: Panel, c: Cells) -> Floats:
    """[N] every cell's score on its curve's fitted training-cost law; as observed where a curve has under 4 cells."""
    top = panel.full_score()[0]
    found = c.score.copy()
    for name in dict.fromkeys(c.method):
        at = np.flatnonzero(c.method == name)
        if len(at) >= 4:
            x, y = c.fraction[at], c.score[at]
            fit = solve(x[None], y[None], np.ones((1, len(at))), np.array([top]), min(0.0, y.min()))
            found[at] = top - (top - fit.p0[0]) * np.exp(-fit.rate[0] * x)
    return found


def _slope_interval(
    c: Cells, keep: np.ndarray, slope: float, draws: int, level: float, seed: int
) -> tuple[float, float]:
    """Interval of the line's slope by how far it strays when cells are redrawn about their laws (parametric, pivotal).

    A front is made of winners, which noise favours: redrawing about the observed scores adds that twice, and held 48 %
    of true slopes where it said 90.
    """
    if not draws:
        return float("nan"), float("nan")
    cost = c.total[keep]
    centre = Fronts.of(cost, c.score[None, keep]).lines()[0][0]
    away = Fronts.of(cost, c.draws(draws, np.random.default_rng(seed))[:, keep]).lines()[0] - centre
    low, high = np.quantile(away, [(1 - level) / 2, (1 + level) / 2])
    return float(slope - high), float(slope - low)


def front(panel: Panel, *, without: Sequence[str] = (), draws: int = 400, level: float = 0.9, seed: int = 0) -> Front:
    """The panel's front, leaving out the methods in `without`; `share` is how often a method is on a redrawn front.

    Runs on the whole pool count for the line and are named "everything": no method earned them.
    """
    c = cells(panel)
    keep = np.flatnonzero(~np.isin(c.method, list(without)))
    if not len(keep):
        raise ValueError(f"no method is left in panel {panel.name!r} without {', '.join(without)}")
    names = np.where(c.fraction >= 0.999, "everything", c.method)[keep]
    cost, score = c.total[keep], c.score[keep]
    best = non_dominated(cost, score)
    slope, intercept = line(cost[best], score[best])
    redrawn = Fronts.of(cost, c.draws(draws, np.random.default_rng(seed))[:, keep])
    low, high = _slope_interval(replace(c, score=smoothed(panel, c)), keep, slope, draws, level, seed)
    on_front = {
        m: float((redrawn.vertex & (names[redrawn.winner] == m)).any(axis=1).mean()) if draws else float("nan")
        for m in dict.fromkeys(c.method[keep])
    }
    return Front(
        tuple(names[best]), c.fraction[keep][best], cost[best], score[best], slope, intercept,
        (low, high), on_front,
    )  # fmt: skip
