"""How alike two places in (panel, method, data) are expected to be: the kernels of the hierarchical model.

Scores grow nearly in a straight line in the logarithm of the examples seen (docs/law.md, residuals), so data enters as
z = log10(examples), in absolute numbers: a curve is a slope and a smooth deviation from it. Levels, each with a variance of
its own: what all panels share, a task, a model, one panel. A method is a *representation* and a *rule*
(`paydirt.analysis.names`), and its effect is a sum over five likenesses (selects at all, same family, same representation,
same rule, same method), again at four levels. Every method meets at the whole pool, where nothing is selected.

The untuned model stands apart: tuning on a few hundred examples may help or harm by tens of points (38 to 48 % of cells at
500 examples lie below zero-shot, arXiv 2602.14696), so its score is the curve's value at `FEWEST` examples plus a jump with
levels of its own, and no law is pulled through it.
"""

from __future__ import annotations

import numpy as np

from paydirt.analysis.names import method_name
from paydirt.analysis.points import UNKNOWN_SIZE, Points, family
from paydirt.analysis.results import ZERO_SHOT, Floats

MIDDLE = 3.5  # log10 examples where the curves are centred: about 3,000
FEWEST = 300.0  # examples from which zero-shot is reached by a jump
REACH = 0.8  # decades of data over which a curve's deviation from its slope stays alike
METHOD_REACH = 1.2  # decades over which a method's advantage stays alike

CURVES = ("shared_curve", "task_curve", "model_curve", "panel_curve")
JUMPS = ("shared_jump", "task_jump", "model_jump", "panel_jump")
LIKENESS = ("selects", "family", "representation", "rule", "method")


def same(a: np.ndarray, b: np.ndarray) -> Floats:
    """[N, M] 1 where two labels are equal."""
    codes: dict[object, int] = {}  # numbers compare a hundred times faster than objects
    left, right = (np.array([codes.setdefault(v, len(codes)) for v in side], dtype=np.int64) for side in (a, b))
    return (left[:, None] == right[None, :]).astype(np.float64)


def depth(at: Points) -> Floats:
    """z: log10 of the examples seen, centred; zero-shot stands at `FEWEST`."""
    return np.log10(np.maximum(at.n, FEWEST)) - MIDDLE


def _near(a: Floats, b: Floats, reach: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((a[:, None] - b[None, :]) / reach) ** 2))


def curve_kernel(a: Points, b: Points) -> Floats:
    """A slope in z and a deviation half as large."""
    za, zb = depth(a), depth(b)
    return np.outer(za, zb) + 0.25 * _near(za, zb, REACH)


def method_shape(a: Points, b: Points) -> Floats:
    """How a method's advantage carries over from one amount of data to another; 0 without data and at the whole pool."""
    fade_a, fade_b = (np.where(p.x > 0, np.clip(1 - p.x, 0.0, 1.0) ** 1.5, 0.0) for p in (a, b))
    return np.outer(fade_a, fade_b) * _near(depth(a), depth(b), METHOD_REACH)


def _parts_of(method: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = [method_name(str(m)) for m in method]
    return tuple(np.array(v, dtype=object) for v in  # type: ignore[return-value]
                 ([family(str(m)) for m in method], [n.representation for n in names], [n.rule for n in names]))  # fmt: skip


def likenesses(a: Points, b: Points) -> list[Floats]:
    """The five ways in which two methods are alike, in the order of `LIKENESS`; a baseline selects nothing."""
    (fa, ra, qa), (fb, rb, qb) = _parts_of(a.method), _parts_of(b.method)
    chosen = np.outer((fa != "baseline").astype(np.float64), (fb != "baseline").astype(np.float64))
    ruled = same(qa, qb) * np.outer(qa != "", qb != "")
    return [chosen, same(fa, fb) * chosen, same(ra, rb), ruled * chosen, same(a.method, b.method)]


def selector_kernel(a: Floats, b: Floats) -> Floats:
    """Most of a method's effect holds at any selector size, the rest decorrelates over a decade of parameters.

    An assumption, not a fit: both published studies select with one size only. It makes another size a little less good in
    expectation, and less certain, until a pilot shows otherwise.
    """
    a, b = (np.where(np.isfinite(side), side, UNKNOWN_SIZE) for side in (a, b))
    return np.asarray(0.8 + 0.2 * np.exp(-0.5 * (a[:, None] - b[None, :]) ** 2))


def groups(a: Points, b: Points) -> dict[str, Floats]:
    return {"task": same(a.task, b.task), "model": same(a.model, b.model), "panel": same(a.panel, b.panel)}


def untuned(at: Points) -> np.ndarray:
    return (at.method == ZERO_SHOT).astype(np.float64)


def level_kernel(a: Points, b: Points) -> Floats:
    """Prior covariance of a panel's level, in points: constant, task, model, slope per decade of parameters, study.

    Wide on purpose (sd 20 overall, 15 by task, 8 by model, 15 a decade of parameters): without a pilot little is known of
    absolute scores; the panel's own part is learned.
    """
    size = np.outer(a.size - 10.0, b.size - 10.0)
    return 400.0 + 225.0 * same(a.task, b.task) + 64.0 * same(a.model, b.model) + 225.0 * size
