"""How often intervals of the law, the front and break-even hold the truth, on panels simulated from known laws.

Panels as they are published: three methods, one run a cell, and one run on everything that all of them share. The noise is
Gaussian, 0.4 points on curves that rise by 20, and every number is estimated as in real use: noise, Pbar, front.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paydirt.analysis.breakeven import crossing
from paydirt.analysis.front import front
from paydirt.analysis.law import fit, law
from paydirt.analysis.results import Panel, Results, panels

TOP, RATE, BASE, NOISE = 50.0, 6.0, 30.0, 0.4
SIX = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
THREE = (0.05, 0.25, 1.0)
FULL = 1e15  # FLOPs of one pass over the pool


def law_coverage(shares: Sequence[float] = SIX, count: int = 80, level: float = 0.9, seed: int = 3) -> dict[str, float]:
    """Share of intervals (lambda, P0) and of points of bands that hold the truth; `narrowest`: of a band, in points."""
    fits = fit(_alike(np.random.default_rng(seed), count, shares), "training", bootstrap=300, level=level)
    at = np.array([0.05, 0.1, 0.2, 0.4])
    true = law(at, BASE, RATE, TOP)
    bands = [f.band(at * FULL) for f in fits]

    def held(which: str, value: float) -> float:
        return float(np.mean([low <= value <= high for low, high in (f.interval(which) for f in fits)]))

    return {
        "lambda": held("lambda", RATE),
        "P0": held("p0", BASE),
        "band": float(np.mean([(low <= true) & (true <= high) for low, high in bands])),
        "narrowest": min(float((high - low).min()) for low, high in bands),
    }


def front_coverage(count: int = 40, level: float = 0.9, seed: int = 1) -> dict[str, float]:
    """Share of intervals of the line's slope and of break-even (by line, by law) that hold the truth."""
    exact = _rivals(np.random.default_rng(0), 1e-9)
    slope = front(exact, draws=0).slope
    tasks = {d: crossing(exact, "c", d, draws=0).tasks for d in ("line", "law")}
    rng, held = np.random.default_rng(seed), []
    for _ in range(count):
        panel = _rivals(rng, NOISE)
        low, high = front(panel, draws=200, level=level).slope_interval
        found = {d: crossing(panel, "c", d, draws=150, level=level).tasks_interval for d in tasks}
        held.append([low <= slope <= high, *(found[d][0] <= tasks[d] <= found[d][1] for d in tasks)])
    return dict(zip(("slope of the line", "break-even, line", "break-even, law"), np.mean(held, axis=0).tolist()))


def _alike(rng: np.random.Generator, count: int, shares: Sequence[float]) -> Results:
    """Panels whose methods all follow one law."""
    rows = []
    for t in range(count):
        for method, fraction, score in _runs(rng, (("x", RATE), ("y", RATE), ("z", RATE)), shares, NOISE):
            rows.append({"task": f"t{t}", "model": "m", "method": method, "fraction": fraction, "selection_flops": 0.0,
                         "training_flops": fraction * FULL, "total_flops": fraction * FULL, "score": score})  # fmt: skip
    return Results.from_rows(rows)


def _rivals(rng: np.random.Generator, noise: float) -> Panel:
    """One panel of three laws; the best method's selection costs six tenths of a pass."""
    rows = []
    for method, fraction, score in _runs(rng, (("a", 5.0), ("b", 7.0), ("c", 20.0)), SIX, noise):
        selection = 0.6 * FULL if method == "c" else 0.0
        rows.append({"task": "t", "model": "m", "method": method, "fraction": fraction, "selection_flops": selection,
                     "training_flops": fraction * FULL, "total_flops": selection + fraction * FULL, "score": score,
                     "train_params": 7e9, "selector_params": 7e9})  # fmt: skip
    return panels(Results.from_rows(rows))[0]


def _runs(
    rng: np.random.Generator, methods: Sequence[tuple[str, float]], shares: Sequence[float], noise: float
) -> list[tuple[str, float, float]]:
    """(method, share of the pool, score); the run on everything is one under any name."""
    top = float(law(np.array(1.0), BASE, RATE, TOP)) + noise * rng.standard_normal()
    return [
        (m, f, top if f == 1 else float(law(np.array(f), BASE, rate, TOP)) + noise * rng.standard_normal())
        for m, rate in methods
        for f in shares
    ]
