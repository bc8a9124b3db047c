"""Cheap features of pool examples, for predicting a score that is dear: each a block of columns at any rows.

`words` (TF-IDF of prompts and of answers, reduced to their main directions), `length`, `source` and `bm25` use no
accelerator; `embed` and `rds` give the vectors that those scorers compare, `loss` the selector's loss on the answer: a
pass over the pool each. `proxy` is influence itself from a few tokens of every example, or from the last layers. `jvp` is
how the state after the first blocks moves with the weights, what influence distillation predicts from. All but `words`,
`source` and `jvp` also have a score of their own, which a predictor has to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from paydirt.columns import PoolRef
from paydirt.columns.products import products
from paydirt.columns.tangents import Tangents
from paydirt.columns.words import Words
from paydirt.core.registry import did_you_mean
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.models.load import model_identity
from paydirt.scoring.base import SCORERS, Job, Scorer
from paydirt.selection.scores import reduced

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient

Rows = Callable[[np.ndarray], np.ndarray]
LOSS_TOKENS = 4096  # padded tokens in a batch of the feature loss


class Settings(Protocol):
    """The scorers that features are made with, as the config of `learned` holds them."""

    @property
    def embed(self) -> Scorer: ...
    @property
    def rds(self) -> Scorer: ...
    @property
    def proxy(self) -> Gradient: ...
    @property
    def jvp_blocks(self) -> int: ...
    @property
    def jvp_directions(self) -> int: ...


@dataclass(frozen=True)
class Feature:
    """Columns [n, F] of pool rows [n]; `alone` [n], what it would score by itself."""

    rows: Rows
    alone: Rows | None = None


def open_feature(name: str, job: Job, config: Settings) -> Feature:
    """Compute a feature of the whole pool, or find what it needs; ValueError for an unknown one."""
    if name not in FEATURES:
        raise ValueError(f"unknown feature {name!r}; {did_you_mean(name, FEATURES)}")
    return FEATURES[name](job, config)


def feature_price(name: str, facts: Facts, config: Settings) -> Cost:
    """FLOPs of a feature by closed form; CPU work on words is not counted, as for BM25.

    A proxy's warm-up is that of the true influence, where it is charged.
    """
    if name in ("embed", "rds"):
        return selection_cost(config.embed if name == "embed" else config.rds, facts)
    if name == "proxy":
        cost = selection_cost(config.proxy, facts)
        parts = {k: v for k, v in cost.parts.items() if k != "warm-up"}
        return Cost(sum(parts.values()), cost.tokens, parts)
    if name == "loss":
        pool = facts.pool
        return Cost(forward_flops(facts.model, pool.total, pool.mean, facts.convention), round(pool.total))
    if name == "jvp":  # a product's derivative is two products beside the product
        pool, shallow = facts.pool, replace(facts.model, language_head=False)
        shallow = replace(shallow, layers=min(config.jvp_blocks, shallow.layers))
        forward = forward_flops(shallow, pool.total, pool.mean, facts.convention)
        return Cost(3 * config.jvp_directions * forward, round(pool.total))
    return Cost()


def feature_ceiling(name: str, facts: Facts, config: Settings) -> float:
    """FLOPs that a count of a feature will not exceed (see `Scorer.ceiling`)."""
    if name in ("embed", "rds"):
        return (config.embed if name == "embed" else config.rds).ceiling(facts)
    cost = SAFETY * feature_price(name, as_counted(facts), config).flops
    return cost * facts.pool.packed(LOSS_TOKENS) if name in ("loss", "jvp") else cost


def _length(job: Job, config: Settings) -> Feature:
    lengths, supervised = job.tokens.lengths, job.tokens.supervised_lengths

    def of(rows: np.ndarray) -> np.ndarray:
        whole = np.log1p(lengths[rows].astype(np.float64))
        answer = np.log1p(supervised[rows].astype(np.float64))
        return np.stack([whole, answer, whole * answer, answer**2, np.exp(-answer)], axis=1)

    return Feature(of, lambda rows: supervised[rows].astype(np.float64))


def _source(job: Job, config: Settings) -> Feature:
    names = np.asarray(sorted(job.pool.source_counts(), key=lambda s: (-job.pool.source_counts()[s], s))[:32])

    return Feature(lambda rows: (np.asarray(job.pool.sources_at(rows))[:, None] == names[None]).astype(np.float64))


def _bm25(job: Job, config: Settings) -> Feature:
    scorer = SCORERS.get("bm25")()
    state = scorer.prepare(job)

    def of(rows: np.ndarray) -> np.ndarray:
        return scorer.scored(job, state, rows).astype(np.float64)

    return Feature(of, lambda rows: of(rows).mean(axis=1))


def _vectors(scorer: Scorer, job: Job) -> Feature:
    """Vectors of a scorer that keeps one a row (embed, rds), and its mean similarity to the references."""
    column, references = scorer.prepare(job)

    centre = references.mean(axis=0)[None]

    def of(rows: np.ndarray) -> np.ndarray:
        return column.read(rows).array("vectors")

    return Feature(of, lambda rows: products(of(rows), centre)[:, 0])


def _proxy(job: Job, config: Settings) -> Feature:
    """Influence on every subtask by cheap gradients."""
    scorer = config.proxy
    out = job.scratch / "proxy"
    out.mkdir(exist_ok=True)
    values = scorer.values(replace(job, out=out))
    columns = scorer.columns(job.target)

    def of(rows: np.ndarray) -> np.ndarray:
        return values[job.places(rows)].astype(np.float64)

    return Feature(of, lambda rows: reduced(of(rows), columns, scorer.reduction))


def _loss(job: Job, config: Settings) -> Feature:
    from paydirt.scoring.losses import pool_losses

    losses = pool_losses(job, job.selector, "supervised", LOSS_TOKENS)

    def of(rows: np.ndarray) -> np.ndarray:
        return np.stack([v := losses.filled_means(rows), v**2, np.log1p(v)], axis=1)

    return Feature(of, losses.filled_means)


def _words(job: Job, config: Settings) -> Feature:
    column = job.filled(job.column(Words(pool=PoolRef.of(job.pool))))
    return Feature(lambda rows: column.read(rows).array("vectors").astype(np.float64))


def _jvp(job: Job, config: Settings) -> Feature:
    spec = Tangents(
        tokens=job.tokens_ref,
        model=job.selector,
        identity=model_identity(job.selector),
        blocks=config.jvp_blocks,
        directions=config.jvp_directions,
        pad_id=job.encoder.pad_id,
        token_budget=LOSS_TOKENS,
    )
    column = job.filled(job.column(spec))
    return Feature(lambda rows: column.read(rows).array("vectors").astype(np.float64))


FEATURES: dict[str, Callable[[Job, Settings], Feature]] = {
    "words": _words,
    "length": _length,
    "source": _source,
    "bm25": _bm25,
    "embed": lambda job, config: _vectors(config.embed, job),
    "rds": lambda job, config: _vectors(config.rds, job),
    "loss": _loss,
    "proxy": _proxy,
    "jvp": _jvp,
}
