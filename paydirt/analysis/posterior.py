"""A hierarchical Bayesian model of scores over panels, methods and data, solved exactly.

    y = level(panel) + sigma_panel * (curve(z) + jump where untuned + effect(method, z)) + noise,   z = log10 examples

Curve, jump and effect are Gaussian with the kernels of `paydirt.analysis.kernels`, each at several levels (shared,
task, model, panel; method, representation, rule, family). Everything then is one Gaussian process with a sum of
kernels: conditioning on published results and on a user's pilot is exact, and draws are joint over strategies, which is
what probabilities of being best need. The variances of the levels are set by maximum a posteriori marginal likelihood
(Rasmussen & Williams 2006, chapter 5.4) offline, by `paydirt.analysis.prior`, and shipped as `prior.json`. Noise is
each study's own, Student-t.

A new panel's sigma is unknown until it is observed: it is integrated over a log-Student-t fitted to the known panels
(the predictive of a log-normal of unknown mean and spread), each value weighted by the likelihood of the panel's own
points, which gives the predictions their heavier tails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.stats import t as student

from paydirt.analysis.kernels import (
    CURVES,
    JUMPS,
    LIKENESS,
    curve_kernel,
    groups,
    level_kernel,
    likenesses,
    method_shape,
    selector_kernel,
    untuned,
)  # fmt: skip
from paydirt.analysis.points import Points, join
from paydirt.analysis.results import Floats

# Prior medians of the levels' standard deviations, in units of a panel's scale (`panel_level`: in points).
DEFAULTS: dict[str, float] = {
    "shared_curve": 0.5, "task_curve": 0.3, "model_curve": 0.3, "panel_curve": 0.3,
    "shared_jump": 0.5, "task_jump": 0.5, "model_jump": 0.5, "panel_jump": 1.0,
    "selects": 0.3, "family": 0.3, "representation": 0.3, "rule": 0.15, "method": 0.2,
    "on_task": 0.7, "on_model": 0.5, "in_panel": 0.7, "by_size": 0.3,
    "panel_level": 3.0, "noise": 0.15,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Levels:
    """Standard deviations of the levels by name (`DEFAULTS`); `noise` of one cell, by study where that was learned.

    `on_task`, `on_model`, `in_panel`, `by_size` multiply the methods' levels: how much of an effect is a task's own, ...
    """

    sd: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULTS))
    study_noise: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        return self.sd[name]

    def noise_of(self, study: np.ndarray) -> Floats:
        """[N] noise of each point in units of its panel's scale; a study of unknown noise gets the largest known."""
        unknown = max(self.study_noise.values(), default=self.sd["noise"])
        return np.array([self.study_noise.get(str(s), unknown) for s in study], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Known points with each one's panel scale, and the levels fitted to them."""

    known: Points
    scale: dict[str, float]
    levels: Levels
    log_scale_mean: float
    log_scale_sd: float
    inflation: Floats  # [N] how much more noise than usual each known point is given (1: none)
    method_scale: dict[str, float] = field(default_factory=dict)
    method_share: float = 0.4  # a new panel's method scale over its scale

    def scales(self, at: Points, new: float) -> Floats:
        return np.array([self.scale.get(p, new) for p in at.panel])

    def method_scales(self, at: Points, new: float) -> Floats:
        return np.array([self.method_scale.get(p, new * self.method_share) for p in at.panel])

    def covariance(self, a: Points, b: Points, new: float) -> Floats:
        """Prior covariance between two sets of points, in points squared."""
        return self.assemble(self.parts(a, b), a, b, new)

    def assemble(self, parts: tuple[Floats, Floats, Floats], a: Points, b: Points, new: float) -> Floats:
        curve, effect, level = parts
        scaled = np.outer(self.scales(a, new), self.scales(b, new)) * curve
        return scaled + np.outer(self.method_scales(a, new), self.method_scales(b, new)) * effect + level

    def parts(self, a: Points, b: Points) -> tuple[Floats, Floats, Floats]:
        """Curve in units of the scale squared, effect of that of methods, level in points squared: free of scales."""
        v = {name: sd**2 for name, sd in self.levels.sd.items()}
        group = groups(a, b)
        size = np.outer(a.size - 10.0, b.size - 10.0)
        curve = curve_kernel(a, b)
        unit = curve * _levels(v, CURVES, group)
        jump = np.outer(untuned(a), untuned(b))
        if jump.any():
            unit = unit + jump * _levels(v, JUMPS, group)
        alike = sum(v[name] * k for name, k in zip(LIKENESS, likenesses(a, b)))
        spread = 1.0 + v["on_task"] * group["task"] + v["on_model"] * group["model"] + v["in_panel"] * group["panel"]
        effect = method_shape(a, b) * selector_kernel(a.selector, b.selector) * alike
        return unit, effect * (spread + v["by_size"] * size), level_kernel(a, b) + v["panel_level"] * group["panel"]

    def noise(self, at: Points, new: float) -> Floats:
        """Variance of each observed mean: half a cell's own, half the seeds' (measured where seeds are repeated)."""
        own = (self.levels.noise_of(at.study) * self.scales(at, new)) ** 2
        seeds = np.where(np.isfinite(at.seed_sd), at.seed_sd**2, own / 2)
        return own / 2 + seeds / np.maximum(at.seeds, 1)


def _levels(v: Mapping[str, float], names: tuple[str, ...], group: Mapping[str, Floats]) -> Floats:
    shared, task, model, panel = (v[n] for n in names)
    return shared + task * group["task"] + model * group["model"] + panel * group["panel"]


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


def method_scale_of(known: Points, panel: str) -> float:
    """How far a panel's methods lie apart at equal data: 1.48 x median distance from their median, in points."""
    rows = known.where((known.panel == panel) & (known.x > 0) & (known.x < 0.999))
    away = [np.abs(y - np.median(y)) for x in np.unique(rows.x) if len(y := rows.y[rows.x == x]) >= 3]
    return float(max(1.48 * np.median(np.concatenate(away)), 0.05)) if away else float("nan")


def nearest(known: Points, like: Points, most: int = 900) -> Points:
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


def learn(known: Points, levels: Levels | None = None, *, cells: int = 400, seed: int = 0) -> Model:
    """A model of known points; `levels` as given, else fitted to a random set of panels holding about `cells` of them."""
    scale = {p: s for p in dict.fromkeys(known.panel) if np.isfinite(s := scale_of(known, p))}
    logs = np.log(list(scale.values())) if scale else np.array([0.5])
    # A log-normal with a floor under its spread; sqrt(1 + 1/n) for the mean being estimated too.
    spread = max(float(logs.std(ddof=1)) if len(logs) > 1 else 0.9, 0.4) * np.sqrt(1 + 1 / len(logs))
    effects = {p: s for p in scale if np.isfinite(s := method_scale_of(known, p))}
    ratio = [np.log(effects[p] / scale[p]) for p in effects]
    share = float(np.exp(np.median(ratio))) if ratio else 0.4
    model = Model(
        known, scale, levels or Levels(), float(logs.mean()), float(spread), np.ones(len(known)), effects, share
    )
    if not scale:
        return model
    if levels is not None:
        return replace(model, inflation=_inflation(model))
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
        model = replace(model, levels=fit_levels(part))
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


def fit_levels(model: Model, iterations: int = 40) -> Levels:
    """Maximum a posteriori levels by L-BFGS on the marginal likelihood, gradient in closed form (R&W 2006, eq. 5.9)."""
    data = model.known
    s = model.scales(data, 1.0)
    ss = np.outer(s, s)
    group = groups(data, data)
    size = np.outer(data.size - 10.0, data.size - 10.0)
    curve, jump = ss * curve_kernel(data, data), ss * np.outer(untuned(data), untuned(data))
    sm = model.method_scales(data, 1.0)
    shape = np.outer(sm, sm) * method_shape(data, data) * selector_kernel(data.selector, data.selector)
    alike = likenesses(data, data)
    grouped = {"on_task": group["task"], "on_model": group["model"], "in_panel": group["panel"], "by_size": size}
    fixed = level_kernel(data, data)
    studies = sorted(set(map(str, data.study)))
    names = [n for n in DEFAULTS if n != "noise"]
    start = np.log([*(DEFAULTS[n] for n in names), *(DEFAULTS["noise"] for _ in studies)])
    y = data.y - 50.0
    # The part of each point's noise that scales with the level `noise`: see `Model.noise`.
    seeds = np.maximum(data.seeds, 1)
    scaled = s**2 * (0.5 + np.where(np.isfinite(data.seed_sd), 0.0, 0.5 / seeds)) * model.inflation
    of_study = [np.where(data.study == name, scaled, 0.0) for name in studies]
    given = np.where(np.isfinite(data.seed_sd), data.seed_sd**2 / seeds, 0.0) * model.inflation

    def loss(vector: Floats) -> tuple[float, Floats]:
        variance = dict(zip(names, np.exp(2 * vector)))
        noises = np.exp(2 * vector[len(names) :])
        methods = sum(variance[n] * k for n, k in zip(LIKENESS, alike))
        spread = 1.0 + sum(variance[n] * k for n, k in grouped.items())
        k = fixed + variance["panel_level"] * group["panel"] + curve * _levels(variance, CURVES, group)
        k += jump * _levels(variance, JUMPS, group) + shape * methods * spread
        k[np.diag_indices_from(k)] += sum(w * part for w, part in zip(noises, of_study)) + given + 1e-8
        try:
            factor = cho_factor(k, lower=True, check_finite=False)
        except LinAlgError:
            return 1e6, np.zeros_like(vector)
        solved = cho_solve(factor, y, check_finite=False)
        outer = cho_solve(factor, np.eye(len(y)), check_finite=False) - np.outer(solved, solved)
        over = {
            "curve": outer * curve,
            "jump": outer * jump,
            "spread": outer * shape * spread,
            "alike": outer * shape * methods,
        }
        slope: dict[str, float] = {"panel_level": np.vdot(outer, group["panel"])}
        for what, four in (("curve", CURVES), ("jump", JUMPS)):
            for name, part in zip(four, (None, group["task"], group["model"], group["panel"])):
                slope[name] = over[what].sum() if part is None else np.vdot(over[what], part)
        slope |= {name: np.vdot(over["spread"], part) for name, part in zip(LIKENESS, alike)}
        slope |= {name: np.vdot(over["alike"], part) for name, part in grouped.items()}
        slopes = [variance[n] * slope[n] for n in names]
        slopes += [w * np.diag(outer) @ part for w, part in zip(noises, of_study)]
        # Log-normal prior, a factor of about 2 either way: two studies must not set every variance alone.
        away = (vector - start) / 0.8
        value = 0.5 * y @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        return float(value), np.array(slopes) + away / 0.8

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    best = np.exp(found.x)
    sd = {n: float(v) for n, v in zip(names, best)}
    noise = {n: float(v) for n, v in zip(studies, best[len(names) :])}
    return Levels({**sd, "noise": max(noise.values())}, noise)


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Joint posterior of the scores at M asked points: a mixture of Gaussians over the new panel's scale."""

    weights: Floats  # [G]
    means: Floats  # [G, M]
    covariances: Floats  # [G, M, M]
    noise: Floats  # [G, M] variance of one observed run at each point

    def mean(self) -> Floats:
        return self.weights @ self.means

    def at(self, rows: list[int]) -> Posterior:
        """The same posterior at some of its points."""
        grid = np.ix_(range(len(self.weights)), rows, rows)
        return Posterior(self.weights, self.means[:, rows], self.covariances[grid], self.noise[:, rows])

    def spread(self, *, observed: bool = False) -> tuple[Floats, Floats]:
        """Mean and standard deviation [M] of the mixture: of true cell means, of single observed cells if `observed`."""
        mean = self.mean()
        inner = np.array([np.diag(c) for c in self.covariances]) + (self.noise if observed else 0.0)
        variance = self.weights @ (inner + (self.means - mean) ** 2)
        return mean, np.sqrt(np.maximum(variance, 0.0))

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
        across, among = self.model.parts(self.data, asked), self.model.parts(asked, asked)
        for scale, factor, solved in zip(self.scales, self.factors, self.solved):
            cross = self.model.assemble(across, self.data, asked, scale)
            means.append(50.0 + cross.T @ solved)
            prior = self.model.assemble(among, asked, asked, scale)
            half = solve_triangular(factor[0], cross, lower=True, check_finite=False)
            covariances.append(prior - half.T @ half)
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
