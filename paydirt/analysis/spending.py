"""A budget that spends itself: what to run next, by value of information per FLOP, until nothing more is worth its cost.

The sequence of a careful engineer: measure the untuned model; run small trainings of the methods that could win,
cheapest first, as long as what they are expected to teach is worth more than what they take from the final run; then
put what is left into one selection and training. It may end in zero-shot, Random, or everything; and what was run
already stays on offer.

Pure analysis, no torch: a `World` says what can be run, at which cost, and gives a score when it is run. A finished study's
table is a world (`Replay`), so the policy is tested on the published panels; `paydirt spend` is the other.

Worth of a pilot: the expected rise of the best affordable final run's posterior mean, by simulated outcomes over the mixture
of scales, where the final choice afterwards has only the budget that the pilot leaves (a selection already paid is not paid
again). Nothing is run that would leave the ledger above the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from paydirt.analysis.calibration import PLAIN, Calibration
from paydirt.analysis.cases import Case
from paydirt.analysis.points import Points
from paydirt.analysis.posterior import Conditioned, Model, condition
from paydirt.analysis.results import Floats

OUTCOMES = 32
MOST_PILOTS = 8
LIGHTEST = 0.04  # posterior weight of a scale below which its outcomes are not simulated
PILOT_SHARE = 0.5  # of what is left: the most that one pilot may cost
RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # budgets of the what-if answers, over the one that was given
LEVEL = 0.8  # of their intervals
MOST = 100.0  # percent: no score is told above it, none below 0
DRAWS = 2000


class World(Protocol):
    """What can be run: N options, each a method at a size, zero-shot among them where it can be measured."""

    @property
    def at(self) -> Points: ...  # [N]

    @property
    def label(self) -> np.ndarray: ...  # [N] method names

    @property
    def pilot(self) -> np.ndarray: ...  # [N] which may be pilots

    def price(self, row: int, paid: frozenset[str]) -> float:
        """FLOPs still to be spent for running `row`, given the selections that were paid."""
        ...

    def run(self, row: int, paid: frozenset[str], left: float) -> tuple[float, float]:
        """(score of option `row` in percent, FLOPs really spent, at most `left`)."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done: why, at what cost, what it showed."""

    kind: str  # zero-shot, pilot, final
    row: int
    label: str
    fraction: float
    flops: float
    left: float
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What another budget would buy by what is known in the end: an option, and its expected score with an interval."""

    budget: float
    row: int
    expected: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spent:
    """The whole course: steps, the option kept in the end, its score, and what was spent.

    `p_good`: how often choices like this one lay within noise of the best that could be had when the last one was made, on
    held-out panels; `sure`: whether that bears acting on.
    """

    budget: float
    steps: tuple[Step, ...]
    kept: int
    score: float
    flops: float
    paid: frozenset[str] = field(default_factory=frozenset)
    elsewhere: tuple[WhatIf, ...] = ()
    p_good: float = float("nan")
    sure: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A finished study's panel as a world: its table answers what a run would have scored."""

    case: Case

    @property
    def at(self) -> Points:
        return self.case.at

    @property
    def label(self) -> np.ndarray:
        return self.case.label

    @property
    def pilot(self) -> np.ndarray:
        return self.case.trained

    def price(self, row: int, paid: frozenset[str]) -> float:
        cost = float(self.case.cost[row])
        return cost - float(self.case.selection[row]) if self.case.label[row] in paid else cost

    def run(self, row: int, paid: frozenset[str], left: float) -> tuple[float, float]:
        return float(self.case.score[row]), self.price(row, paid)


def spend(
    world: World, model: Model, budget: float, *, seed: int = 0,
    known: dict[int, float] | None = None, on_step: Callable[[Step], None] | None = None, most: int = MOST_PILOTS,
    scale: Calibration = PLAIN,
) -> Spent:  # fmt: skip
    """Spend `budget` FLOPs in `world`, from what `model` knows; never more.

    `known`: scores that were measured before and cost nothing now (a resumed run); `scale`: what predicted intervals and
    chances are worth. Raises ValueError for a budget of 0 or less.
    """
    if not budget > 0:
        raise ValueError(f"a budget is a positive number of FLOPs, not {budget:g}")
    rng = np.random.default_rng(seed)
    seen: dict[int, float] = dict(known or {})
    steps: list[Step] = []
    paid: frozenset[str] = frozenset()
    left = budget
    zero = np.flatnonzero(world.at.x <= 0)

    def do(kind: str, row: int, reason: str) -> None:
        nonlocal left, paid
        assert world.price(row, paid) <= left, "nothing is run that the ledger cannot pay"
        seen[row], flops = world.run(row, paid, left)
        left -= flops
        if world.at.x[row] > 0:
            paid = paid | {str(world.label[row])}
        steps.append(Step(kind, row, str(world.label[row]), float(world.at.x[row]), flops, left, seen[row], reason))
        if on_step is not None:
            on_step(steps[-1])

    for row in map(int, zero):
        if row not in seen and world.price(row, paid) <= left:
            do("zero-shot", row, "what tuning must beat, at the price of one evaluation")
    for _ in range(most):
        state = _condition(model, world, seen)
        plan = _plan(world, state, seen, left, paid)
        best = _next_pilot(world, state, seen, left, paid, plan, rng)
        if best is None:
            break
        row, worth, flops = best
        do("pilot", row, f"expected to add {worth:.2f} points to the final choice for {flops:.2g} FLOPs")
    state = _condition(model, world, seen)
    final, expected = _plan(world, state, seen, left, paid)
    could = _open(world, seen, left, paid)
    if final is not None and final not in seen:
        do("final", final, f"best expected score, {expected:.1f} of 100, that {left:.3g} FLOPs buy")
    return _end(world, model, budget, left, steps, seen, paid, could, scale, rng)


def opening(
    world: World, model: Model, budget: float, seed: int = 0
) -> tuple[tuple[int, float, float] | None, int | None]:
    """Before anything runs: (the first pilot: row, worth in points, FLOPs; the final run as things stand)."""
    state = _condition(model, world, {})
    plan = _plan(world, state, {}, budget, frozenset())
    return _next_pilot(world, state, {}, budget, frozenset(), plan, np.random.default_rng(seed)), plan[0]


def _end(
    world: World, model: Model, budget: float, left: float, steps: list[Step], seen: dict[int, float],
    paid: frozenset[str], could: np.ndarray, scale: Calibration, rng: np.random.Generator,
) -> Spent:  # fmt: skip
    """Keep the run that is best after all: scores of single runs are drawn towards what was expected of them.

    `could` [N]: what could be had when the last choice was made.
    """
    if not seen:
        return Spent(budget, (), -1, float("nan"), 0.0, paid)
    posterior = _condition(model, world, seen).predict(world.at)
    mean, sd = posterior.spread(observed=True)
    rows = np.array(sorted(seen))
    kept = int(rows[mean[rows].argmax()])
    # What is known now was learned under this budget; another one starts anew but for the knowledge.
    fresh = np.array([world.price(r, frozenset()) for r in range(len(mean))])
    away = scale.half_width(LEVEL) * sd
    others = []
    for other in (budget * ratio for ratio in RATIOS):
        open_ = np.flatnonzero(fresh <= other)
        if len(open_):
            r = int(open_[mean[open_].argmax()])
            told = np.clip([mean[r], mean[r] - away[r], mean[r] + away[r]], 0.0, MOST)  # a line in log n has no end
            others.append(WhatIf(other, r, *map(float, told)))
    choice = sorted({kept, *np.flatnonzero(could).tolist()})
    drawn, tolerance = posterior.at(choice).draw(DRAWS, rng)
    drawn = np.minimum(drawn, MOST)
    said = float((drawn[:, choice.index(kept)] >= drawn.max(axis=1) - tolerance).mean())
    sure = scale.sure(said) and any(world.at.x[r] <= 0 for r in seen)
    return Spent(budget, tuple(steps), kept, seen[kept], budget - left, paid, tuple(others), scale.chance(said), sure)


def _own(world: World, seen: dict[int, float]) -> Points | None:
    if not seen:
        return None
    rows = np.array(sorted(seen))
    some = world.at.where(rows)
    y = np.array([seen[int(r)] for r in rows])
    return Points(*(y if n == "y" else getattr(some, n) for n in Points.__slots__))


def _condition(model: Model, world: World, seen: dict[int, float]) -> Conditioned:
    return condition(model, str(world.at.panel[0]), _own(world, seen))


def _open(world: World, seen: dict[int, float], left: float, paid: frozenset[str]) -> np.ndarray:
    """Options that could be kept: those that were run, and those that what is left can pay."""
    return np.array([r in seen or world.price(r, paid) <= left for r in range(len(world.at))])


def _plan(
    world: World, state: Conditioned, seen: dict[int, float], left: float, paid: frozenset[str]
) -> tuple[int | None, float]:
    """(the option of best posterior mean that can be had with what is left, that mean)."""
    open_ = np.flatnonzero(_open(world, seen, left, paid))
    if not len(open_):
        return None, float("nan")
    mean = state.predict(world.at.where(open_)).mean()
    return int(open_[mean.argmax()]), float(mean.max())


def _next_pilot(
    world: World, state: Conditioned, seen: dict[int, float], left: float, paid: frozenset[str],
    plan: tuple[int | None, float], rng: np.random.Generator,
) -> tuple[int, float, float] | None:  # fmt: skip
    """(row, worth in points, FLOPs) of the pilot of most worth per FLOP among those whose worth is above 0; None to stop.

    Worth is net: the best mean expected afterwards, with what the pilot leaves, less the best mean now.
    """
    final, now = plan
    prices = np.array([world.price(r, paid) for r in range(len(world.at))])
    most = PILOT_SHARE * left
    free = [r for r in map(int, np.flatnonzero(world.pilot)) if r not in seen and r != final]
    candidates = [r for r in free if 0 < prices[r] <= most]
    candidates = _smallest(world, candidates)
    if not candidates or final is None:
        return None
    posterior = state.predict(world.at)
    mean = posterior.mean()
    best: tuple[int, float, float] | None = None
    for row in candidates:
        after = paid | {str(world.label[row])}
        rest = left - prices[row]
        open_ = np.array([r in seen or r == row or world.price(r, after) <= rest for r in range(len(mean))])
        worth = 0.0
        total = 0.0
        for g, weight in enumerate(posterior.weights):
            if weight < LIGHTEST:
                continue
            cov = posterior.covariances[g]
            variance = cov[row, row] + posterior.noise[g, row]
            if variance <= 1e-9:
                continue
            slope = cov[open_, row] / np.sqrt(variance)
            shocks = _shocks(rng)
            tops = (mean[open_][None, :] + shocks[:, None] * slope[None, :]).max(axis=1)
            worth += weight * (float(tops.mean()) - now)
            total += weight
        worth = worth / total if total else 0.0
        if worth > 0 and (best is None or worth / prices[row] > best[1] / best[2]):
            best = row, worth, float(prices[row])
    return best


def _shocks(rng: np.random.Generator) -> Floats:
    """Antithetic standard normal outcomes, stratified."""
    from scipy.special import ndtri

    half = ndtri((np.arange(OUTCOMES // 2) + rng.random(OUTCOMES // 2)) / OUTCOMES + 0.5)
    return np.concatenate([half, -half])


def _smallest(world: World, rows: Sequence[int], sizes: int = 2) -> list[int]:
    """Of each method, the `sizes` smallest of `rows`."""
    by_method: dict[str, list[int]] = {}
    for r in sorted(rows, key=lambda r: float(world.at.n[r])):
        by_method.setdefault(str(world.label[r]), []).append(r)
    return [r for group in by_method.values() for r in group[:sizes]]
