"""The cheapest pilot that would settle a choice, by simulating what it could show (preposterior analysis).

Given the joint posterior of the contending strategies and of a pilot's runs, every possible outcome of the pilot moves
the posterior by a linear rule. Averaged over simulated outcomes this gives the chance of a good choice afterwards and the
expected gain in points from choosing better (Raiffa & Schlaifer 1961). Set against that gain stands what the pilot's FLOPs
would have bought when they come out of the same budget, which is often more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paydirt.analysis.calibration import SURE
from paydirt.analysis.evidence import Evidence
from paydirt.analysis.points import ask
from paydirt.analysis.posterior import Conditioned, Posterior
from paydirt.analysis.results import ZERO_SHOT, Panel
from paydirt.analysis.strategies import Job, Strategy, strategies

LIGHTEST = 0.04  # posterior weight of a scale below which its outcomes are not simulated
FRACTIONS = (0.025, 0.05, 0.1)
SEEDS = (1, 3)


@dataclass(frozen=True, slots=True)
class Pilot:
    """A set of small runs; what seeing them is worth, and costs when paid from the same budget, in points."""

    runs: tuple[Strategy, ...]
    seeds: int
    flops: float
    p_good_now: float
    p_good_after: float
    worth: float
    price: float = float("nan")

    @property
    def settles(self) -> bool:
        return self.p_good_after >= SURE

    @property
    def text(self) -> str:
        runs = ", ".join(f"{r.label} at {r.fraction:.3g}" for r in self.runs)
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        value = f"worth {self.worth:+.2f} points"
        if np.isfinite(self.price):
            value += f", {-self.price:+.2f} when paid from this budget"
        return (f"{runs}{seeds}: {self.flops:.2g} FLOPs, chance of a good choice {self.p_good_now:.0%} -> "
                f"{self.p_good_after:.0%}, {value}")  # fmt: skip


def cheapest_pilot(
    job: Job, budget: float, state: Conditioned, panel: Panel, contenders: Sequence[Strategy], p_good: float,
    known: Evidence, rng: np.random.Generator,
) -> Pilot | None:  # fmt: skip
    """The cheapest set of runs of the first three contenders expected to reach `SURE`, else the one that gains most.

    `contenders` are the ranked strategies, best first; None when only zero-shot is left, or the budget pays no pilot.
    """
    trained = [s for s in contenders if s.method != ZERO_SHOT]
    if not trained:
        return None
    unit = known.unit.factor
    # A dozen contenders decide: what stands lower is never worth a pilot, and ten times as much to simulate.
    contenders = list(contenders)[:12]
    best: Pilot | None = None
    options = [o for o in _options(job, trained) if o[0] < budget]
    runs_tried = list(dict.fromkeys(r for _, runs, _ in options for r in runs))
    every = (*contenders, *runs_tried)
    joint = ask(panel, [s.method for s in every], [s.fraction for s in every], [s.selector_params for s in every],
                job.examples)  # fmt: skip
    posterior, m = state.predict(joint), len(contenders)
    for flops, runs, seeds in options:
        at = [*range(m), *(m + runs_tried.index(r) for r in runs)]
        after, worth = _after(posterior.at(at), m, seeds, rng)
        pilot = Pilot(runs, seeds, flops, p_good, max(after, p_good), worth / unit)
        if best is None or pilot.settles or pilot.p_good_after > best.p_good_after + 0.01:
            best = pilot
        if pilot.settles:
            break
    return _priced(best, job, budget, state, panel, known) if best else None


def _options(job: Job, trained: Sequence[Strategy]) -> list[tuple[float, tuple[Strategy, ...], int]]:
    """(FLOPs, runs, seeds) of every pilot considered, cheapest first: 1 to 3 strategies, 3 sizes, 1 or 3 seeds."""
    first = {s.label: s for s in reversed(trained)}
    labels = list(dict.fromkeys(s.label for s in trained))[:3]
    sizes = [f for f in FRACTIONS if f < max(s.fraction for s in trained)] or [FRACTIONS[0]]
    options = []
    for count in range(1, len(labels) + 1):
        for fraction in sizes:
            for seeds in SEEDS:
                runs = tuple(
                    Strategy(first[x].method, fraction, first[x].selection_flops, fraction * job.full_training_flops,
                             first[x].selector_params, first[x].store) for x in labels[:count]
                )  # fmt: skip
                # A selection is made once, whatever the seeds.
                options.append((sum(r.selection_flops + seeds * r.training_flops for r in runs), runs, seeds))
    return sorted(options, key=lambda o: o[0])


def _after(
    posterior: Posterior, m: int, seeds: int, rng: np.random.Generator, outcomes: int = 48
) -> tuple[float, float]:
    """Expected chance of a choice within noise of the best, and expected gain in points, over simulated outcomes.

    Averaged over the mixture of scales by weight: how much a pilot can move the choice depends on how far methods may
    lie apart.
    """
    found = [(w, *_after_at(posterior, g, m, seeds, rng, outcomes))
             for g, w in enumerate(posterior.weights) if w >= LIGHTEST]  # fmt: skip
    total = sum(w for w, _, _ in found)
    return sum(w * chance for w, chance, _ in found) / total, sum(w * gain for w, _, gain in found) / total


def _after_at(
    posterior: Posterior, g: int, m: int, seeds: int, rng: np.random.Generator, outcomes: int
) -> tuple[float, float]:
    """The same under one value of the panel's scale."""
    mean, cov, noise = posterior.means[g], posterior.covariances[g], posterior.noise[g]
    chosen = int(posterior.mean()[:m].argmax())  # what would be run without the pilot
    # Half of a cell's noise is its own and stays, half is the seeds' and averages out (see Model.noise).
    observed = cov[m:, m:] + np.diag(noise[m:] * (0.5 + 0.5 / seeds)) + 1e-9 * np.eye(len(mean) - m)
    gain = np.linalg.solve(observed, cov[m:, :m]).T
    left = cov[:m, :m] - gain @ cov[m:, :m]
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    tolerance = float(np.sqrt(noise[:m].mean()))
    # Antithetic outcomes, so that the expected gain is not blurred by the mean of the shocks.
    half = rng.multivariate_normal(np.zeros(len(mean) - m), observed, outcomes // 2, method="eigh")
    chances, tops = [], []
    for shock in (*half, *-half):
        new = mean[:m] + gain @ shock
        sample = new + rng.standard_normal((100, m)) @ root.T
        chances.append((sample[:, new.argmax()] >= sample.max(axis=1) - tolerance).mean())
        tops.append(new.max() - new[chosen])
    return float(np.mean(chances)), float(np.mean(tops))


def _priced(pilot: Pilot, job: Job, budget: float, state: Conditioned, panel: Panel, known: Evidence) -> Pilot:
    """The pilot with what its FLOPs would have bought: best expected score now less with the rest of the budget."""

    def best(flops: float) -> float:
        asked = strategies(job, flops, panel, known.pilot_tokens)
        at = ask(panel, [s.method for s in asked], [s.fraction for s in asked], [s.selector_params for s in asked],
                 job.examples)  # fmt: skip
        return float(state.predict(at).mean().max())

    # A pilot's selection is not wasted when its method is the one chosen; that is left out here, so the price is an
    # upper bound for methods that cost much to select with.
    left = budget - pilot.flops
    price = (best(budget) - best(left)) / known.unit.factor if left > 0 else float("inf")
    return Pilot(pilot.runs, pilot.seeds, pilot.flops, pilot.p_good_now, pilot.p_good_after, pilot.worth, price)
