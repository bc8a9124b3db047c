"""How a score is learnt: choose points, compute their truth, fit, diagnose, verify.

`allowance` is what may be spent (see `prediction.budget`); without it the config's own numbers hold.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from paydirt.core.artifacts import write_atomic
from paydirt.core.progress import say
from paydirt.prediction import diagnostics as checks
from paydirt.prediction import features as blocks
from paydirt.prediction import learners
from paydirt.prediction.budget import (
    Purse,
    affordable_features,
    feature_prices,
    learner_flops,
    least_allowance,
    require,
    truth_of,
)
from paydirt.prediction.truth import Truth
from paydirt.scoring.base import Job
from paydirt.scoring.gradient_passes import usable_by_id
from paydirt.selection.scores import apply_statistic, by_subtask, reduced

if TYPE_CHECKING:
    from paydirt.scorers.learned import Learned

GOES = 3  # of verification: what a ceiling held back is spent after the count


@dataclass
class Outcome:
    """A fitted predictor over a pool, with the rows whose truth is known."""

    config: Learned
    job: Job
    inputs: Inputs
    truth: Truth
    predictor: Any = None
    report: dict[str, Any] = field(default_factory=dict)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Values [n, C] of `rows`: true where known, else predicted."""
        out = self.predictor.predict(self.inputs.at(rows))
        known = np.isin(rows, self.truth.rows)
        if known.any():
            out[known] = as_predicted(self.config, self.truth, self.truth.known(rows[known]))
        return out

    def scores(self) -> np.ndarray:
        """One score [n] of each row that the job asks for."""
        return np.concatenate([one_score(self.config, self.truth, self.values(rows)) for rows in self.job.blocks()])


class Inputs:
    """What the learner sees of rows: features [n, F], or texts where it reads them itself."""

    def __init__(self, config: Learned, job: Job) -> None:
        self.config, self.job = config, job
        self.widths: list[int] = []
        self.blocks: dict[str, blocks.Feature] = {}
        if config.learner != "bert":
            self.blocks = {name: blocks.open_feature(name, job, config) for name in config.chosen}

    def at(self, rows: np.ndarray) -> Any:
        """Of `rows` of the pool; what a feature would score by itself is a block of its own."""
        if self.config.learner == "bert":
            return self.job.pool.texts_at(rows)
        parts = [block.rows(rows) for block in self.blocks.values()] + [v[:, None] for v in self.alone(rows).values()]
        self.widths = [part.shape[1] for part in parts]
        return np.concatenate(parts, axis=1)

    def alone(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What each feature that is a score would give `rows` by itself."""
        return {name: block.alone(rows) for name, block in self.blocks.items() if block.alone is not None}


def as_predicted(config: Learned, truth: Truth, values: np.ndarray) -> np.ndarray:
    """Truth [n, C of truth] in the columns that are predicted."""
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


def learn(config: Learned, job: Job, allowance: float | None = None) -> Outcome:
    """Points, truth, predictor, diagnostics, verification; ValueError where the predictor is refused."""
    if allowance is not None:
        require(allowance, least_allowance(config, job.facts), "learned")
        config = affordable_features(config, job.facts, allowance)
    inputs = Inputs(config, job)
    truth = Truth(job, truth_of(config))
    outcome = Outcome(config, job, inputs, truth)
    usable = usable_by_id(job, job.rows)
    order = usable[np.random.default_rng(config.points_seed).permutation(len(usable))]
    costs = feature_prices(config, job.facts)
    purse = Purse(config, job, truth, allowance, len(order))
    random = purse.cut(order, 0)
    truth.of(random)
    outcome.predictor = fit(config, outcome)
    for turn in range(1, config.rounds):
        ranked = rank(config, outcome, order)
        chosen = purse.cut(ranked, turn)
        if len(chosen):
            truth.of(chosen)
            outcome.predictor = fit(config, outcome, like=outcome.predictor)
    outcome.report = diagnose(config, outcome, np.sort(random))
    refuse(config, costs, outcome.report)
    for _ in range(1 if allowance is None else GOES):
        chosen = purse.last(rank(config, outcome, order, "high"), outcome)
        if not len(chosen):
            break
        truth.of(chosen)
        if config.mode == "regress":
            outcome.predictor = fit(config, outcome, like=outcome.predictor)
    flops = learner_flops(config, job.facts, len(truth))
    job.meter.add(flops)
    outcome.report["cost"] = {
        "truth computed": len(truth),
        "truth by closed form": truth.predicted,
        "features by closed form": costs,
        "learner": flops,
        "counted": job.meter.flops,
    }
    write_atomic(job.out / "diagnostics.json", json.dumps(outcome.report, indent=1))
    return outcome


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

        def spread(rows: np.ndarray) -> np.ndarray:
            features = outcome.inputs.at(rows)
            return np.std([one_score(config, outcome.truth, p.predict(features)) for p, _ in parts], axis=0)

        wanted = np.concatenate([spread(rows) for rows in outcome.job.blocks()])
    return unknown[np.argsort(-wanted[outcome.job.places(unknown)], kind="stable")]


def fit(config: Learned, outcome: Outcome, rows: np.ndarray | None = None, like: Any = None) -> Any:
    """A predictor fitted on `rows` (default: all that are known)."""
    rows = outcome.truth.rows if rows is None else rows
    features = outcome.inputs.at(rows)
    widths = outcome.inputs.widths
    values = as_predicted(config, outcome.truth, outcome.truth.known(rows))
    if config.learner == "bert":
        from paydirt.columns.embeddings import resolve_encoder
        from paydirt.models.load import resolve_device
        from paydirt.prediction.encoder import fit_encoder

        path, device = str(resolve_encoder(config.embed.encoder)), resolve_device(config.embed.device)
        scores = one_score(config, outcome.truth, values) if config.mode == "classify" else None
        return fit_encoder(path, config.embed.max_tokens, device, config.points_seed, features, values, scores)
    if config.mode == "classify":
        scores = one_score(config, outcome.truth, values)
        return learners.fit_levels(config.learner, features, values, scores, config.points_seed, widths)
    if like is not None:
        return learners.refit_values(like, config.learner, features, values, config.points_seed, widths)
    return learners.fit_values(config.learner, features, values, config.points_seed, widths)


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
        "features": list(config.chosen) if config.learner != "bert" else [],
        "proxy_tokens": config.proxy.max_tokens if "proxy" in config.chosen else None,
        "held_out_points": len(held),
        "aggregation": config.aggregation,
    }


def refuse(config: Learned, costs: dict[str, float], report: dict[str, Any]) -> None:
    """ValueError, or a line to the person, where the best of the cheapest features ranks as well by itself."""
    cheapest = [name for name, flops in costs.items() if flops == min(costs.values())]
    better, rival, height = checks.beats(report["predictor"], report["features_alone"], cheapest)
    report["beats_cheapest_feature"] = better
    if better:
        return
    text = (
        f"learned: the predictor does not beat its cheapest feature: rank correlation with the truth "
        f"{report['predictor']['spearman']:.3f} on {report['held_out_points']} held-out points, {rival} alone {height:.3f}. "
        f"Give more points (now {report['points']}) or other features, or select by {rival}"
    )
    if config.refuse:
        raise ValueError(text + "; --no-refuse scores all the same")
    say(text)
