"""How influence is learnt: choose points, compute their truth, fit, diagnose, verify.

`allowance` is what may be spent in FLOPs by closed form (a cascade's budget); without it the config's own numbers hold.
Where counted FLOPs exceed the closed form, later work is charged by the count, so that neither passes the allowance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.artifacts import write_atomic
from paydirt.prediction import diagnostics as checks
from paydirt.prediction import learners
from paydirt.progress import say
from paydirt.scorers import features as blocks
from paydirt.scorers.base import Job
from paydirt.scorers.gradient_passes import usable_by_id
from paydirt.scorers.truth import Truth
from paydirt.scores import apply_statistic, by_subtask, reduced
from paydirt.types import Cost

if TYPE_CHECKING:
    from paydirt.scorers.learned import Learned

RANDOM_SHARE = 0.4  # of an allowance: the random points, which diagnostics are of
FEATURE_SHARE = 0.4  # of an allowance, at most, for features
PROXY_TOKENS = (512, 256, 128, 96, 64, 48, 32, 16)


@dataclass
class Outcome:
    """A fitted predictor over a pool, with the rows whose truth is known."""

    config: Learned
    job: Job
    inputs: Inputs
    truth: Truth
    predictor: Any = None
    report: dict[str, Any] = field(default_factory=dict)

    def values(self, start: int, stop: int) -> np.ndarray:
        """Values [stop - start, C]: true where known, else predicted."""
        out = self.predictor.predict(self.inputs.rows(start, stop))
        known = self.truth.rows
        here = known[(known >= start) & (known < stop)]
        if len(here):
            out[here - start] = as_predicted(self.config, self.truth, self.truth.known(here))
        return out

    def scores(self) -> np.ndarray:
        """One score [N] of every row."""
        parts = [one_score(self.config, self.truth, self.values(start, stop)) for start, stop in self.job.shards()]
        return np.concatenate(parts)


class Inputs:
    """What the learner sees of rows: features [n, F], or texts where it reads them itself."""

    def __init__(self, config: Learned, job: Job) -> None:
        self.config, self.job = config, job
        self.blocks: dict[str, blocks.Feature] = {}
        if config.learner != "bert":
            self.blocks = {name: blocks.open_feature(name, job, config) for name in config.features}

    def rows(self, start: int, stop: int) -> Any:
        if self.config.learner == "bert":
            return self.job.pool.texts(start, stop, "full")
        return np.concatenate([b.rows(start, stop) for b in self.blocks.values()], axis=1)

    def at(self, rows: np.ndarray) -> Any:
        """Of ascending rows, read shard by shard."""
        found = []
        for start, stop in self.job.shards():
            here = rows[(rows >= start) & (rows < stop)] - start
            if len(here):
                block = self.rows(start, stop)
                found += [block[i] for i in here] if isinstance(block, list) else [block[here]]
        return found if self.config.learner == "bert" else np.concatenate(found)

    def alone(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What each feature that is a score would give ascending rows by itself."""
        out: dict[str, np.ndarray] = {}
        for name, block in self.blocks.items():
            if block.alone is not None:
                parts = []
                for start, stop in self.job.shards():
                    here = rows[(rows >= start) & (rows < stop)] - start
                    parts.append(block.alone(start, stop)[here] if len(here) else np.zeros(0))
                out[name] = np.concatenate(parts)
        return out


def as_predicted(config: Learned, truth: Truth, values: np.ndarray) -> np.ndarray:
    """True influence [n, C of truth] in the columns that are predicted."""
    if config.predict == "references":
        return values
    if config.predict == "score":
        return reduced(values, truth.columns, config.reduction)[:, None]
    return by_subtask(values, truth.columns, config.reduction.within)


def one_score(config: Learned, truth: Truth, values: np.ndarray) -> np.ndarray:
    """One score [n] of predicted columns."""
    if config.predict == "score":
        return np.asarray(values[:, 0])
    if config.predict == "references":
        return reduced(values, truth.columns, config.reduction)
    across = config.reduction.within if config.reduction.across == "pooled" else config.reduction.across
    return apply_statistic(across, values)


def truth_of(config: Learned, job: Job) -> Truth:
    """Influence on subtasks where their means are all that is asked for, else on references."""
    coarse = config.predict != "references" and config.aggregation == "subtasks"
    return Truth(job, config.gradient.model_copy(update={"per": "subtask" if coarse else "reference"}))


def feature_cost(config: Learned, job: Job) -> dict[str, float]:
    """Closed form of every feature, by name."""
    names = () if config.learner == "bert" else config.features
    return {name: blocks.feature_cost(name, job, config).flops for name in names}


def predict_cost(config: Learned, job: Job) -> Cost:
    """See `Learned.predict_cost`: gradients by the pool's mean length."""
    truth = truth_of(config, job)
    variable = truth.gradient.predict_cost(job).flops - truth.fixed
    verified = config.verify if config.verify is not None else (1 / 3 if config.mode == "classify" else 0.0)
    share = min(1.0, config.points / len(job.pool) + verified * (1 - config.points / len(job.pool)))
    parts = {"warm-up and references": truth.fixed, "points": variable * share}
    parts |= {f"feature {name}": flops for name, flops in feature_cost(config, job).items()}
    parts["learner"] = learner_flops(config, job, config.points)
    return Cost(sum(parts.values()), round(job.tokens.total * share), parts)


def learner_flops(config: Learned, job: Job, points: int) -> float:
    """Of fitting and predicting, folds included: dense algebra by its closed form; trees are not counted."""
    width, outputs, n = 300, len(config.columns(job.target)), len(job.pool)
    if config.learner == "bert":
        from paydirt.prediction.encoder import EPOCHS

        forward = config.embed.predict_cost(job).flops  # a forward pass of the encoder over the pool
        return forward * (1 + 3 * EPOCHS * (1 + config.folds) * points / n)
    if config.learner == "kernel":
        searched = min(points, 2000)
        fit = 2 * points**2 * (width + outputs) + points**3 / 3
        return 3 * 10 * searched**3 + (1 + config.folds) * fit + 2.0 * n * points * (width + outputs)
    if config.learner == "ridge":
        return (1 + config.folds) * 4.0 * points * width * min(points, width) + 2.0 * n * width * outputs
    if config.learner == "mlp":
        weights = 512 * (width + outputs)
        return (1 + config.folds) * 30 * 6.0 * points * weights + 2.0 * n * weights
    return 0.0


def learn(config: Learned, job: Job, allowance: float | None = None) -> Outcome:
    """Points, truth, predictor, diagnostics, verification; ValueError where the predictor is refused."""
    if allowance is not None:
        config = affordable_features(config, job, allowance)
    truth, inputs = truth_of(config, job), Inputs(config, job)
    outcome = Outcome(config, job, inputs, truth)
    usable = usable_by_id(job)
    order = usable[np.random.default_rng(config.points_seed).permutation(len(usable))]
    purse = Purse(config, job, truth, allowance, len(order))
    random = purse.cut(order, 0)
    truth.of(random)
    outcome.predictor = fit(config, outcome)
    for turn in range(1, purse.rounds):
        ranked = rank(config, outcome, order)
        chosen = purse.cut(ranked, turn)
        if len(chosen):
            truth.of(chosen)
            outcome.predictor = fit(config, outcome)
    outcome.report = diagnose(config, outcome, np.sort(random))
    refuse(config, job, outcome.report)
    chosen = purse.last(rank(config, outcome, order, "high"), outcome)
    if len(chosen):
        truth.of(chosen)
        if config.mode == "regress":
            outcome.predictor = fit(config, outcome)
    flops = learner_flops(config, job, len(truth))
    job.meter.add(flops)
    outcome.report["cost"] = {
        "true influence computed": len(truth),
        "gradients by closed form": truth.predicted,
        "features by closed form": feature_cost(config, job),
        "learner": flops,
        "counted": job.meter.flops,
    }
    write_atomic(job.out / "diagnostics.json", json.dumps(outcome.report, indent=1))
    return outcome


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
    return config.model_copy(update={"features": tuple(kept)})


class Purse:
    """How many rows a batch may have: by the config's numbers, or by what is left of an allowance."""

    def __init__(self, config: Learned, job: Job, truth: Truth, allowance: float | None, usable: int) -> None:
        self.config, self.job, self.truth, self.usable = config, job, truth, usable
        self.allowance = allowance
        self.rounds = config.rounds
        self.other = sum(feature_cost(config, job).values()) + learner_flops(config, job, min(config.points, usable))
        if allowance is None and config.points > usable:
            raise ValueError(
                f"learned: {config.points} points of {usable} examples that can train; lower points, or use gradient"
            )

    @property
    def left(self) -> float:
        """Of the allowance, by closed form or by count, whichever has taken more."""
        assert self.allowance is not None
        by_form = self.truth.predicted
        counted = sum(v for k, v in self.job.meter.charges.items() if k.split("/")[0] in GRADIENT_WORK)
        return (self.allowance - self.other - max(by_form, counted)) * min(1.0, by_form / counted if counted else 1.0)

    def cut(self, ranked: np.ndarray, turn: int) -> np.ndarray:
        """The first rows of `ranked` that this turn may compute."""
        if self.allowance is None:
            size = self.config.points // self.rounds
            return ranked[: size if turn else self.config.points - size * (self.rounds - 1)]
        turns = self.rounds - turn + (1 if self.rounds == 1 or turn else 0)
        share = RANDOM_SHARE if turn == 0 else 1 / max(1, turns)
        fixed = 0.0 if len(self.truth) else self.truth.fixed
        chosen = affordable(self.truth, ranked, fixed + share * (self.left - fixed))
        if turn == 0 and len(chosen) < 20:
            least = self.truth.cost(ranked[:50]) / RANDOM_SHARE + self.other
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


GRADIENT_WORK = ("gradients", "references", "tuned")


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


def rank(config: Learned, outcome: Outcome, order: np.ndarray, by: str | None = None) -> np.ndarray:
    """Rows whose truth is unknown, those to compute first in front; ties keep the seeded `order`."""
    unknown = order[~np.isin(order, outcome.truth.rows)]
    by = by or config.explore
    if by == "random":
        return unknown
    if by == "high":
        wanted = outcome.scores()
    else:
        parts = _fold_predictors(config, outcome, outcome.truth.rows)
        shards = outcome.job.shards()
        wanted = np.concatenate(
            [
                np.std(
                    [one_score(config, outcome.truth, p.predict(outcome.inputs.rows(a, b))) for p, _ in parts], axis=0
                )
                for a, b in shards
            ]
        )
    return unknown[np.argsort(-wanted[unknown], kind="stable")]


def fit(config: Learned, outcome: Outcome, rows: np.ndarray | None = None, like: Any = None) -> Any:
    """A predictor fitted on `rows` (default: all that are known)."""
    rows = outcome.truth.rows if rows is None else rows
    features = outcome.inputs.at(rows)
    values = as_predicted(config, outcome.truth, outcome.truth.known(rows))
    if config.learner == "bert":
        from paydirt.models.load import resolve_device
        from paydirt.prediction.encoder import fit_encoder
        from paydirt.scorers.embed import resolve_encoder

        path, device = str(resolve_encoder(config.embed.encoder)), resolve_device(config.embed.device)
        scores = one_score(config, outcome.truth, values) if config.mode == "classify" else None
        return fit_encoder(path, config.embed.max_tokens, device, config.points_seed, features, values, scores)
    if config.mode == "classify":
        scores = one_score(config, outcome.truth, values)
        return learners.fit_levels(config.learner, features, values, scores, config.points_seed)
    if like is not None:
        return learners.refit_values(like, config.learner, features, values, config.points_seed)
    return learners.fit_values(config.learner, features, values, config.points_seed)


def _fold_predictors(config: Learned, outcome: Outcome, held: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """A predictor for each fold of `held` (ascending rows), fitted on all known rows but those; and the fold's rows."""
    fold = learners.folds_of(len(held), config.folds, config.points_seed)
    out = []
    for number in range(config.folds):
        rows = held[fold == number]
        others = np.setdiff1d(outcome.truth.rows, rows)
        out.append((fit(config, outcome, others, outcome.predictor), rows))
    return out


def diagnose(config: Learned, outcome: Outcome, held: np.ndarray) -> dict[str, Any]:
    """Diagnostics over the random points `held`, each predicted without having been seen."""
    true = one_score(config, outcome.truth, as_predicted(config, outcome.truth, outcome.truth.known(held)))
    predicted, levels = np.empty(len(held)), np.zeros(len(held), dtype=np.int64)
    for predictor, rows in _fold_predictors(config, outcome, held):
        at = np.searchsorted(held, rows)
        features = outcome.inputs.at(rows)
        predicted[at] = one_score(config, outcome.truth, predictor.predict(features))
        if config.mode == "classify":
            levels[at] = predictor.levels(features)
    found = checks.diagnose(true, predicted, levels if config.mode == "classify" else None)
    alone = outcome.inputs.alone(held)
    return {
        "predictor": found,
        "features_alone": {name: checks.spearman(true, scores) for name, scores in alone.items()},
        "points": len(outcome.truth),
        "features": list(config.features),
        "proxy_tokens": config.proxy.max_tokens if "proxy" in config.features else None,
        "held_out_points": len(held),
        "aggregation": config.aggregation,
    }


def refuse(config: Learned, job: Job, report: dict[str, Any]) -> None:
    """ValueError, or a line to the person, where the best of the cheapest features ranks as well by itself."""
    cost = feature_cost(config, job)
    cheapest = [name for name, flops in cost.items() if flops == min(cost.values())]
    better, rival, height = checks.beats(report["predictor"], report["features_alone"], cheapest)
    report["beats_cheapest_feature"] = better
    if better:
        return
    text = (
        f"learned: the predictor does not beat its cheapest feature: rank correlation with true influence "
        f"{report['predictor']['spearman']:.3f} on {report['held_out_points']} held-out points, {rival} alone {height:.3f}. "
        f"Give more points (now {report['points']}) or other features, or select by {rival}"
    )
    if config.refuse:
        raise ValueError(text + "; --no-refuse scores all the same")
    say(text)
