"""When an expensive selection pays: the number of tasks sharing it, and the train-to-selector size ratio.

Both ask the same question: how small must the selection cost S become before one of the method's cells, at training cost
T, reaches the front of the *other* methods? Three definitions of "reaches", reported side by side because the answer
depends on them (runs on the whole pool never count, no method earned them):

- `line`: the cell lies on or above the straight line in log10 C through the other methods' non-dominated runs;
- `dominance`: no other method's run costs no more and scores at least as well;
- `law`: the fitted training-cost law of the method lies above every other method's law at the same total cost,
  somewhere between 2.5 % and 95 % of the pool.

With S* the largest selection cost that still reaches the front, the break-even number of tasks is S / S* (one gradient
store serves them all), and the size ratio is (P_train / P_selector) S / S*, for a selector whose cost is proportional to
its size and whose choices are as good. That second assumption is the paper's too; no published run tests it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from paydirt.analysis.front import Cells, Fronts, cells
from paydirt.analysis.law import law, percentile
from paydirt.analysis.results import Floats, Panel
from paydirt.analysis.solver import solve

DEFINITIONS = ("line", "dominance", "law")
SHARES = np.geomspace(0.025, 0.95, 40)


@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """Break-even of one method in one panel under one definition; infinite where no selection cost is low enough.

    `tasks_draws` [1 + B]: break-even as observed, then redrawn; times `size_ratio / tasks` they are size ratios.
    """

    task: str
    model: str
    method: str
    definition: str
    selection_flops: float
    largest_affordable: float
    tasks: float
    tasks_interval: tuple[float, float]
    size_ratio: float
    size_ratio_interval: tuple[float, float]
    reached: float
    level: float
    tasks_draws: Floats = field(default_factory=lambda: np.empty(0), repr=False)


def crossing(
    panel: Panel, method: str, definition: str = "line", *, selector_params: float | None = None, draws: int = 400,
    level: float = 0.9, seed: int = 0,
) -> Crossing:  # fmt: skip
    """Break-even of `method`; `reached` is the share of redrawn panels in which any selection cost above 0 pays.

    Raises ValueError on an unknown definition or method, or when the method selects for nothing.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"unknown definition {definition!r}; choose one of {', '.join(DEFINITIONS)}")
    if method not in panel.curves:
        raise ValueError(f"no method {method!r} in panel {panel.name!r}; it has {', '.join(panel.curves)}")
    curve = panel.curves[method]
    spent = float(np.nanmedian(curve.selection_flops))
    if not spent > 0:
        raise ValueError(f"{method} selects for nothing; there is no cost to recover")
    size = selector_params or (curve.selector_params if np.isfinite(curve.selector_params) else panel.train_params)
    ratio_now = panel.train_params / size
    c = cells(panel)
    scores = np.concatenate([c.score[None], c.draws(draws, np.random.default_rng(seed))])
    largest = _largest(c, scores, method, definition)
    # A thousandth of its cost is no selection any more; below that the method does not reach the front.
    tasks = np.where(largest > 1e-3 * spent, spent / np.maximum(largest, 1e-3 * spent), np.inf)
    n, now = float(tasks[0]), float(largest[0])
    low, high = _interval(tasks[1:], level)
    return Crossing(
        panel.task, panel.model, method, definition, spent, now, n, (low, high), ratio_now * n,
        (ratio_now * low, ratio_now * high), float(np.isfinite(tasks[1:]).mean()) if draws else float("nan"), level, tasks,
    )  # fmt: skip


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """Percentile interval that keeps infinities: a bound is infinite when that share of the draws never reaches."""
    if not len(values) or np.isfinite(values).all():
        return percentile(values, level)
    ordered = np.sort(values)
    at = [(1 - level) / 2, (1 + level) / 2]
    low, high = (ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in at)
    return float(low), float(high)


def _largest(c: Cells, score: Floats, method: str, definition: str) -> Floats:
    """S* [B] for scores [B, N]: the largest selection cost at which the method still reaches the others' front."""
    mine = np.flatnonzero((c.method == method) & (c.fraction < 0.999))
    others = np.flatnonzero(c.method != method)
    if not len(mine) or not len(others):
        return np.zeros(len(score))
    if definition == "law":
        return _largest_by_law(c, score, method)
    if definition == "line":
        fronts = Fronts.of(c.total[others], score[:, others])
        slope, intercept = (v[:, None] for v in fronts.lines())
        dearest = np.where(fronts.vertex, fronts.cost, 0.0).max(axis=1)[:, None]
        # Beyond the dearest vertex the line has no data; reaching it there counts as reaching its end.
        log_cost = (score[:, mine] - intercept) / np.where(slope > 0, slope, 1.0)
        allowed = np.where(slope > 0, np.minimum(10 ** np.minimum(log_cost, 300.0), dearest), 0.0)
    else:
        rivals = score[:, None, others] >= score[:, mine, None]
        allowed = np.where(rivals, c.total[others], np.inf).min(axis=2)
        # Nothing scores as well: the method is on the front up to the dearest run there is.
        allowed = np.minimum(allowed, c.total.max())
    return np.asarray(np.maximum((allowed - c.training[mine]).max(axis=1), 0.0))


def _largest_by_law(c: Cells, score: Floats, method: str) -> Floats:
    """Training cost at which the best other law has the same score, less the method's own, maximised over its data."""
    names = list(dict.fromkeys(c.method))
    full = float(np.median((c.training / c.fraction)[c.fraction > 0]))
    lower, draws = min(0.0, float(score.min())), len(score)
    # Pbar is redrawn with the runs that it is the mean of.
    whole = c.fraction >= 0.999 * c.fraction.max() if c.fraction.max() >= 0.999 else None
    top = score[:, whole].mean(axis=1) if whole is not None else score.max(axis=1)
    p0, rate = {}, {}
    for name in names:
        at = np.flatnonzero(c.method == name)
        x = np.broadcast_to(c.fraction[at], (draws, len(at)))
        found = solve(x, score[:, at], np.ones(x.shape), top, lower, rounds=3)
        p0[name], rate[name] = found.p0[:, None], found.rate[:, None]
    budget = np.geomspace(0.025, 1.0, 60)[None, :]  # total cost, in passes over the pool
    rival = np.full((draws, budget.shape[1]), -np.inf)
    for name in (n for n in names if n != method):
        share = np.minimum(budget - float(np.median(c.selection[c.method == name])) / full, 1.0)
        value = law(np.maximum(share, 0.025), p0[name], rate[name], top[:, None])
        rival = np.maximum(rival, np.where(share >= 0.025, value, -np.inf))
    own = law(SHARES[None, :], p0[method], rate[method], top[:, None])
    # The largest budget at which no rival is above `own`; rivals rise with the budget, so a count finds it.
    beaten = (np.maximum.accumulate(rival, axis=1)[:, None, :] <= own[:, :, None]).sum(axis=2)
    allowed = np.where(beaten > 0, budget[0][np.minimum(beaten, budget.shape[1]) - 1], 0.0)
    return np.asarray(np.maximum(((allowed - SHARES) * full).max(axis=1), 0.0))


def tasks_needed(crossing_: Crossing) -> float:
    """Whole tasks needed, at least 1; infinite where the method never reaches the front."""
    return float(np.ceil(max(crossing_.tasks, 1.0) - 1e-9)) if np.isfinite(crossing_.tasks) else float("inf")
