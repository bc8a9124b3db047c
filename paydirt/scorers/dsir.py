"""DSIR: how much more likely an example's words are among the references than in the pool.

Words are lower-cased runs of letters and digits, or of punctuation; unigrams and bigrams are counted in hashed buckets. With
p and q the shares of buckets in the references and in the pool, the score is the log-weight sum of counts x (log p - log q)
(arXiv 2302.03169; METHODS section 8; smoothing 1e-8 on both shares, as its authors' code does). A sum over words: long
examples have large weights of either sign.

Published: a draw without replacement in proportion to the weights, which is the largest of log-weight + Gumbel noise.
`draw_seed` adds that noise, a function of seed and example id alone; without it the largest weights are taken.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from paydirt.core.progress import track
from paydirt.scoring.base import Job, Scorer

SMOOTHING = 1e-8
PATTERN = r"\w+|[^\w\s]+"


class DSIR(Scorer):
    """Log-weight of hashed words: references over pool (DSIR)."""

    name: ClassVar[str] = "dsir"
    libraries: ClassVar = ("numpy", "scipy", "scikit-learn")
    cost_note: ClassVar[str] = "0 (CPU seconds)"
    source: ClassVar[str] = "DSIR (arXiv 2302.03169)"
    use_when: ClassVar[str] = "no accelerator; many references, in the words of what is wanted"

    buckets: int = Field(10_000, ge=2, description="that unigrams and bigrams are hashed into")
    text: Literal["full", "prompt"] = Field("full", description="of pool and references: all turns, or user turns")
    draw_seed: int | None = Field(
        None, description="draw without replacement by the weights, as published; null takes the largest"
    )

    @property
    def reads_answers(self) -> bool:
        return False

    def prepare(self, job: Job) -> np.ndarray:
        """log p - log q [buckets]."""
        target = job.target.references
        asked = [e.prompt if self.text == "prompt" else "\n".join(m.content for m in e.messages) for e in target]
        pool = np.zeros(self.buckets, dtype=np.int64)
        for start, stop in track(job.shards(), "counting words", job.shard_rows, len(job.pool)):
            pool += _total(ngram_counts(job.pool.texts(start, stop, self.text), self.buckets))
        wanted = _total(ngram_counts(asked, self.buckets))
        if not wanted.sum() or not pool.sum():
            raise ValueError(f"target {job.target.name}: no words in the {'pool' if wanted.sum() else 'references'}")
        return np.asarray(np.log(wanted / wanted.sum() + SMOOTHING) - np.log(pool / pool.sum() + SMOOTHING))

    def score_rows(self, job: Job, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        weights = ngram_counts(job.pool.texts_at(rows, self.text), self.buckets) @ state
        if self.draw_seed is None:
            return np.asarray(weights)
        return weights + np.asarray([gumbel(self.draw_seed, id) for id in job.pool.ids_at(rows)])


def ngram_counts(texts: list[str], buckets: int) -> Any:
    """Sparse counts int64 [n, buckets] of hashed unigrams and bigrams."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        n_features=buckets, ngram_range=(1, 2), alternate_sign=False, norm=None, token_pattern=PATTERN, dtype=np.int64
    )
    return sp.csr_matrix(hashing.transform(texts))


def _total(counts: Any) -> np.ndarray:
    return np.asarray(counts.sum(axis=0)).ravel()


def gumbel(seed: int, id: str) -> float:
    """-log(-log u), u uniform in (0, 1) by seed and id."""
    digest = hashlib.blake2b(id.encode(), digest_size=8, key=str(seed).encode()).digest()
    u = ((int.from_bytes(digest, "big") >> 11) + 0.5) / 2**53
    return float(-np.log(-np.log(u)))
