"""What learned influence may spend and on what: closed forms of its features and learner, and how many rows get truth.

An allowance is FLOPs by closed form (a cascade's budget). Where counted FLOPs exceed the closed form, later work is
charged by the count, so that neither passes the allowance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.progress import say
from paydirt.scorers import features as blocks
from paydirt.scorers.base import Job
from paydirt.scorers.truth import Truth
from paydirt.types import Cost

if TYPE_CHECKING:
    from paydirt.scorers.learned import Learned
    from paydirt.scorers.learned_passes import Outcome

RANDOM_SHARE = 0.25  # of what true influence may cost: the random points, which diagnostics are of
LEAST = 20  # points to learn from
FEATURE_SHARE = 0.4  # of an allowance, at most, for features
PROXY_TOKENS = (512, 256, 128, 96, 64, 48, 32, 16)
LEARNER_SHARE = 0.1  # of an allowance, at most, for the learner: a dearer one gives way to ridge
GRADIENT_WORK = ("gradients", "references", "tuned")


def truth_of(config: Learned, job: Job) -> Truth:
    """Influence on subtasks where their means are all that is asked for, else on references."""
    coarse = config.predict != "references" and config.aggregation == "subtasks"
    return Truth(job, config.gradient.model_copy(update={"per": "subtask" if coarse else "reference"}))


def feature_cost(config: Learned, job: Job) -> dict[str, float]:
    """Closed form of every feature, by name."""
    names = () if config.learner == "bert" else config.features
    return {name: blocks.feature_cost(name, job, config).flops for name in names}


def closed_form(cost: Mapping[str, Any]) -> float:
    """FLOPs of all that was done, from the account `cost` of a report."""
    features = sum(cost["features by closed form"].values())
    return float(cost["gradients by closed form"] + features + cost["learner"])


def predict_cost(config: Learned, job: Job) -> Cost:
    """See `Learned.predict_cost`: gradients by the pool's mean length."""
    truth = truth_of(config, job)
    variable = truth.gradient.variable_cost(job, job.tokens.lengths).flops
    verified = config.verify if config.verify is not None else (1 / 3 if config.mode == "classify" else 0.0)
    share = min(1.0, config.points / len(job.pool) + verified * (1 - config.points / len(job.pool)))
    parts = {"warm-up and references": truth.fixed, "points": variable * share}
    parts |= {f"feature {name}": flops for name, flops in feature_cost(config, job).items()}
    parts["learner"] = learner_flops(config, job, config.points)
    return Cost(sum(parts.values()), round(job.tokens.total * share), parts)


def learner_flops(config: Learned, job: Job, points: int) -> float:
    """Of fitting and predicting, folds included: dense algebra by its closed form; trees are not counted."""
    width, outputs, n = 450, len(config.columns(job.target)), len(job.pool)
    if config.learner == "bert":
        from paydirt.prediction.encoder import EPOCHS

        forward = config.embed.predict_cost(job).flops  # a forward pass of the encoder over the pool
        return forward * (1 + 3 * EPOCHS * (1 + config.folds) * points / n)
    fits = config.rounds + 1 + config.folds
    if config.learner == "kernel":
        searched = min(points, 2000)
        fit = 2 * points**2 * (width + outputs) + points**3 / 3
        return 3 * 10 * searched**3 + fits * fit + 2.0 * config.rounds * n * points * (width + outputs)
    if config.learner == "ridge":
        return fits * 4.0 * points * width * min(points, width) + 2.0 * config.rounds * n * width * outputs
    if config.learner == "mlp":
        weights = 512 * (width + outputs)
        return fits * 30 * 6.0 * points * weights + 2.0 * config.rounds * n * weights
    return 0.0


def affordable_features(config: Learned, job: Job, allowance: float) -> Learned:
    """The config with what `FEATURE_SHARE` of the allowance can pay for: the longest proxy, and no dearer feature."""
    most = FEATURE_SHARE * allowance
    kept = []
    for name in config.features:
        if name == "proxy":
            lengths = [n for n in PROXY_TOKENS if n <= config.proxy_tokens] if config.proxy_tokens else PROXY_TOKENS
            for tokens in lengths:
                config = config.model_copy(update={"proxy_tokens": tokens})
                if blocks.feature_cost(name, job, config).flops <= most:
                    break
        cost = blocks.feature_cost(name, job, config).flops
        if cost <= most:
            most -= cost
            kept.append(name)
        else:
            say(f"learned: the feature {name!r} would cost {cost:.3g} of {allowance:.3g} FLOPs, so it is left out")
    config = config.model_copy(update={"features": tuple(kept)})
    if config.learner in ("kernel", "mlp"):
        features = FEATURE_SHARE * allowance - most
        cost = learner_flops(config, job, expected_points(config, job, allowance, features))
        if cost > LEARNER_SHARE * allowance:
            say(
                f"learned: the learner {config.learner!r} would cost {cost:.3g} of {allowance:.3g} FLOPs; ridge instead"
            )
            config = config.model_copy(update={"learner": "ridge"})
    return config


def expected_points(config: Learned, job: Job, allowance: float, features: float) -> int:
    """Examples of mean length whose true influence an allowance pays for, `features` FLOPs being taken."""
    truth = truth_of(config, job)
    each = truth.gradient.variable_cost(job, job.tokens.lengths).flops / len(job.pool)
    left = allowance - truth.fixed - features
    return int(np.clip(left / each, 0, len(job.pool)))


class Purse:
    """How many rows a batch may have: by the config's numbers, or by what is left of an allowance."""

    def __init__(
        self, config: Learned, job: Job, truth: Truth, allowance: float | None, features: float, usable: int
    ) -> None:
        self.config, self.job, self.truth, self.allowance = config, job, truth, allowance
        # A proxy's gradients are among the features; its warm-up and references serve the true influence too.
        self.proxy = sum(v for k, v in job.meter.charges.items() if k.startswith("gradients/"))
        points = config.points if allowance is None else expected_points(config, job, allowance, features)
        self.other = features + learner_flops(config, job, points)
        if allowance is None and config.points > usable:
            raise ValueError(
                f"learned: {config.points} points of {usable} examples that can train; lower points, or use gradient"
            )

    @property
    def left(self) -> float:
        """Of the allowance, by closed form or by count, whichever has taken more."""
        assert self.allowance is not None
        by_form = self.truth.predicted
        if not by_form:
            return self.allowance - self.other
        counted = sum(v for k, v in self.job.meter.charges.items() if k.split("/")[0] in GRADIENT_WORK)
        counted -= self.proxy
        return (self.allowance - self.other - max(by_form, counted)) * min(1.0, by_form / counted if counted else 1.0)

    def cut(self, ranked: np.ndarray, turn: int) -> np.ndarray:
        """The first rows of `ranked` that this turn may compute."""
        if self.allowance is None:
            size = self.config.points // self.config.rounds
            return ranked[: size if turn else self.config.points - size * (self.config.rounds - 1)]
        share = RANDOM_SHARE if turn == 0 else 1 / (self.config.rounds - turn + 1)  # verification is a round too
        fixed = 0.0 if len(self.truth) else self.truth.fixed
        chosen = affordable(self.truth, ranked, fixed + share * (self.left - fixed) if self.left > fixed else 0.0)
        if turn == 0 and len(chosen) < LEAST:
            chosen = affordable(self.truth, ranked[:LEAST], self.left)
        if turn == 0 and len(chosen) < LEAST:
            least = 2 * self.truth.cost(ranked[:LEAST]) + self.other
            raise ValueError(
                f"a selection budget of {self.allowance:.3g} FLOPs leaves {len(chosen)} points to learn from: features "
                f"take {self.other:.3g}, warm-up and references {self.truth.fixed:.3g}; give at least {least:.3g}, or a "
                "cheaper gradient (fewer warmup_epochs, a smaller warmup_fraction, one checkpoint)"
            )
        return chosen

    def last(self, ranked: np.ndarray, outcome: Outcome) -> np.ndarray:
        """The rows to verify."""
        if self.allowance is not None:
            return affordable(self.truth, ranked, self.left)
        verify = self.config.verify
        if self.config.mode == "classify":
            high = [outcome.predictor.levels(outcome.inputs.rows(a, b)) == 2 for a, b in self.job.shards()]
            ranked = ranked[np.concatenate(high)[ranked]]
            return ranked if verify is None else ranked[: round(verify * len(self.job.pool))]
        return ranked[: round((verify or 0.0) * len(self.job.pool))]


def affordable(truth: Truth, ranked: np.ndarray, flops: float) -> np.ndarray:
    """The longest prefix of `ranked` whose true influence costs at most `flops` by closed form."""
    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        if truth.cost(ranked[:middle]) <= flops:
            low = middle
        else:
            high = middle - 1
    return ranked[:low]
