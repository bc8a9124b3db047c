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
from functools import lru_cache

import numpy as np
import pyarrow as pa

from paydirt.analysis.pilot import SURE, Pilot, cheapest_pilot
from paydirt.analysis.points import Points, ask, family, join, points
from paydirt.analysis.posterior import Conditioned, Model, Posterior, condition, learn, nearest
from paydirt.analysis.published import SOURCE, published
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Panel, Results, panels
from paydirt.analysis.strategies import Job, Strategy, choices, selection_form, strategies
from paydirt.cost.hardware import Hardware, budget_flops, hours, money


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
    gain: float  # over Random at the same budget, and its interval: free of what all strategies share
    gain_low: float
    gain_high: float
    hours: float | None = None
    usd: float | None = None


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

    def __repr__(self) -> str:
        sure = "" if self.enough_evidence else ", without enough evidence"
        return (
            f"Advice({self.best.strategy.label} at {self.best.strategy.fraction:.3g} for {self.budget:.3g} FLOPs{sure})"
        )

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
        "p_beats_random": r.p_beats_random, "gain": r.gain, "gain_low": r.gain_low, "gain_high": r.gain_high,
        "expected_regret": r.regret, "selection_flops": s.selection_flops,
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
    if len(model.known) < sum(len(c) for p in others for c in p.curves.values()):
        notes.append(f"of {len(others)} other panels the most similar were learned from ({len(model.known)} points)")
    job = _with_methods(job, panel)
    state = condition(model, ask(panel, ["random"], [0.1]).panel[0], own)
    asked = strategies(job, budget, panel)
    if len(asked) < 2:
        raise ValueError(
            f"a budget of {budget:.3g} FLOPs trains on less than 0.1 % of the pool "
            f"(one pass costs {job.full_training_flops:.3g}); raise the budget or take a smaller model"
        )
    ranking, posterior, p_good = _rank(state, asked, panel, unit, level, draws, rng)
    ranking = [_priced(r, hardware, devices) for r in ranking]
    noise = float(posterior.weights @ np.sqrt(posterior.noise.mean(axis=1))) / unit
    seen = _seen(model, panel)
    unseen = ranking[0].strategy.method not in seen
    pilot = None
    if find_pilot and (p_good < SURE or unseen):
        contenders = [r.strategy for r in ranking]
        pilot = cheapest_pilot(job, budget, state, panel, contenders, p_good, unit, rng)
    by_budget = tuple(
        (b, _rank(state, strategies(job, b, panel), panel, unit, level, draws // 4, rng)[0][0])
        for b in budget * np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        if len(strategies(job, b, panel)) > 1
    )
    verdict = _verdict(ranking, p_good, pilot, unseen)
    notes += _gaps(job, model, panel)
    evident = p_good >= SURE and not unseen
    return Advice(
        job, budget, level, tuple(ranking), p_good, noise, evident, verdict, pilot, by_budget, tuple(notes)
    )  # fmt: skip


def _seen(model: Model, panel: Panel) -> set[str]:
    """Methods with any result, published or own, in the spelling of whoever asks (names compare without case)."""
    known = {str(m) for m in model.known.method} | {c.method.lower() for c in panel.curves.values()}
    return _AnyCase(known)


class _AnyCase(set[str]):
    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


def _gaps(job: Job, model: Model, panel: Panel) -> list[str]:
    """What the evidence does not cover, method by method, so that a prior is not taken for a finding."""
    seen = _seen(model, panel)
    gaps = []
    if not panel.curves and panel.task.lower() not in set(model.known.task):
        gaps.append("no results on this task: its prior is that of the other tasks")
    for method in job.methods:
        if method not in seen:
            kin = any(family(m) == family(method) for m in model.known.method)
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
    known = points(_closest(panel, others), unit)
    asked = ask(panel, ["random"], [0.1])
    if not use_published:
        return learn(nearest(known, asked)), own
    if not len(known):
        return _published_model(panel.task, panel.model), own
    return learn(join(_prior(panel.task, panel.model), nearest(known, asked))), own


def _closest(panel: Panel, others: Sequence[Panel], most: int = 200) -> list[Panel]:
    """At most `most` panels, the own task's first: a table of thousands need not be turned into points as a whole."""
    return sorted(others, key=lambda p: p.task.lower() != panel.task.lower())[:most]


def _prior(task: str, model: str) -> Points:
    """The published points, less those of the panel that is asked about."""
    return points([p for p in panels(published()) if (p.task, p.model) != (task, model)])


@lru_cache(maxsize=16)
def _published_model(task: str, model: str) -> Model:
    return learn(_prior(task, model))


def _with_methods(job: Job, panel: Panel) -> Job:
    """The job's methods and those its pilot tried, random always among them; a ceiling nobody can buy is left out."""
    tried = [c.method for c in panel.curves.values() if c.method.lower() not in CEILINGS]
    names: dict[str, str] = {}
    for name in (*tried, *job.methods, "Random"):
        names.setdefault(name.lower(), name)
    return replace(job, methods=tuple(names.values()))


def _rank(
    state: Conditioned, asked: list[Strategy], panel: Panel, unit: float, level: float, draws: int,
    rng: np.random.Generator,
) -> tuple[list[Ranked], Posterior, float]:  # fmt: skip
    at = ask(panel, [s.method for s in asked], [s.fraction for s in asked], [s.selector_params for s in asked])
    posterior = state.predict(at)
    mean = posterior.mean()
    rows = np.array([max(group, key=lambda i: mean[i]) for group in choices(asked).values()])
    sample, tolerance = posterior.draw(draws, rng)
    sample = sample[:, rows]
    top = sample.max(axis=1)
    # Ties (the same selection with a store and without) share the win.
    wins = sample >= top[:, None] - 1e-6
    p_best = (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0)
    random_rows = [i for i, r in enumerate(rows) if asked[r].method.lower() == "random"]
    random = sample[:, random_rows[0]] if random_rows else sample.min(axis=1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(sample, tails, axis=0)
    gain = (sample - random[:, None]) / unit
    gain_low, gain_high = np.quantile(gain, tails, axis=0)
    ranked = [
        Ranked(asked[r], float(mean[r]) / unit, float(low[i]) / unit, float(high[i]) / unit, float(p_best[i]),
               float((sample[:, i] > random + 1e-9).mean()), float((top - sample[:, i]).mean()) / unit,
               float(gain[:, i].mean()), float(gain_low[i]), float(gain_high[i]))
        for i, r in enumerate(rows)
    ]  # fmt: skip
    # Equal expectation (a store shared or not): the cheaper one first.
    order = sorted(range(len(rows)), key=lambda i: (-round(ranked[i].expected, 4), asked[rows[i]].total_flops))
    p_good = float((sample[:, order[0]] >= top - tolerance).mean())
    return [ranked[i] for i in order], posterior, p_good


def _priced(r: Ranked, hardware: Hardware | str | None, devices: int) -> Ranked:
    if hardware is None:
        return r
    flops = r.strategy.total_flops
    return replace(r, hours=hours(flops, hardware, count=devices), usd=money(flops, hardware, count=devices))


def _verdict(ranking: Sequence[Ranked], p_good: float, pilot: Pilot | None, unseen: bool) -> str:
    best = ranking[0]
    s = best.strategy
    if p_good >= SURE and not unseen:
        return f"{s.label} at {s.fraction:.3g} of the pool: {p_good:.0%} sure to be within noise of the best"
    why = "that any selection beats random" if s.method.lower() != "random" and best.p_beats_random < SURE else (
        "to tell the first places apart"
    )  # fmt: skip
    if unseen:
        why = f"on {s.method}, which has no results yet"
    if s.method == ZERO_SHOT:
        why = "that training helps at all"
    first = f"not enough evidence {why}; best guess {s.label} at {s.fraction:.3g} ({p_good:.0%} sure within noise)"
    if pilot is None:
        return first
    does = "would settle it" if pilot.settles else "would help most but not settle it"
    worth = "; paid from this budget it costs more than it brings" if pilot.price > pilot.worth else ""
    return f"{first}. A pilot {does}: {pilot.text}{worth}"
