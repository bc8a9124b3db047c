"""Leave one panel out: does the advisor choose better than a fixed habit, and do its intervals hold what they promise?

For each panel in turn the model learns from the others (never from the panel's scores) and is asked, at each budget,
which observed strategy to run among those the budget affords. Regret is the best affordable score in hindsight less the
chosen one's, in points. A fixed habit ("always BM25") takes its largest affordable fraction; where the budget does not
even pay its selection it falls back to Random's largest affordable fraction, which is kind to expensive habits.

"advisor + pilot paid" first pays for every free method at the smallest fraction (three runs here: Random, BM25, Embed at
2.5 %), out of the same budget, then chooses with what is left; the pilot's own models may be kept. A budget that cannot
pay the pilot is decided without it. "advisor + pilot given" has the same three results for nothing.

Coverage: the share of the held-out panel's observed scores inside the central 80 % interval for a single observed run.
It is computed without a pilot (absolute scores, told task and size only) and with one cheap pilot point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paydirt.analysis.points import Points, ask, points
from paydirt.analysis.posterior import Model, Posterior, learn, nearest, predict, scale_of
from paydirt.analysis.results import Floats, Panel, Results, panels


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """Per panel and budget: regret of each chooser; per held-out cell: inside the interval or not."""

    panel_names: tuple[str, ...]
    choosers: tuple[str, ...]
    budgets: Floats  # [P, K] FLOPs
    regret: Floats  # [P, K, choosers], points
    covered: Floats  # [P] share inside, no pilot
    covered_pilot: Floats  # [P] share inside, one pilot point
    cells: np.ndarray  # [P] cells behind the coverage
    sure: Floats  # [P, K] predicted chance that the choice lies within one noise sd of the best
    good: Floats  # [P, K] 1 where it did

    def mean_regret(self) -> dict[str, float]:
        return {name: float(self.regret[:, :, i].mean()) for i, name in enumerate(self.choosers)}

    def coverage(self, pilot: bool = False) -> float:
        return float(np.average(self.covered_pilot if pilot else self.covered, weights=self.cells))


def budgets_of(panel: Panel, count: int = 6) -> Floats:
    """`count` budgets spread evenly in log cost, from the cheapest run to the dearest."""
    costs = np.concatenate([c.total_flops for c in panel.curves.values()])
    return np.geomspace(costs.min() * 1.001, costs.max() * 1.001, count)


def backtest(
    results: Results,
    habits: Sequence[str] = ("Random", "BM25", "Embed", "LESS"),
    *,
    count: int = 6,
    level: float = 0.8,
    budgets: str = "log",
    draws: int = 4000,
    seed: int = 0,
) -> Backtest:
    """Hold out each panel of `results` once. `budgets`: "log" (see `budgets_of`) or "fractions" (Random's own costs)."""
    every = [p for p in panels(results) if p.curves]
    if len(every) < 3:
        raise ValueError(f"leave-one-panel-out needs at least 3 panels, these results have {len(every)}")
    rng = np.random.default_rng(seed)
    grids, regrets, covered, covered_pilot, cells, sure, good = [], [], [], [], [], [], []
    for held in every:
        truth = points([held])
        model = learn(nearest(points([p for p in every if p is not held]), truth))
        asked_labels = [(label, i) for label, c in held.curves.items() for i in range(len(c))]
        asked = ask(held, [held.curves[m].method for m, _ in asked_labels],
                    [held.curves[m].fraction[i] for m, i in asked_labels],
                    [held.curves[m].selector_params for m, _ in asked_labels])  # fmt: skip
        posterior = predict(model, asked)
        expected = posterior.mean()
        sample, noise = posterior.draw(draws, rng)
        tolerance = model.levels.noise * np.nan_to_num(scale_of(truth, truth.panel[0]), nan=1.0)
        score = np.array([held.curves[m].mean[i] for m, i in asked_labels])
        cost = np.array([held.curves[m].total_flops[i] for m, i in asked_labels])
        method = np.array([m for m, _ in asked_labels])
        ks = budgets_of(held, count) if budgets == "log" else held.curves[habits[0]].total_flops[:count] * 1.001
        grids.append(ks)
        plain = np.array([_regrets(k, cost, score, expected, method, habits) for k in ks])
        pilots = [_pilot_regrets(model, held, asked, ks, cost, score, expected, paid=paid) for paid in (False, True)]
        regrets.append(np.column_stack([plain, *pilots]))
        chosen = [np.flatnonzero(cost <= k)[expected[cost <= k].argmax()] for k in ks]
        sure.append([(sample[:, j] >= sample[:, cost <= k].max(axis=1) - noise).mean() for j, k in zip(chosen, ks)])
        good.append([score[j] >= score[cost <= k].max() - tolerance for j, k in zip(chosen, ks)])
        covered.append(_inside(predict(model, truth), truth.y, level, draws, rng))
        covered_pilot.append(_pilot_coverage(model, truth, level, draws, rng))
        cells.append(len(truth))
    return Backtest(
        tuple(p.name for p in every),
        ("advisor", *(f"always {h}" for h in habits), "advisor + pilot given", "advisor + pilot paid"),
        np.array(grids),
        np.array(regrets), np.array(covered), np.array(covered_pilot), np.array(cells),
        np.array(sure), np.array(good, dtype=np.float64),
    )  # fmt: skip


def _regrets(
    k: float, cost: Floats, score: Floats, expected: Floats, method: np.ndarray, habits: Sequence[str]
) -> Floats:
    open_ = cost <= k
    best = score[open_].max()

    def habit(name: str) -> float:
        rows = np.flatnonzero(open_ & (method == name))
        if not len(rows):
            rows = np.flatnonzero(open_ & (method == habits[0]))
        return float(score[rows[cost[rows].argmax()]]) if len(rows) else float(score[open_].min())

    chosen = np.flatnonzero(open_)[expected[open_].argmax()]
    return np.array([best - score[chosen], *(best - habit(h) for h in habits)])


def _pilot_regrets(
    model: Model, held: Panel, asked: Points, ks: Floats, cost: Floats, score: Floats, expected: Floats, *, paid: bool,
) -> list[float]:  # fmt: skip
    """Regret of the advisor that has a pilot of the free methods at the smallest fraction, paid or given."""
    free = np.concatenate([c.selection_flops <= 1e-3 * c.total_flops for c in held.curves.values()])
    pilot = np.flatnonzero(free & (asked.x == asked.x.min()))
    known = replace(asked, y=score).where(pilot)
    after = predict(model, asked, known).mean()
    after[pilot] = score[pilot]  # seen, so no longer in doubt
    found = []
    for k in ks:
        left = k - (cost[pilot].sum() if paid else 0.0)
        open_, values = (cost <= k, expected) if left < 0 else (cost <= left, after)
        if left >= 0:
            open_[pilot] = cost[pilot] <= k
        chosen = np.flatnonzero(open_)[values[open_].argmax()]
        found.append(float(score[cost <= k].max() - score[chosen]))
    return found


def _inside(posterior: Posterior, y: Floats, level: float, draws: int, rng: np.random.Generator) -> float:
    sample, _ = posterior.draw(draws, rng, observed=True)
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return float(((y >= low) & (y <= high)).mean())


def _pilot_coverage(model: Model, truth: Points, level: float, draws: int, rng: np.random.Generator) -> float:
    cheap = truth.x == truth.x.min()
    first = np.flatnonzero(cheap & (truth.method == "random"))[:1]
    rest = np.setdiff1d(np.arange(len(truth)), first)
    return _inside(predict(model, truth.where(rest), truth.where(first)), truth.y[rest], level, draws, rng)
