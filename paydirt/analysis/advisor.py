"""Advice: which complete strategy a budget should buy, how sure that is, and what would make it surer.

The posterior of `posterior.py`, learned from the published results and the user's own, is asked for the score of every
affordable strategy. Each method (with its selector and store) stands for itself at its best affordable fraction, and
the joint draws give its interval, its probability of being best, and the expected regret of choosing it.

"Not enough evidence" is said when the recommended strategy has less than an 80 % chance of lying within one noise
standard deviation of the best. Then the cheapest pilot is sought whose result is expected to lift that chance over
80 %, by simulating its outcomes (preposterior analysis, Raiffa & Schlaifer 1961).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from paydirt.analysis.posterior import Model, Points, Posterior, ask, family, join, learn, points, predict
from paydirt.analysis.published import SOURCE, published
from paydirt.analysis.results import ZERO_SHOT, Floats, Panel, Results, panels
from paydirt.analysis.strategies import Job, Strategy, choices, selection_form, strategies
from paydirt.cost.hardware import Hardware, budget_flops, hours, money

SURE = 0.8


@dataclass(frozen=True, slots=True)
class Ranked:
    """A strategy with what is expected of it; scores in the user's own unit, interval at the advice's level."""

    strategy: Strategy
    expected: float
    low: float
    high: float
    p_best: float
    p_beats_random: float
    regret: float
    hours: float | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Pilot:
    """A set of small runs and the chance of a good choice after seeing them."""

    runs: tuple[Strategy, ...]
    seeds: int
    flops: float
    p_good_now: float
    p_good_after: float

    @property
    def settles(self) -> bool:
        return self.p_good_after >= SURE

    @property
    def text(self) -> str:
        runs = ", ".join(f"{r.label} at {r.fraction:.3g}" for r in self.runs)
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{runs}{seeds}: {self.flops:.2g} FLOPs, good choice {self.p_good_now:.0%} -> {self.p_good_after:.0%}"


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer: `ranking` by expected score (random and zero-shot always in it), and how it moves with the budget."""

    job: Job
    budget: float
    level: float
    ranking: tuple[Ranked, ...]
    p_good: float
    noise: float
    enough_evidence: bool
    verdict: str
    pilot: Pilot | None
    by_budget: tuple[tuple[float, Ranked], ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Ranked:
        return self.ranking[0]

    @property
    def next_best(self) -> Ranked | None:
        others = [r for r in self.ranking[1:] if r.strategy.method != self.best.strategy.method]
        return others[0] if others else None

    def table(self) -> pa.Table:
        """The ranking, one row per strategy."""
        return pa.Table.from_pylist([_row(r) for r in self.ranking])

    def budget_table(self) -> pa.Table:
        """Best strategy at budgets from a tenth to ten times the given one."""
        return pa.Table.from_pylist([{"budget_flops": b, **_row(r)} for b, r in self.by_budget])


def _row(r: Ranked) -> dict[str, object]:
    s = r.strategy
    return {
        "strategy": s.label, "method": s.method, "selector_params": s.selector_params, "fraction": s.fraction,
        "store": s.store, "expected": r.expected, "low": r.low, "high": r.high, "p_best": r.p_best,
        "p_beats_random": r.p_beats_random, "expected_regret": r.regret, "selection_flops": s.selection_flops,
        "training_flops": s.training_flops, "total_flops": s.total_flops, "hours": r.hours, "usd": r.usd,
    }  # fmt: skip


def advise(
    job: Job,
    budget: float | None = None,
    *,
    results: Results | None = None,
    hardware: Hardware | str | None = None,
    wall_hours: float | None = None,
    devices: int = 1,
    use_published: bool = True,
    level: float = 0.8,
    draws: int = 4000,
    seed: int = 0,
    find_pilot: bool = True,
) -> Advice:
    """Rank strategies for `job` under `budget` FLOPs per task, or what `hardware` does in `wall_hours`.

    `results` may hold the user's pilot (rows of this task and model) and other panels of theirs; all are learned from.
    Raises ValueError without a budget, with both kinds, or when it affords not even a thousandth of the pool.
    """
    budget = _budget(budget, hardware, wall_hours, devices)
    rng = np.random.default_rng(seed)
    panel, others, notes, unit = _split(job, results, use_published)
    model, own = learn_from(panel, others, unit, use_published)
    job = _with_methods(job, panel)
    asked = strategies(job, budget, panel)
    if len(asked) < 2:
        raise ValueError(
            f"a budget of {budget:.3g} FLOPs trains on less than 0.1 % of the pool "
            f"(one pass costs {job.full_training_flops:.3g}); raise the budget or take a smaller model"
        )
    ranking, state = _rank(job, model, own, asked, panel, unit, level, draws, rng)
    ranking = [_priced(r, hardware, devices) for r in ranking]
    noise = float(state.posterior.weights @ np.sqrt(state.posterior.noise.mean(axis=1))) / unit
    p_good = state.p_good
    pilot = _pilot(job, model, own, state, panel, rng) if find_pilot and p_good < SURE else None
    by_budget = tuple(
        (b, _rank(job, model, own, strategies(job, b, panel), panel, unit, level, draws // 4, rng)[0][0])
        for b in budget * np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        if len(strategies(job, b, panel)) > 1
    )
    verdict = _verdict(ranking, p_good, pilot)
    notes += _gaps(job, model, panel)
    return Advice(job, budget, level, tuple(ranking), p_good, noise, p_good >= SURE, verdict, pilot, by_budget,
                  tuple(notes))  # fmt: skip


def _gaps(job: Job, model: Model, panel: Panel) -> list[str]:
    """What the evidence does not cover, method by method, so that a prior is not taken for a finding."""
    seen = set(model.known.method)
    tried = {c.method.lower() for c in panel.curves.values()}
    gaps = []
    for method in job.methods:
        if method.lower() not in seen | tried:
            kin = any(family(m) == family(method) for m in seen)
            gaps.append(f"{method}: no results; expected to act like {'its family' if kin else 'selection in general'}")
            if selection_form(method) == "random" and family(method) != "baseline":
                gaps.append(f"{method}: selection cost unknown, taken as 0; a pilot with selection_flops corrects it")
    if not len(panel.zero_shot):
        gaps.append("zero-shot was not measured here: its row is a guess; evaluating the untuned model costs little")
    return gaps


def _budget(budget: float | None, hardware: Hardware | str | None, wall_hours: float | None, devices: int) -> float:
    if wall_hours is not None:
        if hardware is None:
            raise ValueError("hours need hardware: name a device, such as hardware='h100'")
        if budget is not None:
            raise ValueError("give either a budget in FLOPs or hardware with hours, not both")
        return budget_flops(hardware, wall_hours, count=devices)
    if budget is None or budget <= 0:
        raise ValueError("give a positive budget in FLOPs, or hardware and hours")
    return budget


def _split(job: Job, results: Results | None, use_published: bool) -> tuple[Panel, list[Panel], list[str], float]:
    """The job's own panel (perhaps empty), the other panels, notes, and the factor that makes scores percentages."""
    notes = [f"prior: {SOURCE}"] if use_published else ["no published prior"]
    mine = panels(results) if results is not None else []
    if results is not None:
        notes += results.notes
    task, model = job.task.lower(), job.model.lower()
    if len(mine) == 1 and not task and not model:
        match = mine  # a pilot of one panel is the job's own
    else:
        match = [p for p in mine if p.task.lower() == task and (p.model.lower() == model or not model) and task]
        match = [p for p in match if model or abs(p.train_params - job.train_params) < 0.02 * job.train_params]
    own = match[0] if match else Panel(job.task or "this task", job.model or "this model", job.train_params)
    if match and not np.isfinite(own.train_params):
        own = Panel(own.task, own.model, job.train_params, own.curves, own.zero_shot)
    scores = [s for p in mine for c in p.curves.values() for s in c.scores] + [p.zero_shot for p in mine]
    largest = max((float(np.abs(s).max()) for s in scores if len(s)), default=100.0)
    unit = 100.0 if largest <= 1.0 else 1.0
    return own, [p for p in mine if not match or p is not match[0]], notes, unit


def learn_from(panel: Panel, others: Sequence[Panel], unit: float, use_published: bool) -> tuple[Model, Points]:
    """The model of all panels but the job's own, and the own panel's points (in percent)."""
    own = points([panel], unit)
    known = points(others, unit)
    if use_published:
        prior = points([p for p in panels(published()) if (p.task, p.model) != (panel.task, panel.model)])
        known = join(prior, known) if len(known) else prior
    return learn(known), own


def _with_methods(job: Job, panel: Panel) -> Job:
    """The job's methods and those its pilot tried, random always among them."""
    tried = [c.method for c in panel.curves.values()]
    names: dict[str, str] = {}
    for name in (*tried, *job.methods, "Random"):
        names.setdefault(name.lower(), name)
    return replace(job, methods=tuple(names.values()))


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    posterior: Posterior
    asked: list[Strategy]
    chosen: Floats  # rows of `asked` that stand for their label
    p_good: float


def _rank(
    job: Job, model: Model, own: Points, asked: list[Strategy], panel: Panel, unit: float, level: float, draws: int,
    rng: np.random.Generator,
) -> tuple[list[Ranked], _State]:  # fmt: skip
    at = ask(panel, [s.method for s in asked], [s.fraction for s in asked], [s.selector_params for s in asked])
    posterior = predict(model, at, own)
    mean = posterior.mean()
    rows = np.array([max(group, key=lambda i: mean[i]) for group in choices(asked).values()])
    sample = posterior.draw(draws, rng)[:, rows]
    top = sample.max(axis=1)
    # Ties (the same selection with a store and without) share the win.
    wins = sample >= top[:, None] - 1e-6
    p_best = (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0)
    random_rows = [i for i, r in enumerate(rows) if asked[r].method.lower() == "random"]
    random = sample[:, random_rows[0]] if random_rows else np.full(len(sample), -np.inf)
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2], axis=0)
    ranked = [
        Ranked(asked[r], float(mean[r]) / unit, float(low[i]) / unit, float(high[i]) / unit, float(p_best[i]),
               float((sample[:, i] > random + 1e-9).mean()), float((top - sample[:, i]).mean()) / unit)
        for i, r in enumerate(rows)
    ]  # fmt: skip
    # Equal expectation (a store shared or not): the cheaper one first.
    order = sorted(range(len(rows)), key=lambda i: (-round(ranked[i].expected, 4), asked[rows[i]].total_flops))
    tolerance = float(posterior.weights @ np.sqrt(posterior.noise.mean(axis=1)))
    p_good = float((sample[:, order[0]] >= top - tolerance).mean())
    return [ranked[i] for i in order], _State(posterior, asked, rows[order], p_good)


def _priced(r: Ranked, hardware: Hardware | str | None, devices: int) -> Ranked:
    if hardware is None:
        return r
    flops = r.strategy.total_flops
    return Ranked(r.strategy, r.expected, r.low, r.high, r.p_best, r.p_beats_random, r.regret,
                  hours(flops, hardware, count=devices), money(flops, hardware, count=devices))  # fmt: skip


def _verdict(ranking: Sequence[Ranked], p_good: float, pilot: Pilot | None) -> str:
    best = ranking[0]
    s = best.strategy
    if p_good >= SURE:
        return f"{s.label} at {s.fraction:.3g} of the pool: {p_good:.0%} sure to be within noise of the best"
    why = "that any selection beats random" if s.method.lower() != "random" and best.p_beats_random < SURE else (
        "to tell the first places apart"
    )  # fmt: skip
    if s.method == ZERO_SHOT:
        why = "that training helps at all"
    first = f"not enough evidence {why}; best guess {s.label} at {s.fraction:.3g} ({p_good:.0%} sure within noise)"
    if pilot is None:
        return first
    does = "would settle it" if pilot.settles else "would help most but not settle it"
    return f"{first}. A pilot {does}: {pilot.text}"


def _pilot(job: Job, model: Model, own: Points, state: _State, panel: Panel, rng: np.random.Generator) -> Pilot | None:
    """The cheapest set of small runs expected to reach `SURE`, else the one that gains most."""
    contenders = [state.asked[r] for r in state.chosen if state.asked[r].method != ZERO_SHOT]
    labels = list(dict.fromkeys(s.label for s in contenders))[:3]
    first = {s.label: s for s in contenders}
    by_cost = [f for f in (0.025, 0.05, 0.1) if f < max(s.fraction for s in contenders)] or [0.025]
    options = []
    for count in range(1, len(labels) + 1):
        for fraction in by_cost:
            for seeds in (1, 3):
                runs = tuple(
                    Strategy(first[x].method, fraction, first[x].selection_flops, fraction * job.full_training_flops,
                             first[x].selector_params, first[x].store) for x in labels[:count]
                )  # fmt: skip
                price = sum(r.selection_flops + seeds * r.training_flops for r in runs)
                options.append((price, runs, seeds))
    options.sort(key=lambda o: o[0])
    # One component of the scale mixture, the likeliest, is enough to compare pilots.
    g = int(state.posterior.weights.argmax())
    asked = [state.asked[r] for r in state.chosen]
    best: Pilot | None = None
    for price, runs, seeds in options:
        joint = ask(panel, [s.method for s in (*asked, *runs)], [s.fraction for s in (*asked, *runs)],
                    [s.selector_params for s in (*asked, *runs)])  # fmt: skip
        after = _after(predict(model, joint, own), g, len(asked), seeds, rng)
        pilot = Pilot(runs, seeds, price, state.p_good, max(after, state.p_good))
        if pilot.settles:
            return pilot
        if best is None or pilot.p_good_after > best.p_good_after + 0.01:
            best = pilot
    return best


def _after(posterior: Posterior, g: int, m: int, seeds: int, rng: np.random.Generator, outcomes: int = 48) -> float:
    """Expected chance of a choice within noise of the best, over simulated outcomes of a pilot's runs."""
    mean, cov, noise = posterior.means[g], posterior.covariances[g], posterior.noise[g]
    # Half of a cell's noise is its own and stays, half is the seeds' and averages out (see Model.noise).
    observed = cov[m:, m:] + np.diag(noise[m:] * (0.5 + 0.5 / seeds)) + 1e-9 * np.eye(len(mean) - m)
    gain = np.linalg.solve(observed, cov[m:, :m]).T
    left = cov[:m, :m] - gain @ cov[m:, :m]
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    shocks = rng.multivariate_normal(np.zeros(len(mean) - m), observed, outcomes, method="eigh")
    tolerance = float(np.sqrt(noise[:m].mean()))
    chances = []
    for shock in shocks:
        new = mean[:m] + gain @ shock
        sample = new + rng.standard_normal((200, m)) @ root.T
        chances.append((sample[:, new.argmax()] >= sample.max(axis=1) - tolerance).mean())
    return float(np.mean(chances))
