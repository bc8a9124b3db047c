"""Advice: which complete strategy a budget should buy, how sure that is, and what would make it surer.

The posterior of `posterior.py`, learned from the published results and the user's own (`evidence.py`), is asked for the
score of every strategy. Each method (with its selector and store) stands for itself at its best affordable size, and
the joint draws give its probability of being best and the expected regret of choosing it. Intervals are for the score
that a run would be seen to have; their widths, and the word "sure", are corrected by what held-out panels showed
(`calibration.py`).

"Not enough evidence" is said unless choices of which as much was predicted were good on held-out panels in at least 80 % of
cases; good is within one noise standard deviation of the best. Zero-shot is never recommended as sure before it was
measured. Then the cheapest pilot is sought whose result is expected to settle the choice, by simulating its outcomes
(preposterior analysis, Raiffa & Schlaifer 1961).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from paydirt.analysis.calibration import SURE, Calibration
from paydirt.analysis.evidence import Evidence, gather
from paydirt.analysis.names import method_key
from paydirt.analysis.needs import RANK, processor_hours, processor_time, training_need
from paydirt.analysis.pilot import Pilot, cheapest_pilot
from paydirt.analysis.points import Points, ask, family
from paydirt.analysis.posterior import Posterior, condition
from paydirt.analysis.prior import calibration
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Panel, Results
from paydirt.analysis.strategies import (
    Job,
    Strategy,
    choices,
    needs_references,
    nominal_architecture,
    selection_form,
    strategies,
)
from paydirt.cost.hardware import Hardware, budget_flops, hours, money

WIDE_AND_SURE = (
    "The interval is about the score itself, whose level is hard to know beforehand; the choice depends on differences "
    "between methods, which share that level: wide and sure can both hold."
)


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
    """The answer: `ranking` by expected score (random and zero-shot always in it), and how it moves with the budget.

    `p_good`: how often choices like this one lay within `noise` of the best on held-out panels; `evidence`: what was
    known of the panel itself (prior, zero-shot, pilot).
    """

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
    evidence: str = "prior"
    needs: tuple[str, ...] = ()  # memory, and processor hours of what costs no FLOPs

    @property
    def paragraph(self) -> str:
        """The answer in plain words: what to do, what to expect, what it costs, how sure that is."""
        r, s, job = self.best, self.best.strategy, self.job
        if s.method == ZERO_SHOT:
            first = f"With {self.budget:.3g} FLOPs the best guess is not to tune at all"
        elif s.fraction >= 0.999:
            first = f"With {self.budget:.3g} FLOPs the best guess is to train on everything"
        else:
            first = (f"With {self.budget:.3g} FLOPs the best guess is to select by {s.label} and train on "
                     f"{s.fraction * job.examples:,.0f} examples ({s.fraction * job.pool_tokens:.3g} tokens)")  # fmt: skip
        cost = f"; that takes {s.total_flops:.3g} FLOPs" + (f", {r.hours:.3g} hours" if r.hours is not None else "")
        cost += f", about {r.usd:,.0f} dollars" if r.usd is not None else ""
        expect = (f". A score of {r.expected:.4g} is expected, {r.low:.4g} to {r.high:.4g} at {self.level:.0%}, and "
                  f"{r.gain:+.3g} ({r.gain_low:+.3g} to {r.gain_high:+.3g}) against random examples.")  # fmt: skip
        sure = (f" Choices like this one lay within noise of the best in {self.p_good:.0%} of cases on panels held out: "
                + ("sure enough to act on." if self.enough_evidence else
                   "not sure." if self.p_good < SURE else "but these were too few to call it sure.")
                + f" {WIDE_AND_SURE}")  # fmt: skip
        return " ".join([first + cost + expect + sure + self._left_over(), *self.needs])

    def _left_over(self) -> str:
        passes = self.budget / self.job.full_training_flops
        if passes <= 1:
            return ""
        larger = f"a model of about {self.job.train_params * passes:.2g} parameters for one pass"
        return (f" The budget pays {passes:.2g} passes over the pool: what one pass leaves over buys further epochs, or "
                f"{larger}; neither study tells which is better.")  # fmt: skip

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
        return pa.Table.from_pylist([_row(r, self.job) for r in self.ranking])

    def budget_table(self) -> pa.Table:
        """Best strategy at budgets from a tenth to ten times the given one."""
        return pa.Table.from_pylist([{"budget_flops": b, **_row(r, self.job)} for b, r in self.by_budget])


def _row(r: Ranked, job: Job) -> dict[str, object]:
    s = r.strategy
    return {
        "strategy": s.label, "method": s.method, "selector_params": s.selector_params, "fraction": s.fraction,
        "examples": s.fraction * job.examples, "tokens": s.fraction * job.pool_tokens,
        "store": s.store, "expected": r.expected, "low": r.low, "high": r.high, "p_best": r.p_best,
        "p_beats_random": r.p_beats_random, "gain": r.gain, "gain_low": r.gain_low, "gain_high": r.gain_high,
        "expected_regret": r.regret, "selection_flops": s.selection_flops,
        "training_flops": s.training_flops, "total_flops": s.total_flops, "hours": r.hours, "usd": r.usd,
        "processor_hours": processor_hours(s.method, job.pool_tokens, job.examples),
    }  # fmt: skip


RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # budgets of the what-if table, over the one that was given
LARGEST_BUDGET = 1e40


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
    metric: str | None = None,
    utilisation: float | None = None,
    usd_per_hour: float | None = None,
) -> Advice:
    """Rank strategies for `job` under `budget` FLOPs per task, or what `hardware` does in `wall_hours`.

    `results` may hold the user's pilot (rows of this task and model) and other panels of theirs; all are learned from.
    `utilisation` (share of the hardware's peak) and `usd_per_hour` override the hardware table. Raises ValueError without a
    budget, with both kinds, when it affords not even the smallest run, or for a level outside [0.01, 0.999].
    """
    if not 0.01 <= level <= 0.999:
        raise ValueError(f"level lies in [0.01, 0.999], not {level:g}")
    budget = budget_of(budget, hardware, wall_hours, devices, utilisation)
    rng = np.random.default_rng(seed)
    known = gather(job, results, use_published, metric)
    panel = known.panel
    job = _with_methods(job, panel)
    every = strategies(job, budget * RATIOS[-1], panel, known.pilot_tokens)
    cost = np.array([s.total_flops for s in every])
    if (cost <= budget).sum() < 2:
        raise ValueError(
            f"a budget of {budget:.3g} FLOPs trains on less than {100 * job.sizes[0]:.2g} % of the pool "
            f"(one pass costs {job.full_training_flops:.3g}); raise the budget or take a smaller model"
        )
    state = condition(known.model, ask(panel, ["random"], [0.1]).panel[0], known.own)
    view = _View(
        every, state.predict(place(panel, every, known, job)), known, calibration(known.kind), level, draws, rng
    )
    ranking, p_good, sure = view.rank(cost <= budget)
    ranking = [_priced(r, hardware, devices, utilisation, usd_per_hour) for r in ranking]
    best = ranking[0].strategy
    unseen = not _is_seen(best.method, known)
    evident = sure and not unseen and (best.method != ZERO_SHOT or len(panel.zero_shot) > 0)
    pilot = None
    if find_pilot and (p_good < SURE or unseen):
        contenders = [r.strategy for r in ranking]
        pilot = cheapest_pilot(job, budget, state, panel, contenders, p_good, known, rng)
    by_budget = tuple((b, view.rank(cost <= b)[0][0]) for b in budget * np.array(RATIOS) if (cost <= b).sum() > 1)
    verdict = _verdict(ranking, p_good, pilot, unseen, evident)
    notes = [*known.notes, *_gaps(job, known)]
    return Advice(
        job, budget, level, tuple(ranking), p_good, view.noise, evident, verdict, pilot, by_budget, tuple(notes), known.kind,
        _needs(job, ranking, hardware, devices),
    )  # fmt: skip


def _needs(job: Job, ranking: Sequence[Ranked], device: Hardware | str | None, devices: int) -> tuple[str, ...]:
    """Sentences: the memory of training, and what the ranking's methods without FLOPs take of a processor."""
    model = job.train_architecture or nominal_architecture(job.train_params)
    name = device.name if isinstance(device, Hardware) else device
    lines = [training_need(model, rank=RANK if job.lora else None).text(name, devices)]
    for method in dict.fromkeys(r.strategy.method for r in ranking):
        if spent := processor_hours(method, job.pool_tokens, job.examples):
            lines.append(processor_time(method, spent))
    return tuple(lines)


def place(panel: Panel, asked: Sequence[Strategy], known: Evidence, job: Job) -> Points:
    """Strategies as places to predict: shares are of the job's pool."""
    return ask(
        panel, [s.method for s in asked], [s.fraction for s in asked], [s.selector_params for s in asked], job.examples
    )


class _View:
    """The posterior of all strategies, drawn from once, so that any set of them is ranked on the same draws.

    Draws are stretched about their mean by what held-out panels say that predicted deviations are worth.
    """

    def __init__(
        self, asked: Sequence[Strategy], posterior: Posterior, known: Evidence, scale: Calibration, level: float, draws: int,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.asked, self.known, self.scale = asked, known, scale
        self.mean, self.sd = posterior.spread(observed=True)
        self.drawn, self.tolerance = posterior.draw(draws, rng)
        self.width = scale.half_width(level)
        self.stretch = scale.half_width(0.8) / 1.2816
        self.tails = [(1 - level) / 2, (1 + level) / 2]
        self.noise = float(posterior.weights @ np.sqrt(posterior.noise.mean(axis=1))) / known.unit.factor

    def rank(self, open_: np.ndarray) -> tuple[list[Ranked], float, bool]:
        """(one entry per method, selector and store, best first; chance of a good choice; whether that is sure)."""
        asked, unit, mean = self.asked, self.known.unit, self.mean
        groups = [[i for i in group if open_[i]] for group in choices(asked).values()]
        rows = [int(max(group, key=lambda i: mean[i])) for group in groups if group]
        plain = self.drawn[:, rows]
        sample = mean[rows] + self.stretch * (plain - mean[rows])
        top = sample.max(axis=1)
        # Ties (the same selection with a store and without) share the win.
        wins = sample >= top[:, None] - 1e-6
        p_best = (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0)
        random_rows = [i for i, r in enumerate(rows) if method_key(asked[r].method) == "random"]
        random = sample[:, random_rows[0]] if random_rows else sample.min(axis=1)
        gain = (sample - random[:, None]) / unit.factor
        gain_low, gain_high = np.quantile(gain, self.tails, axis=0)
        away = self.width * self.sd[rows]
        ranked = [
            Ranked(asked[r], unit.back(mean[r]), unit.back(mean[r] - away[i]), unit.back(mean[r] + away[i]),
                   float(p_best[i]),
                   float((sample[:, i] > random + 1e-9).mean()), float((top - sample[:, i]).mean()) / unit.factor,
                   float(gain[:, i].mean()), float(gain_low[i]), float(gain_high[i]))
            for i, r in enumerate(rows)
        ]  # fmt: skip
        # Equal expectation (a store shared or not): the cheaper one first.
        order = sorted(range(len(rows)), key=lambda i: (-round(ranked[i].expected, 4), asked[rows[i]].total_flops))
        said = float((plain[:, order[0]] >= plain.max(axis=1) - self.tolerance).mean())
        return [ranked[i] for i in order], self.scale.chance(said), self.scale.sure(said)


def _is_seen(method: str, known: Evidence) -> bool:
    return method_key(method) in _seen(known)


def _seen(known: Evidence) -> set[str]:
    """Methods with any result, published or own, by comparable key; a published rule counts for its representation."""
    keys = {str(m) for m in known.model.known.method} | {method_key(c.method) for c in known.panel.curves.values()}
    return keys | {k.split(" (")[0] for k in keys}


def _gaps(job: Job, known: Evidence) -> list[str]:
    """What the evidence does not cover, method by method, so that a prior is not taken for a finding."""
    panel = known.panel
    seen = _seen(known)
    gaps = []
    if not panel.curves and not (known.model.known.task == ask(panel, ["random"], [0.1]).task[0]).any():
        gaps.append("no results on this task: its prior is that of the other tasks")
    for method in job.methods:
        if method_key(method) not in seen:
            kin = any(family(str(m)) == family(method) for m in known.model.known.method)
            gaps.append(f"{method}: no results; expected to act like {'its family' if kin else 'selection in general'}")
            if selection_form(method) == "random" and family(method) != "baseline":
                gaps.append(f"{method}: selection cost unknown, taken as 0; a pilot with selection_flops corrects it")
    refused = [m for m in job.methods if needs_references(m)]
    if job.references == 0 and refused:
        gaps.append(f"references=0: {', '.join(refused)} compare the pool with references and are left out")
    if job.references is None:
        gaps.append("number of references not told: 100 assumed for what they cost")
    if not len(panel.zero_shot):
        gaps.append("zero-shot was not measured here: its row is a guess; evaluating the untuned model costs little")
    return gaps


def budget_of(
    budget: float | None,
    hardware: Hardware | str | None,
    wall_hours: float | None,
    devices: int,
    utilisation: float | None,
) -> float:
    if wall_hours is not None:
        if hardware is None:
            raise ValueError("hours need hardware: name a device, such as hardware='h100'")
        if budget is not None:
            raise ValueError("give either a budget in FLOPs or hardware with hours, not both")
        if not 0 < wall_hours <= 1e9:
            raise ValueError(f"hours lie in (0, 1e9], not {wall_hours:g}")
        return budget_flops(hardware, wall_hours, count=devices, mfu=utilisation)
    if budget is None or not budget > 0:
        raise ValueError("give a positive budget in FLOPs, or hardware and hours")
    if not (math.isfinite(budget) and budget <= LARGEST_BUDGET):
        raise ValueError(f"a budget lies in (0, {LARGEST_BUDGET:g}] FLOPs, not {budget:g}")
    return budget


def _with_methods(job: Job, panel: Panel) -> Job:
    """The job's methods and those its pilot tried, random always among them; a ceiling nobody can buy is left out."""
    tried = [c.method for c in panel.curves.values() if c.method.lower() not in CEILINGS]
    names: dict[str, str] = {}
    for name in (*tried, *job.methods, "Random"):
        names.setdefault(method_key(name), name)
    return replace(job, methods=tuple(names.values()))


def _priced(
    r: Ranked, hardware: Hardware | str | None, devices: int, utilisation: float | None, usd_per_hour: float | None
) -> Ranked:
    if hardware is None:
        return r
    flops = r.strategy.total_flops
    spent = hours(flops, hardware, count=devices, mfu=utilisation)
    return replace(
        r, hours=spent, usd=money(flops, hardware, count=devices, mfu=utilisation, usd_per_hour=usd_per_hour)
    )


def _verdict(ranking: Sequence[Ranked], p_good: float, pilot: Pilot | None, unseen: bool, evident: bool) -> str:
    best = ranking[0]
    s = best.strategy
    if evident:
        return f"{s.label} at {s.fraction:.3g} of the pool: {p_good:.0%} sure to be within noise of the best"
    why = "that any selection beats random" if method_key(s.method) != "random" and best.p_beats_random < SURE else (
        "to tell the first places apart"
    )  # fmt: skip
    if p_good >= SURE:
        why = "on choices like this one: too few held-out cases bear it out"
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
