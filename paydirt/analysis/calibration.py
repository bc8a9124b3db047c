"""What a model's own words are worth, measured where it had not been: a factor on its intervals, a scale for "sure".

Enters: outcomes of held-out panels: distances of scores from their predictions in predicted standard deviations, and
pairs of what was said ("good with 0.9") and what came. Leaves: `Calibration`, small enough for a JSON file.

Intervals are corrected by split conformal prediction with normalised residuals (Lei et al. 2018, section 5): the
half-width at a level is the predicted standard deviation times the quantile of |distance| that the level asks for, each
panel weighing the same, since scores of one panel share one error. Chances are corrected by isotonic regression; "sure"
is said from the smallest said chance on at which held-out choices were good as often as claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paydirt.analysis.results import Floats

SURE = 0.8
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FEWEST = 8  # decisions behind a claim, at least, from at least 3 panels


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One held-out panel under one kind of evidence."""

    case: str
    fold: str
    evidence: str
    away: Floats  # [M] (score - predicted) / predicted sd of one observed cell
    said: Floats  # [K] chance of a good choice, one for each budget
    good: Floats  # [K] 1 where it was
    zero: Floats  # [K] 1 where zero-shot was chosen


@dataclass(frozen=True, slots=True)
class Calibration:
    """`widths`: half-width in predicted standard deviations by level; `said` to `good`: the scale of chances."""

    widths: Mapping[float, float]
    said: tuple[float, ...]
    good: tuple[float, ...]
    sure_from: float  # said chance from which "sure" was borne out; above 1: never

    def half_width(self, level: float) -> float:
        """Standard deviations either side of the mean; linear between the levels measured, Gaussian tails beyond."""
        from scipy.special import ndtri

        if not self.widths:
            return float(ndtri((1 + level) / 2))
        at = sorted(self.widths)
        ratio = [self.widths[v] / float(ndtri((1 + v) / 2)) for v in at]
        return float(ndtri((1 + level) / 2)) * float(np.interp(level, at, ratio))

    def chance(self, said: float) -> float:
        """How often a choice of which `said` was predicted turned out good on held-out panels."""
        return float(np.interp(said, self.said, self.good)) if self.said else said

    def sure(self, said: float) -> bool:
        return said >= self.sure_from


PLAIN = Calibration({}, (), (), SURE)


def calibrate(outcomes: Sequence[Outcome]) -> Calibration:
    """Widths and chances that would have been right on these panels."""
    if not outcomes:
        return PLAIN
    away = np.concatenate([np.abs(o.away) for o in outcomes])
    weight = np.concatenate([np.full(len(o.away), 1 / max(len(o.away), 1)) for o in outcomes])
    order = np.argsort(away)
    share = np.cumsum(weight[order]) / weight.sum()
    # One panel more than were seen, at infinity, is the conformal correction; capped where that would be infinite.
    asked = [min(level * (1 + 1 / len(outcomes)), 0.995) for level in LEVELS]
    widths = {
        level: float(away[order[min(int(np.searchsorted(share, q)), len(away) - 1)]]) for level, q in zip(LEVELS, asked)
    }
    said = np.concatenate([o.said for o in outcomes])
    good = np.concatenate([o.good for o in outcomes])
    knots_x, knots_y = _isotonic(said, good)
    return Calibration(widths, knots_x, knots_y, _sure_from(outcomes))


def _isotonic(x: Floats, y: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of the monotone least-squares map from x to y (pool adjacent violators, by scikit-learn)."""
    from sklearn.isotonic import isotonic_regression

    # A weak pull to even odds, so that a run of luck at the end does not say 100 %.
    order = np.argsort(x, kind="stable")
    xs, ys = x[order], isotonic_regression(y[order], y_min=0.02, y_max=0.98)
    edges = np.flatnonzero(np.concatenate(([True], np.diff(ys) > 1e-12)))
    middle = [float(xs[a:b].mean()) for a, b in zip(edges, np.append(edges[1:], len(xs)))]
    value = [float(ys[a]) for a in edges]
    return tuple(round(v, 4) for v in middle), tuple(round(v, 4) for v in value)


def _sure_from(outcomes: Sequence[Outcome]) -> float:
    """The smallest said chance c such that of the choices said to be good with c or more, `SURE` were, luck set aside.

    Luck: the share that were good is bootstrapped over panels, and its lower quintile must reach `SURE`, here and at every
    higher threshold that still has `FEWEST` decisions from 3 panels.
    """
    rng = np.random.default_rng(0)
    said = np.concatenate([o.said for o in outcomes])
    good = np.concatenate([o.good for o in outcomes])
    panel = np.concatenate([np.full(len(o.said), i) for i, o in enumerate(outcomes)])
    best = 1.01
    for c in np.unique(np.round(said, 3))[::-1]:
        rows = said >= c - 5e-4
        if rows.sum() < FEWEST or len(np.unique(panel[rows])) < 3:
            continue
        each = [(good[rows & (panel == i)].sum(), (rows & (panel == i)).sum()) for i in np.unique(panel[rows])]
        hits, counts = np.array(each, dtype=np.float64).T
        drawn = rng.integers(0, len(each), (1000, len(each)))
        if np.quantile(hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1), 0.2) < SURE:
            break
        best = float(c)
    return max(best, SURE) if best <= 1 else best
