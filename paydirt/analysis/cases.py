"""Panels as cases to be decided: what could be run there, what it costs, what it scored, and what may be known before.

Enters: the two published studies. Leaves: `Case`s, and for each case the known points that a back-test may learn from when
its panel, its model, its task or its whole study is held out. Models that one study labels by size alone are recognised
(`points.SAME_MODEL`), so that a held-out model is held out of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from paydirt.analysis.completion import pool_sizes
from paydirt.analysis.points import Points, join, points
from paydirt.analysis.published import published, targeted
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Floats, Panel, Results, panels

HOLDS = ("panel", "model", "task", "study")
STUDIES = ("ccds", "targeted")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One panel: N options (zero-shot first, where it was measured), their places, FLOPs and scores in percent."""

    name: str
    study: str
    at: Points  # [N], y NaN
    label: np.ndarray  # [N] the study's own method names
    cost: Floats  # [N] FLOPs
    selection: Floats  # [N] FLOPs of selecting, paid once a method
    score: Floats  # [N]
    truth: Points  # the panel's points, scores included

    def __len__(self) -> int:
        return len(self.cost)

    @property
    def trained(self) -> np.ndarray:
        return self.at.x > 0

    @property
    def spread(self) -> float:
        """The panel's range of scores, in points."""
        return float(np.ptp(self.score))

    def known(self, rows: np.ndarray) -> Points:
        """The options `rows` as observed points."""
        some = self.at.where(rows)
        return Points(*(self.score[rows] if n == "y" else getattr(some, n) for n in Points.__slots__))

    def budgets(self, regime: str, count: int = 6) -> list[np.ndarray]:
        """[N] masks of what each budget affords: `data` one for each size of the study, `compute` even in log FLOPs.

        Zero-shot is always among them.
        """
        if regime == "data":
            sizes = np.unique(np.round(self.at.x[self.trained], 6))
            return [self.at.x <= s + 1e-6 for s in sizes]
        spent = self.cost[self.trained]
        return [self.cost <= k for k in np.geomspace(spent.min() * 1.001, spent.max() * 1.001, count)]


def case(panel: Panel, study: str, pools: dict[tuple[str, str], float], unit: float = 1.0) -> Case:
    """A panel as a case; runs of an oracle are none of its options."""
    rows: list[tuple[str, float, float, float, float]] = []
    parts = []
    if len(panel.zero_shot):
        rows.append((ZERO_SHOT, 0.0, 0.0, float(panel.zero_shot.mean()), 1.0))
        parts.append(
            points([Panel(panel.task, panel.model, panel.train_params, {}, panel.zero_shot)], unit, pools, study)
        )
    for label, c in panel.curves.items():
        if c.method.lower() in CEILINGS:
            continue
        # One curve at a time keeps rows in order, also of the methods that meet at the whole pool.
        alone = points([Panel(panel.task, panel.model, panel.train_params, {label: c})], unit, pools, study)
        parts.append(alone.where(np.argsort(alone.n, kind="stable")))
        rows += [(label, t, s, m, float(k)) for t, s, m, k in zip(c.total_flops, c.selection_flops, c.mean, c.seeds)]
    at = parts[0]
    for part in parts[1:]:
        at = join(at, part)
    numbers = np.array([r[1:] for r in rows], dtype=np.float64)
    empty = Points(*(np.full(len(at), np.nan) if n == "y" else getattr(at, n) for n in Points.__slots__))
    labels = np.array([r[0] for r in rows], dtype=object)
    return Case(panel.name, study, empty, labels, np.nan_to_num(numbers[:, 0], nan=np.inf),
                np.nan_to_num(numbers[:, 1]), numbers[:, 2] * unit, points([panel], unit, pools, study))  # fmt: skip


@cache
def cases(study: str) -> tuple[Case, ...]:
    """The panels of one of the two published studies."""
    results: Results = published() if study == "ccds" else targeted()
    pools = {k: v[0] for k, v in pool_sizes(results).items()}
    return tuple(case(p, study, pools) for p in panels(results))


@cache
def prior_points() -> Points:
    """All points of both studies."""
    every = [c.truth for study in STUDIES for c in cases(study)]
    found = every[0]
    for one in every[1:]:
        found = join(found, one)
    return found


def without(known: Points, held: Case, hold: str) -> tuple[Points, str]:
    """(what may be learned from when `held` is out of the way, a key that equal answers share)."""
    task, model, study = str(held.at.task[0]), str(held.at.model[0]), held.study
    if hold == "panel":
        keep, key = ~((known.task == task) & (known.model == model)), f"{task}|{model}"
    elif hold == "model":
        keep, key = known.model != model, model
    elif hold == "task":
        keep, key = known.task != task, task
    elif hold == "study":
        keep, key = known.study != study, study
    else:
        raise ValueError(f"unknown hold-out {hold!r}; choose one of {', '.join(HOLDS)}")
    return known.where(np.asarray(keep, dtype=bool)), key
