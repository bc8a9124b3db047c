"""A hierarchical Bayesian model of scores over panels, methods and data, built on the law and solved exactly.

Given lambda the law is linear in its amplitude, so a curve is written as a sum of laws at a few rates,

    y(x) = F - sigma * sum_k a_k (exp(-l_k x) - exp(-l_k)) / (1 - exp(-l_k)),      x = share of the pool trained on,

with F the score after training on everything (each term is 0 at x = 1, where every method has the same data, and 1 at
x = 0) and sigma the panel's scale in points. The amplitudes a_k have Gaussian priors in levels: all panels, this panel,
method (and its family), method on this task, method at this model size, method in this panel. Everything then is one
Gaussian process with a sum of kernels: conditioning on published results and on a user's pilot is exact, and draws are
joint over strategies, which is what probabilities of being best need. The variances of the levels are set by maximum a
posteriori marginal likelihood (Rasmussen & Williams 2006, chapter 5.4).

A new panel's sigma is unknown until it is observed: it is integrated over a log-Student-t fitted to the known panels
(the predictive of a log-normal of unknown mean and spread), each
value weighted by the likelihood of the panel's own points, which gives the predictions their heavier tails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.stats import t as student

from paydirt.analysis.points import UNKNOWN_SIZE, Points, family, join
from paydirt.analysis.results import Floats

RATES = np.array([2.0, 12.0, 80.0, 600.0])
UNTUNED_AS = 0.01  # share of the pool from which zero-shot is reached by a jump instead of by the law


def _curve_features(x: Floats) -> Floats:
    """[N, K] minus the normalised law at each rate: near -1 for little data, 0 on everything.

    The untuned model is not the law's limit: tuning on a little data may help or harm (a third to a half of small runs
    fall below zero-shot, arXiv 2602.14696). It takes the law's value at 1 % of the pool, and `components` adds a jump.
    """
    x = np.where(x > 0, x, UNTUNED_AS)
    far = np.exp(-RATES)
    return -(np.exp(-np.outer(x, RATES)) - far) / (1 - far)


def _method_features(x: Floats) -> Floats:
    """The same, fading to 0 where nothing has been trained on: no data, no difference between methods."""
    return _curve_features(x) * (1 - np.exp(-x / 0.004))[:, None]


def _same(a: np.ndarray, b: np.ndarray) -> Floats:
    codes: dict[object, int] = {}  # numbers compare a hundred times faster than objects
    left, right = (np.array([codes.setdefault(v, len(codes)) for v in side], dtype=np.int64) for side in (a, b))
    return (left[:, None] == right[None, :]).astype(np.float64)


def _method_kernel(a: np.ndarray, b: np.ndarray) -> Floats:
    """How alike two methods are expected to act: 1 the same, 0.6 one family, 0.3 both select, 0 else."""
    fa, fb = (np.array([family(m) for m in side], dtype=object) for side in (a, b))
    selects_a, selects_b = ((side != "baseline").astype(np.float64) for side in (fa, fb))
    return 0.3 * np.outer(selects_a, selects_b) + 0.3 * _same(fa, fb) + 0.4 * _same(a, b)


def _selector_kernel(a: Floats, b: Floats) -> Floats:
    """Most of a method's effect holds at any selector size, the rest decorrelates over a decade of parameters.

    An assumption, not a fit: published selection always used a 7B model. It makes another size a little less good in
    expectation, and less certain, until a pilot shows otherwise.
    """
    a, b = (np.where(np.isfinite(side), side, UNKNOWN_SIZE) for side in (a, b))
    return np.asarray(0.7 + 0.3 * np.exp(-0.5 * (a[:, None] - b[None, :]) ** 2))


@dataclass(frozen=True, slots=True)
class Levels:
    """Standard deviations of the levels, in units of a panel's scale; `noise` of one cell."""

    curve: float = 0.3  # panel's own curve
    size_curve: float = 0.2  # per decade of parameters
    method: float = 0.3
    task_method: float = 0.2
    size_method: float = 0.2  # per decade of parameters
    panel_method: float = 0.2
    panel_level: float = 1.0  # of the full score, in points: how far panels of one task and size differ
    noise: float = 0.15

    def vector(self) -> Floats:
        return np.log([getattr(self, name) for name in self.__slots__])

    @classmethod
    def of(cls, vector: Floats) -> Levels:
        return cls(*np.exp(vector))


def components(a: Points, b: Points) -> list[Floats]:
    """The unit-scale kernels of the levels, in the order of `Levels`, after the fixed one shared by all panels."""
    curve = _curve_features(a.x) @ _curve_features(b.x).T
    untuned = np.outer(a.x <= 0, b.x <= 0).astype(np.float64)
    method = _method_features(a.x) @ _method_features(b.x).T
    methods = method * _method_kernel(a.method, b.method) * _selector_kernel(a.selector, b.selector)
    panel = _same(a.panel, b.panel)
    size = np.outer(a.size - 10.0, b.size - 10.0)
    return [
        curve + untuned * (0.1 + 0.9 * panel),
        panel * curve,
        size * curve,
        methods,
        _same(a.task, b.task) * methods,
        size * methods,
        panel * methods,
    ]


def level_kernel(a: Points, b: Points) -> Floats:
    """Prior covariance of F, in points: constant, task, slope per decade of parameters, task's slope, the panel itself.

    Wide on purpose (sd 20 overall, 15 by task, 25 a decade of parameters and 3 more by task; the panel's own part is
    learned, `Levels.panel_level`): without a pilot the model knows little of absolute scores.
    """
    size = np.outer(a.size - 10.0, b.size - 10.0)
    task = _same(a.task, b.task)
    return 400.0 + 225.0 * task + 625.0 * size + 9.0 * task * size


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Known points with each one's panel scale, and the levels fitted to them."""

    known: Points
    scale: dict[str, float]
    levels: Levels
    log_scale_mean: float
    log_scale_sd: float
    inflation: Floats  # [N] how much more noise than usual each known point is given (1: none)

    def scales(self, at: Points, new: float) -> Floats:
        return np.array([self.scale.get(p, new) for p in at.panel])

    def covariance(self, a: Points, b: Points, new: float) -> Floats:
        """Prior covariance between two sets of points, in points squared."""
        v = np.exp(2 * self.levels.vector())
        parts = components(a, b)
        unit = parts[0] + sum(w * k for w, k in zip(v[:-2], parts[1:]))
        level = level_kernel(a, b) + v[-2] * _same(a.panel, b.panel)
        return np.outer(self.scales(a, new), self.scales(b, new)) * unit + level

    def noise(self, at: Points, new: float) -> Floats:
        """Variance of each observed mean: half a cell's own, half the seeds' (measured where seeds are repeated)."""
        own = (self.levels.noise * self.scales(at, new)) ** 2
        seeds = np.where(np.isfinite(at.seed_sd), at.seed_sd**2, own / 2)
        return own / 2 + seeds / np.maximum(at.seeds, 1)


def scale_of(known: Points, panel: str) -> float:
    """A panel's scale: median distance of its runs on at most a quarter of the pool from the full score, in points.

    The median, because single failed runs are common (BBH 13B, Embed at 2.5 %: 6 points under its neighbours).

    Where nothing was trained on everything the best score stands in for it, and "a quarter" is of the largest run. NaN
    with fewer than 3 such runs.
    """
    rows = known.where((known.panel == panel) & (known.x > 0))
    if not len(rows):
        return float("nan")
    whole = rows.y[rows.x >= 0.999]
    top = whole.mean() if len(whole) else rows.y.max()
    low = rows.y[rows.x <= 0.26 * min(rows.x.max(), 1.0)]
    return float(max(np.median(np.abs(low - top)), 0.05)) if len(low) >= 3 else float("nan")


def nearest(known: Points, like: Points, most: int = 500) -> Points:
    """The panels of `known` most like the one asked about, up to `most` points: its task first, then its model size.

    Conditioning is exact and so cubic in the points; what far panels add is in the levels' variances already.
    """
    if len(known) <= most or not len(like):
        return known
    names, first = np.unique(known.panel.astype(str), return_index=True)
    other_task = known.task[first] != like.task[0]
    order = np.lexsort((np.abs(known.size[first] - like.size[0]), other_task))
    counts = np.array([(known.panel == n).sum() for n in names[order]])
    kept = names[order][np.cumsum(counts) <= most]
    return known.where(np.isin(known.panel.astype(str), kept))


def learn(known: Points, *, cells: int = 300, seed: int = 0) -> Model:
    """Fit the levels to known points (a random set of panels holding about `cells` of them when there are more)."""
    scale = {p: s for p in dict.fromkeys(known.panel) if np.isfinite(s := scale_of(known, p))}
    logs = np.log(list(scale.values())) if scale else np.array([0.5])
    # A log-normal with a floor under its spread; sqrt(1 + 1/n) for the mean being estimated too.
    spread = max(float(logs.std(ddof=1)) if len(logs) > 1 else 0.9, 0.4) * np.sqrt(1 + 1 / len(logs))
    model = Model(known, scale, Levels(), float(logs.mean()), float(spread), np.ones(len(known)))
    if not scale:
        return model
    order = list(scale)
    if len(known) > cells:
        np.random.default_rng(seed).shuffle(order)
    kept: list[str] = []
    for panel in order:
        if sum((known.panel == p).sum() for p in [*kept, panel]) > cells and kept:
            break
        kept.append(panel)
    some = np.isin(known.panel, kept)
    for _ in range(2):
        part = replace(model, known=known.where(some), inflation=model.inflation[some])
        model = replace(model, levels=_fit_levels(part))
        model = replace(model, inflation=_inflation(model))
    return model


def _inflation(model: Model) -> Floats:
    """[N] factors on the noise of known points that make Student-t noise of 4 degrees of freedom out of Gaussian.

    Each point is judged by its leave-one-out residual, two rounds of the usual reweighting (Lange et al. 1989).
    """
    data, inflation = model.known, model.inflation
    k = model.covariance(data, data, 1.0)
    noise = model.noise(data, 1.0)
    for _ in range(2):
        factor = cho_factor(k + np.diag(noise * inflation + 1e-8), lower=True, check_finite=False)
        inverse = cho_solve(factor, np.eye(len(data)), check_finite=False)
        precision = np.diag(inverse)
        residual = (inverse @ (data.y - 50.0)) / precision
        # Leave-one-out variance is signal + noise; only the noise part is inflated.
        variance = np.maximum(1 / precision - noise * inflation, 0.0) + noise
        inflation = np.maximum((4 + residual**2 / variance) / 5, 1.0)
    return inflation


def _fit_levels(model: Model) -> Levels:
    """Maximum a posteriori levels by L-BFGS on the marginal likelihood, gradient in closed form (R&W 2006, eq. 5.9)."""
    data = model.known
    s = model.scales(data, 1.0)
    parts = [*(np.outer(s, s) * part for part in components(data, data)), _same(data.panel, data.panel)]
    fixed = level_kernel(data, data) + parts[0]
    start = model.levels.vector()
    y = data.y - 50.0
    # The part of each point's noise that scales with the level `noise`: see `Model.noise`.
    seeds = np.maximum(data.seeds, 1)
    scaled = s**2 * (0.5 + np.where(np.isfinite(data.seed_sd), 0.0, 0.5 / seeds)) * model.inflation
    given = np.where(np.isfinite(data.seed_sd), data.seed_sd**2 / seeds, 0.0) * model.inflation

    def loss(vector: Floats) -> tuple[float, Floats]:
        variances = np.exp(2 * vector)
        k = fixed + sum(w * part for w, part in zip(variances[:-1], parts[1:]))
        k[np.diag_indices_from(k)] += variances[-1] * scaled + given + 1e-8
        try:
            factor = cho_factor(k, lower=True, check_finite=False)
        except LinAlgError:
            return 1e6, np.zeros_like(vector)
        solved = cho_solve(factor, y, check_finite=False)
        outer = cho_solve(factor, np.eye(len(y)), check_finite=False) - np.outer(solved, solved)
        slopes = [w * np.vdot(outer, part) for w, part in zip(variances[:-1], parts[1:])]
        slopes.append(variances[-1] * np.diag(outer) @ scaled)
        # Log-normal prior, a factor of about 2 either way: seven panels must not set seven variances alone.
        away = (vector - start) / 0.8
        value = 0.5 * y @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        return float(value), np.array(slopes) + away / 0.8

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 30})
    return Levels.of(found.x)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Joint posterior of the scores at M asked points: a mixture of Gaussians over the new panel's scale."""

    weights: Floats  # [G]
    means: Floats  # [G, M]
    covariances: Floats  # [G, M, M]
    noise: Floats  # [G, M] variance of one observed run at each point

    def mean(self) -> Floats:
        return self.weights @ self.means

    def draw(self, n: int, rng: np.random.Generator, *, observed: bool = False) -> tuple[Floats, Floats]:
        """[n, M] joint draws of true cell means (of single observed runs if `observed`), and each draw's noise sd [n]."""
        counts = rng.multinomial(n, self.weights)
        parts, sizes = [], []
        for mean, cov, noise, count in zip(self.means, self.covariances, self.noise, counts):
            if count:
                total = cov + np.diag(noise) if observed else cov
                values, vectors = np.linalg.eigh((total + total.T) / 2)
                root = vectors * np.sqrt(np.maximum(values, 0.0))
                parts.append(mean + rng.standard_normal((count, len(mean))) @ root.T)
                sizes.append(np.full(count, np.sqrt(noise.mean())))
        return np.concatenate(parts), np.concatenate(sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """A model conditioned on one panel's own points, ready to be asked about that panel any number of times.

    Per value of the panel's scale: its posterior weight, the factor of the data's covariance, and the solved scores.
    """

    model: Model
    data: Points
    scales: Floats
    weights: Floats
    factors: tuple[tuple[Floats, bool], ...]
    solved: tuple[Floats, ...]

    def predict(self, asked: Points) -> Posterior:
        """Joint posterior at the asked points, a Gaussian for each scale."""
        means, covariances, noise = [], [], []
        for scale, factor, solved in zip(self.scales, self.factors, self.solved):
            cross = self.model.covariance(self.data, asked, scale)
            means.append(50.0 + cross.T @ solved)
            prior = self.model.covariance(asked, asked, scale)
            covariances.append(prior - cross.T @ cho_solve(factor, cross, check_finite=False))
            noise.append(self.model.noise(asked, scale))
        return Posterior(self.weights, np.array(means), np.array(covariances), np.array(noise))


def condition(model: Model, panel: str, own: Points | None = None, grid: int = 11) -> Conditioned:
    """Condition on the known points and a panel's `own`; integrate over its scale, `grid` values when it is unknown."""
    known = model.known
    own = own if own is not None and len(own) else None
    data = join(known, own) if own is not None else known
    if panel in model.scale:
        scales = np.array([model.scale[panel]])
    else:
        steps = (np.arange(grid) + 0.5) / grid
        freedom = max(len(model.scale) - 1, 2)
        scales = np.exp(model.log_scale_mean + model.log_scale_sd * student.ppf(steps, freedom))
    if np.isin(known.panel, list(model.scale)).all():
        # What is known has its own scales, so its block is factored once; only the panel's own rows differ by scale.
        first = _known_factor(model, 1.0)
        factors = [_extended(model, first, known, own, scale) for scale in scales]
    else:
        factors = [_extended(model, _known_factor(model, s), known, own, s) for s in scales]
    y = data.y - 50.0
    solved = [cho_solve((f, True), y, check_finite=False) for f in factors]
    log_like = np.array([-0.5 * y @ v - np.log(np.diag(f)).sum() for f, v in zip(factors, solved)])
    weights = np.exp(log_like - log_like.max())
    pairs = tuple((f, True) for f in factors)
    return Conditioned(model, data, scales, weights / weights.sum(), pairs, tuple(solved))


def _known_factor(model: Model, new: float) -> Floats:
    """Lower Cholesky factor of the known points' covariance."""
    k = model.covariance(model.known, model.known, new)
    k[np.diag_indices_from(k)] += model.noise(model.known, new) * model.inflation + 1e-8
    return np.asarray(cholesky(k, lower=True, check_finite=False))


def _extended(model: Model, factor: Floats, known: Points, own: Points | None, scale: float) -> Floats:
    """The factor with the own rows appended, by their Schur complement."""
    if own is None:
        return factor
    cross = solve_triangular(factor, model.covariance(known, own, scale), lower=True, check_finite=False)
    rest = model.covariance(own, own, scale) - cross.T @ cross
    rest[np.diag_indices_from(rest)] += model.noise(own, scale) + 1e-8
    low = cholesky(rest, lower=True, check_finite=False)
    return np.block([[factor, np.zeros_like(cross)], [cross.T, low]])


def predict(model: Model, asked: Points, own: Points | None = None) -> Posterior:
    """Posterior at points of one panel, given the known points and that panel's `own`."""
    return condition(model, asked.panel[0], own).predict(asked)
