"""Cheap features of pool examples, for predicting a score that is dear: each a block of columns, shard by shard.

`words` (TF-IDF of prompts and of answers, reduced to their main directions), `length`, `source` and `bm25` use no
accelerator; `embed` and `rds` give the vectors that those scorers compare, `loss` the selector's loss on the answer: a
pass over the pool each. `proxy` is influence itself from a few tokens of every example, or from the last layers. All but
`words`, `source` also have a score of their own, which a predictor has to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from paydirt.artifacts import Artifact, build, fingerprint
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.data.tokens import row_key
from paydirt.progress import track
from paydirt.registry import did_you_mean
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import reduced
from paydirt.types import Cost

if TYPE_CHECKING:
    from paydirt.scorers.gradient import Gradient

Rows = Callable[[int, int], np.ndarray]
LOSS_TOKENS = 4096  # padded tokens in a batch of the feature loss
HASHES = 1 << 16  # columns that words are hashed into, for prompts and for answers
SAMPLE = 20_000  # examples that the main directions are found on
DIRECTIONS = 192  # of prompts, and as many of answers


class Settings(Protocol):
    """The scorers that features are made with, as the config of `learned` holds them."""

    @property
    def embed(self) -> Scorer: ...
    @property
    def rds(self) -> Scorer: ...
    @property
    def proxy(self) -> Gradient: ...


@dataclass(frozen=True)
class Feature:
    """Columns [stop - start, F] of pool rows; `alone` [stop - start], what it would score by itself."""

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
    return Cost()


def feature_ceiling(name: str, facts: Facts, config: Settings) -> float:
    """FLOPs that a count of a feature will not exceed (see `Scorer.ceiling`)."""
    if name in ("embed", "rds"):
        return (config.embed if name == "embed" else config.rds).ceiling(facts)
    cost = SAFETY * feature_price(name, as_counted(facts), config).flops
    return cost * facts.pool.packed(LOSS_TOKENS) if name == "loss" else cost


def _length(job: Job, config: Settings) -> Feature:
    lengths, supervised = job.tokens.lengths, job.tokens.supervised_lengths

    def rows(start: int, stop: int) -> np.ndarray:
        whole = np.log1p(np.asarray(lengths[start:stop], dtype=np.float64))
        answer = np.log1p(np.asarray(supervised[start:stop], dtype=np.float64))
        return np.stack([whole, answer, whole * answer, answer**2, np.exp(-answer)], axis=1)

    return Feature(rows, lambda start, stop: np.asarray(supervised[start:stop], dtype=np.float64))


def _source(job: Job, config: Settings) -> Feature:
    names = np.asarray(sorted(job.pool.source_counts(), key=lambda s: (-job.pool.source_counts()[s], s))[:32])

    def rows(start: int, stop: int) -> np.ndarray:
        return (np.asarray(job.pool.sources(start, stop))[:, None] == names[None]).astype(np.float64)

    return Feature(rows)


def _bm25(job: Job, config: Settings) -> Feature:
    from paydirt.scorers.bm25 import BM25

    scorer = BM25()
    state = scorer.prepare(job)

    def rows(start: int, stop: int) -> np.ndarray:
        return np.asarray(scorer.score_rows(job, state, start, stop), dtype=np.float64)

    return Feature(rows, lambda start, stop: rows(start, stop).mean(axis=1))


def _vectors(scorer: Scorer, job: Job) -> Feature:
    """Vectors of a scorer that keeps one a row (embed, rds), and its mean similarity to the references."""
    store, references = scorer.prepare(job)

    def rows(start: int, stop: int) -> np.ndarray:
        return _stored(store, job, start, stop)

    centre = references.mean(axis=0)
    return Feature(rows, lambda start, stop: rows(start, stop) @ centre)


def _proxy(job: Job, config: Settings) -> Feature:
    """Influence on every subtask by cheap gradients."""
    scorer = config.proxy
    out = job.scratch / "proxy"
    out.mkdir(exist_ok=True)
    values = scorer.values(replace(job, out=out))
    columns = scorer.columns(job.target)

    def alone(start: int, stop: int) -> np.ndarray:
        return reduced(values[start:stop], columns, scorer.reduction)

    return Feature(lambda start, stop: np.asarray(values[start:stop], dtype=np.float64), alone)


def _loss(job: Job, config: Settings) -> Feature:
    from paydirt.scorers.perplexity import pool_losses, read_mean_losses

    artifact = pool_losses(job, job.selector, "supervised", LOSS_TOKENS)
    job.meter.charge(artifact)

    def alone(start: int, stop: int) -> np.ndarray:
        return read_mean_losses(job, artifact, start, stop, "supervised")

    return Feature(lambda start, stop: np.stack([v := alone(start, stop), v**2, np.log1p(v)], axis=1), alone)


def _words(job: Job, config: Settings) -> Feature:
    store = word_directions(job)

    return Feature(lambda start, stop: _stored(store.path, job, start, stop).astype(np.float64))


def _stored(folder: Path, job: Job, start: int, stop: int) -> np.ndarray:
    """Rows [start, stop) of one shard of vectors."""
    shard = start // job.shard_rows
    first = shard * job.shard_rows
    return np.asarray(np.load(folder / f"{shard:05d}.npy", mmap_mode="r")[start - first : stop - first])


FEATURES: dict[str, Callable[[Job, Settings], Feature]] = {
    "words": _words,
    "length": _length,
    "source": _source,
    "bm25": _bm25,
    "embed": lambda job, config: _vectors(config.embed, job),
    "rds": lambda job, config: _vectors(config.rds, job),
    "loss": _loss,
    "proxy": _proxy,
}


def word_directions(job: Job) -> Artifact:
    """float32 [n, 2 x DIRECTIONS] of every shard, as a shared artifact: latent semantic analysis of prompts and answers.

    Directions come from a sample spread over the ids, so they do not depend on the order of the rows.
    """
    inputs = {"pool": job.pool.fingerprint, "rows": row_key(job.pool)}
    settings = {"hashes": HASHES, "sample": SAMPLE, "directions": DIRECTIONS, "shard_rows": job.shard_rows}

    def make(part: Path) -> dict[str, Any]:
        ids = np.asarray(job.pool.ids(), dtype=object)
        order = np.argsort(ids, kind="stable")
        sample = order[np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(np.int64)]
        examples = job.pool.take(sample)
        spaces = [_Space([_prompt(e) for e in examples]), _Space([_answer(e) for e in examples])]
        for shard, (start, stop) in enumerate(track(job.shards(), "words", job.shard_rows, len(job.pool))):
            path = part / f"{shard:05d}.npy"
            if not path.exists():
                texts = [job.pool.texts(start, stop, "prompt"), job.pool.texts(start, stop, "answer")]
                rows = np.concatenate([space(t) for space, t in zip(spaces, texts)], axis=1)
                np.save(path.with_suffix(".part.npy"), rows.astype(np.float32))
                path.with_suffix(".part.npy").rename(path)
        return {"examples": len(job.pool), "measured_flops": 0.0}

    return build(job.shared / "words" / fingerprint([inputs, settings]), "words", settings, inputs, make)


def _prompt(example: Any) -> str:
    return "\n".join(m.content for m in example.messages if m.role == "user")


def _answer(example: Any) -> str:
    return "\n".join(m.content for m in example.messages if m.role == "assistant")


class _Space:
    """Main directions of the TF-IDF of some texts: words and pairs of words, hashed."""

    def __init__(self, texts: list[str]) -> None:
        from sklearn.decomposition import TruncatedSVD

        counts = self._counts(texts)
        self.idf = np.log((1 + counts.shape[0]) / (1 + np.bincount(counts.indices, minlength=HASHES))) + 1
        size = max(1, min(DIRECTIONS, counts.shape[0] - 1))
        self.directions = TruncatedSVD(size, n_iter=3, random_state=0).fit(self._weighted(counts))

    def __call__(self, texts: list[str]) -> np.ndarray:
        return np.asarray(self.directions.transform(self._weighted(self._counts(texts))))

    def _counts(self, texts: list[str]) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            n_features=HASHES, ngram_range=(1, 2), alternate_sign=False, norm=None, token_pattern=r"\w+|[^\w\s]"
        )
        return hashing.transform(texts)

    def _weighted(self, counts: Any) -> Any:
        from sklearn.preprocessing import normalize

        weighted = counts.copy()
        weighted.data = (1 + np.log(weighted.data)) * self.idf[weighted.indices]
        return normalize(weighted)
