"""What a learned score may spend and on what: closed forms of its features and learner, and how many rows get truth.

An allowance is FLOPs by count (a cascade's budget), and is not exceeded: what was never counted is taken at its ceiling
(`Scorer.ceiling`), rows of a kind that was counted at their count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.core.progress import say
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.methods import as_counted, selection_cost
from paydirt.prediction import features as blocks
from paydirt.prediction.learners import LEARNERS
from paydirt.prediction.truth import Truth
from paydirt.scoring.base import Job, Scorer

if TYPE_CHECKING:
    from paydirt.prediction.passes import Outcome
    from paydirt.scorers.learned import Learned

RANDOM_SHARE = 0.25  # of what true influence may cost: the random points, which diagnostics are of
LEAST = 20  # points to learn from
FEATURE_SHARE = 0.4  # of an allowance, at most, for features
PROXY_TOKENS = (512, 256, 128, 96, 64, 48, 32, 16)
CHEAPER = "gradient: fewer warmup_epochs, a smaller warmup_fraction, one checkpoint; drop: less depth"
TANGENTS = 4096  # numbers of the feature jvp, at most
LEARNER_SHARE = 0.1  # of an allowance, at most, for the learner: a dearer one gives way to ridge


def truth_of(config: Learned) -> Scorer:
    """The truth; influence on subtasks where their means are all that is asked for, else on references."""
    if "per" not in type(config.truth).model_fields:
        return config.truth
    coarse = config.predict != "references" and config.aggregation in ("own", "subtasks")
    return config.truth.model_copy(update={"per": "subtask" if coarse else "reference"})


def feature_prices(config: Learned, facts: Facts) -> dict[str, float]:
    """Closed form of every feature, by name."""
    names = () if config.learner == "bert" else config.chosen
    return {name: blocks.feature_price(name, facts, config).flops for name in names}


def feature_ceilings(config: Learned, facts: Facts) -> float:
    """FLOPs that a count of all features will not exceed."""
    names = () if config.learner == "bert" else config.chosen
    return sum(blocks.feature_ceiling(name, facts, config) for name in names)


def closed_form(cost: Mapping[str, Any]) -> float:
    """FLOPs of all that was done, from the account `cost` of a report."""
    features = sum(cost["features by closed form"].values())
    return float(cost["truth by closed form"] + features + cost["learner"])


def price(config: Learned, facts: Facts) -> Cost:
    """See `Learned.price`: truth by the pool's mean length."""
    truth, n, alone = truth_of(config), max(1.0, facts.pool.count), replace(facts, tasks=1)
    fixed = truth.fixed_price(alone).parts
    variable = selection_cost(truth, alone).flops - sum(fixed.values())
    verified = config.verify if config.verify is not None else (1 / 3 if config.mode == "classify" else 0.0)
    share = min(1.0, config.points / n + verified * (1 - config.points / n))
    parts = {k: v / (facts.tasks if k == "warm-up" else 1) for k, v in fixed.items()}
    parts["points"] = variable * share
    parts |= {f"feature {name}": flops for name, flops in feature_prices(config, facts).items()}
    parts["learner"] = learner_flops(config, facts, config.points)
    return Cost(sum(parts.values()), round(facts.pool.total * share), parts)


def output_count(config: Learned, facts: Facts) -> int:
    """Columns that are predicted."""
    return {"score": 1, "subtasks": facts.subtasks}.get(config.predict, round(facts.references.count))


def learner_flops(config: Learned, facts: Facts, points: float) -> float:
    """Of fitting and predicting, folds included: dense algebra by its closed form; trees are not counted."""
    width, outputs, n = 450, output_count(config, facts), facts.pool.count
    if "jvp" in config.chosen:
        width += min(TANGENTS, config.jvp_directions * facts.model.hidden)
    if config.learner == "bert":
        from paydirt.prediction.encoder import EPOCHS

        forward = selection_cost(config.embed, facts).flops  # a forward pass of the encoder over the pool
        return forward * (1 + 3 * EPOCHS * (1 + config.folds) * points / max(1.0, n))
    fits = config.rounds + 1 + config.folds
    return LEARNERS.get(config.learner)().flops(points, width, outputs, fits, config.rounds * n)


def least_allowance(config: Learned, facts: Facts) -> float:
    """FLOPs that are sure to pay for the fewest points, whichever they are, and the cheapest learner; free features."""
    cheapest = (
        config.model_copy(update={"learner": "ridge"}) if config.learner in ("kernel", "landmark", "mlp") else config
    )
    points = min(LEAST, round(facts.pool.count))
    return truth_of(config).ceiling(facts.longest(points)) + learner_flops(cheapest, facts, points)


def affordable_features(config: Learned, facts: Facts, allowance: float) -> Learned:
    """The config with what `FEATURE_SHARE` of the allowance can pay for: the longest proxy, and no dearer feature.

    What the fewest points need is never taken.
    """
    spare = allowance - least_allowance(config, facts)
    most = given = min(FEATURE_SHARE * allowance, spare)

    def ceiling(name: str) -> float:
        return blocks.feature_ceiling(name, facts, config)

    kept = []
    for name in config.chosen:
        if name == "proxy":
            lengths = [n for n in PROXY_TOKENS if n <= config.proxy_tokens] if config.proxy_tokens else PROXY_TOKENS
            for tokens in lengths:
                config = config.model_copy(update={"proxy_tokens": tokens})
                if ceiling(name) <= most:
                    break
        cost = ceiling(name)
        if cost <= most:
            most -= cost
            kept.append(name)
        else:
            say(f"learned: the feature {name!r} would cost {cost:.3g} of {allowance:.3g} FLOPs, so it is left out")
    config = config.model_copy(update={"features": tuple(kept)})
    if config.learner in ("kernel", "landmark", "mlp"):
        cost = learner_flops(config, facts, expected_points(config, facts, allowance - (given - most)))
        if cost > LEARNER_SHARE * allowance or learner_flops(config, facts, LEAST) > spare - (given - most):
            say(
                f"learned: the learner {config.learner!r} would cost {cost:.3g} of {allowance:.3g} FLOPs; ridge instead"
            )
            config = config.model_copy(update={"learner": "ridge"})
    return config


def expected_points(config: Learned, facts: Facts, flops: float) -> int:
    """Examples of mean length whose truth so many FLOPs pay for."""
    truth, counted = truth_of(config), as_counted(facts)
    fixed = truth.fixed_price(counted).flops
    each = (selection_cost(truth, counted).flops - fixed) / max(1.0, facts.pool.count)
    return int(np.clip((flops - fixed) / each, 0, facts.pool.count) if each else facts.pool.count)


class Purse:
    """How many rows a batch may have: by the config's numbers, or by what is left of an allowance."""

    def __init__(self, config: Learned, job: Job, truth: Truth, allowance: float | None, usable: int) -> None:
        self.config, self.job, self.truth, self.allowance = config, job, truth, allowance
        if allowance is None and config.points > usable:
            raise ValueError(
                f"learned: {config.points} points of {usable} examples that can train; lower points, or use "
                f"{config.truth.name}"
            )

    @property
    def left(self) -> float:
        """Of the allowance, by count; features are counted when they are opened, before any point."""
        assert self.allowance is not None
        return self.allowance - self.job.meter.flops

    @property
    def fixed(self) -> float:
        """Ceiling of what is paid once (warm-up, references) while it is still to pay; a proxy has paid the warm-up."""
        if len(self.truth):
            return 0.0
        return self.truth.method.fixed_ceiling(self.job.facts, warmup="proxy" not in self.config.chosen)

    def _affordable(self, ranked: np.ndarray, flops: float) -> np.ndarray:
        """The longest prefix that `flops` pay for, the learner that all points ask for being kept ready."""
        known = len(self.truth)
        spare = flops - self.fixed
        return self.truth.affordable(ranked, spare, lambda n: learner_flops(self.config, self.job.facts, known + n))

    def cut(self, ranked: np.ndarray, turn: int) -> np.ndarray:
        """The first rows of `ranked` that this turn may compute."""
        if self.allowance is None:
            size = self.config.points // self.config.rounds
            return ranked[: size if turn else self.config.points - size * (self.config.rounds - 1)]
        share = RANDOM_SHARE if turn == 0 else 1 / (self.config.rounds - turn + 1)  # verification is a round too
        chosen = self._affordable(ranked, self.fixed + share * (self.left - self.fixed))
        if turn == 0 and len(chosen) < LEAST:
            chosen = self._affordable(ranked[:LEAST], self.left)
        if turn == 0 and len(chosen) < min(LEAST, len(ranked)):
            least = at_least(least_allowance(self.config, self.job.facts))
            raise ValueError(
                f"a selection budget of {self.allowance:.3g} FLOPs leaves {len(chosen)} points to learn from: features "
                f"took {self.job.meter.flops:.3g}, warm-up and references may take {self.fixed:.3g}; give at least "
                f"{least}, or a cheaper truth ({CHEAPER})"
            )
        return chosen

    def last(self, ranked: np.ndarray, outcome: Outcome) -> np.ndarray:
        """The rows to verify."""
        if self.allowance is not None:
            return self._affordable(ranked, self.left)
        verify = self.config.verify
        if self.config.mode == "classify":
            high = [outcome.predictor.levels(outcome.inputs.at(rows)) == 2 for rows in self.job.blocks()]
            ranked = ranked[np.concatenate(high)[self.job.places(ranked)]]
            return ranked if verify is None else ranked[: round(verify * len(self.job.rows))]
        return ranked[: round((verify or 0.0) * len(self.job.rows))]


def at_least(flops: float) -> str:
    """Rounded up to three digits, so that what is named is enough."""
    text = f"{flops:.2e}"
    return text if float(text) >= flops else f"{flops * 1.005:.2e}"


def require(allowance: float, least: float, what: str) -> None:
    """ValueError naming the least budget that works, before anything was spent."""
    if allowance < least:
        raise ValueError(
            f"{what}: a budget of {allowance:.3g} selection FLOPs cannot be kept to; give at least {at_least(least)}, "
            f"keep less of what each stage sees, or take a cheaper truth ({CHEAPER})"
        )
