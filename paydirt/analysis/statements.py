"""The paper's statements, checked one by one against its own published points, each with how often it survives noise.

Every statement is a test on the non-dominated runs (or on the scores) of a panel. It is evaluated on the points as
published and on redrawn ones (see `front.cells` for the noise), and is said to *hold* when it is true as published and
in at least 80 % of the redraws, to be *fragile* when published and redrawn disagree too often, and else to *fail*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paydirt.analysis.breakeven import DEFINITIONS, crossing
from paydirt.analysis.front import Cells, Fronts, cells
from paydirt.analysis.published import published, published_overlap
from paydirt.analysis.results import Floats, Panel, panels

CHEAP, COSTLY = ("BM25", "Embed"), ("PPL", "LESS")
MEDIUM = 0.3  # small and medium budgets: up to 30 % of the cost of training on everything
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """`survives` is the share of redraws in which it is true; `detail` gives what was measured."""

    text: str
    where: str
    true_as_published: bool
    survives: float
    detail: str = ""

    @property
    def verdict(self) -> str:
        if self.true_as_published and self.survives >= 0.8:
            return "holds"
        if not self.true_as_published and self.survives <= 0.2:
            return "fails"
        return "fragile"


def statements(draws: int = DRAWS, seed: int = 0) -> list[Statement]:
    """All statements, in the order of the paper's figures 2, 4, 5, 6 and its abstract."""
    by_name = {p.name: p for p in panels(published())}
    found: list[Statement] = []
    for size in ("7B", "13B"):
        for task in ("MMLU", "BBH"):
            found += _small_and_medium(by_name[f"{task} {size}"], draws, seed)
    for task in ("MMLU", "BBH"):
        found += _large(by_name[f"{task} 70B"], draws, seed)
    found += _break_even(by_name["MMLU 7B"], draws, seed)
    found += _ratios([by_name[f"{t} {s}"] for s in ("7B", "13B", "70B") for t in ("MMLU", "BBH")], draws, seed)
    found += _equal_data(by_name["MMLU 7B"], by_name["IFEval 7B"], draws, seed)
    found.append(_overlap())
    return found


def _redraw(panel: Panel, draws: int, seed: int) -> tuple[Cells, Floats]:
    c = cells(panel)
    return c, np.concatenate([c.score[None], c.draws(draws, np.random.default_rng(seed))])


def _statement(text: str, where: str, truth: np.ndarray, detail: str = "") -> Statement:
    """`truth` [1 + draws]: as published first, then the redraws."""
    return Statement(text, where, bool(truth[0]), float(truth[1:].mean()), detail)


def on_front(c: Cells, score: Floats, which: Callable[[Cells], np.ndarray]) -> np.ndarray:
    """[B] whether any of the chosen cells (short of the whole pool) is a non-dominated run."""
    fronts = Fronts.of(c.total, score)
    wanted = which(c) & (c.fraction < 0.999)
    return np.asarray((fronts.vertex & wanted[fronts.winner]).any(axis=1))


def _small_and_medium(panel: Panel, draws: int, seed: int) -> list[Statement]:
    c, score = _redraw(panel, draws, seed)
    full = float((c.training / c.fraction).max())
    low = c.total <= MEDIUM * full
    rivals = c.total <= 0.5 * full  # PPL costs a third of a pass at 7B before it trains at all
    cheap = on_front(c, score, lambda c: low & np.isin(c.method, CHEAP))
    costly = on_front(c, score, lambda c: rivals & np.isin(c.method, COSTLY))
    less = on_front(c, score, lambda c: c.method == "LESS")
    best = _best_at(c, score[0], (0.05 * full, 0.25 * full, 0.5 * full))
    return [
        _statement("small and medium budgets: BM25 or Embed is on the front", panel.name, cheap, best),
        _statement("up to half of a full pass: neither PPL nor LESS is on the front", panel.name, ~costly, best),
        _statement("LESS for one task is never on the front", panel.name, ~less),
    ]


def _best_at(c: Cells, score: Floats, budgets: tuple[float, ...]) -> str:
    names = []
    for label, budget in zip(("small", "medium", "large"), budgets):
        rows = np.flatnonzero(c.total <= budget * 1.001)
        best = rows[score[rows].argmax()]
        names.append(f"{label} {c.method[best]} {100 * c.fraction[best]:g} %")
    return "best: " + ", ".join(names)


def _large(panel: Panel, draws: int, seed: int) -> list[Statement]:
    c, score = _redraw(panel, draws, seed)
    full = float((c.training / c.fraction).max())
    best = _best_at(c, score[0], (0.05 * full, 0.25 * full, 0.5 * full))
    cheap = on_front(c, score, lambda c: (c.total <= 0.051 * full) & np.isin(c.method, CHEAP))
    found = [_statement("at the smallest budgets BM25 or Embed is still on the front", panel.name, cheap, best)]
    for method in COSTLY:
        after = on_front(c, score, lambda c, m=method: (c.method == m) & (c.fraction > 0.049))  # type: ignore[misc]
        found.append(
            _statement(f"{method} is on the front once 5 % or more of the pool is used", panel.name, after, best)
        )
    beyond = ~on_front(c, score, lambda c: (c.total > 0.1 * full) & np.isin(c.method, (*CHEAP, "Random")))
    found.append(_statement("above a tenth of a full pass only PPL and LESS are on the front", panel.name, beyond))
    return found


def _break_even(panel: Panel, draws: int, seed: int) -> list[Statement]:
    found = []
    for definition in DEFINITIONS:
        x = crossing(panel, "LESS", definition, draws=draws, seed=seed)
        low, high = x.tasks_interval
        detail = f"break-even at {x.tasks:.1f} tasks, 90 % interval {low:.1f} to {high:.1f}"
        tasks = x.tasks_draws
        for n, reaches in ((1, False), (5, False), (10, True), (20, True)):
            truth = (tasks <= n) == reaches
            does = "has reached" if reaches else "has not yet reached"
            found.append(
                _statement(f"LESS shared by {n} tasks {does} the front ({definition})", panel.name, truth, detail)
            )
    return found


def _ratios(six: list[Panel], draws: int, seed: int) -> list[Statement]:
    """Abstract: compute-optimal at train-to-selector ratios of about 5 (PPL) and 10 (LESS); within a factor of two."""
    found = []
    for method, claimed in (("PPL", 5.0), ("LESS", 10.0)):
        for definition in DEFINITIONS:
            for panel in six:
                x = crossing(panel, method, definition, draws=draws, seed=seed)
                low, high = x.size_ratio_interval
                ratios = x.tasks_draws * panel.train_params / 7e9
                near = (ratios >= claimed / 2) & (ratios <= claimed * 2)
                detail = f"ratio {x.size_ratio:.1f}, 90 % interval {low:.1f} to {high:.1f}"
                text = f"{method} reaches the front at {claimed / 2:g}x to {claimed * 2:g}x ({definition})"
                found.append(_statement(text, panel.name, near, detail))
    return found


def _equal_data(mmlu: Panel, ifeval: Panel, draws: int, seed: int) -> list[Statement]:
    found = []
    for panel in (mmlu, ifeval):
        c, score = _redraw(panel, draws, seed)
        shares = [f for f in np.unique(c.fraction) if f < 0.999]

        def row(method: str, share: float, c: Cells = c) -> int:
            return int(np.flatnonzero((c.method == method) & (c.fraction == share))[0])

        above = np.all([score[:, row("LESS", f)] > score[:, row("Random", f)] for f in shares], axis=0)
        found.append(_statement("at equal data LESS beats Random at every fraction", panel.name, above))
        best = np.all([score[:, row("LESS", f)] >= np.max([score[:, row(m, f)] for m in ("Random", *CHEAP, "PPL")], axis=0)
                       for f in shares if f <= 0.1], axis=0)  # fmt: skip
        found.append(_statement("at equal data, up to 10 %, LESS is the best of all", panel.name, best))
        less = on_front(c, score, lambda c: c.method == "LESS")
        found.append(_statement("at equal compute LESS for one task is not on the front", panel.name, ~less))
    return found


def _overlap() -> Statement:
    table = published_overlap().to_pylist()
    worst = max(r["overlap_percent"] for r in table if r["percent_selected"] < 3)
    return Statement(
        "the methods select different data: under 10 % shared at 2.5 %", "MMLU 7B", worst < 10, 1.0,
        f"largest overlap at 2.5 %: {worst:.1f} %; by chance 2.5 %",
    )  # fmt: skip
