"""BM25: lexical similarity of each pool example to each subtask's references. No accelerator, no model.

One query a subtask (its references' prompts joined), one sparse product a shard: the score of a document is a sum over
the query's words, so only those words' columns are kept, and the pool is read once. Document frequencies of the whole
vocabulary are counted on the way, since Okapi's floor for common words depends on the mean idf of all words.

Words: lower-cased, ASCII punctuation deleted, split on white space, as the source document's text says (METHODS section 2).
Its code does otherwise, which is three options: `words: spaces` splits at single spaces, so that two in a row leave an empty
word between them, which is counted, and tabs stay inside words; `query: full` asks with the references' answers too; and
`document: first` indexes the first message alone. There a BBH query is the raw file's text of a subtask; ours joins its
references, each of which repeats the other shots, so every count is threefold and the ranking the same.
"""

from __future__ import annotations

import string
from collections import Counter
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pydantic import Field

from paydirt.core.artifacts import write_atomic
from paydirt.core.progress import track
from paydirt.core.types import Target
from paydirt.scoring.base import Job, Scorer
from paydirt.selection.scores import Column, Reduction

Variant = Literal["okapi", "robertson", "lucene", "atire", "bm25l", "bm25+"]
Split = Literal["whitespace", "spaces"]
_PUNCTUATION = string.punctuation.encode()


class BM25(Scorer):
    """Lexical match with the references (Okapi BM25 and its variants)."""

    name: ClassVar[str] = "bm25"
    libraries: ClassVar = ("numpy", "scipy")
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "0 (CPU seconds)"
    source: ClassVar[str] = "Robertson and Zaragoza 2009; as in CCDS (arXiv 2410.16208)"
    known_as: ClassVar = {"lexicon": "bm25", "okapi": "bm25"}
    use_when: ClassVar[str] = "first; targets whose wording is in the pool, small budgets"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="mean")

    variant: Variant = Field("okapi", description="okapi equals rank_bm25; the others equal bm25s")
    k1: float = Field(1.5, gt=0, description="term frequency saturation")
    b: float = Field(0.75, ge=0, le=1, description="document length normalisation")
    epsilon: float = Field(0.25, ge=0, description="okapi: floor of the idf, times the mean idf")
    delta: float = Field(0.5, ge=0, description="bm25l and bm25+: lower bound of the term frequency part")
    document: Literal["full", "prompt", "first"] = Field(
        "full", description="indexed text: all turns, user turns, or the first message only (as published)"
    )
    query: Literal["prompt", "full"] = Field(
        "prompt", description="of the references: user turns, or answers as well (as published)"
    )
    words: Split = Field(
        "whitespace", description="split at white space, or at single spaces with empty words kept (as published)"
    )

    def columns(self, target: Target) -> list[Column]:
        return [Column(name, name) for name in target.subtasks]

    @property
    def reads_answers(self) -> bool:
        return self.query == "full"

    def prepare(self, job: Job) -> _Index:
        references = [
            r.prompt if self.query == "prompt" else "\n".join(m.content for m in r.messages)
            for r in job.target.references
        ]
        queries = [
            words("\n".join(references[i] for i in rows), self.words) for rows in job.target.by_subtask().values()
        ]
        vocabulary = {word: i for i, word in enumerate(dict.fromkeys(w for q in queries for w in q))}
        counts = np.zeros((len(vocabulary), len(queries)))
        for column, query in enumerate(queries):
            for word, count in Counter(query).items():
                counts[vocabulary[word], column] = count
        frequency: Counter[str] = Counter()
        total_words = 0
        for shard, (start, stop) in enumerate(track(job.shards(), "indexing", job.shard_rows, len(job.pool))):
            tf, lengths, df = count_words(job.pool.texts(start, stop, self.document), vocabulary, self.words)
            frequency.update(df)
            total_words += int(lengths.sum())
            _save(job, shard, tf, lengths)
        n = len(job.pool)
        df_query = np.asarray([frequency.get(w, 0) for w in vocabulary], dtype=np.float64)
        idf = self._idf(df_query, n, frequency)
        return _Index(counts, idf, total_words / n)

    def score_rows(self, job: Job, state: _Index, rows: np.ndarray) -> np.ndarray:
        tf, lengths = _load(job, rows)
        at_zero = self._tf_part(np.zeros(1), np.ones(1), 1.0)[0]
        length = np.repeat(lengths, np.diff(tf.indptr))
        weight = self._tf_part(tf.data, length, state.mean_length) - at_zero
        matrix = sp.csr_matrix((weight * state.idf[tf.indices], tf.indices, tf.indptr), shape=tf.shape)
        return np.asarray(matrix @ state.counts) + at_zero * (state.idf @ state.counts)

    def _idf(self, df: np.ndarray, n: int, frequency: Counter[str]) -> np.ndarray:
        """Inverse document frequency [Q] of the query words; words that the pool lacks weigh nothing."""
        known = np.maximum(df, 1)
        if self.variant == "okapi":  # rank_bm25: a negative idf becomes epsilon x the mean over the vocabulary
            everything = np.fromiter(frequency.values(), dtype=np.float64, count=len(frequency))
            mean = float(np.mean(okapi_idf(everything, n))) if len(everything) else 0.0
            idf = okapi_idf(known, n)
            idf = np.where(idf < 0, self.epsilon * mean, idf)
        else:
            idf = {
                "robertson": lambda: np.log(np.maximum((n - known + 0.5) / (known + 0.5), 1)),
                "lucene": lambda: np.log(1 + (n - known + 0.5) / (known + 0.5)),
                "atire": lambda: np.log(n / known),
                "bm25l": lambda: np.log((n + 1) / (known + 0.5)),
                "bm25+": lambda: np.log((n + 1) / known),
            }[self.variant]()
        return np.where(df > 0, idf, 0.0)

    def _tf_part(self, tf: np.ndarray, length: np.ndarray, mean: float) -> np.ndarray:
        """Term frequency part of the weight (Kamphuis et al., ECIR 2020; Trotman et al. 2014)."""
        norm = 1 - self.b + self.b * length / (mean or 1.0)
        if self.variant == "bm25l":
            c = tf / norm
            return (self.k1 + 1) * (c + self.delta) / (self.k1 + c + self.delta)
        saturated = tf / (self.k1 * norm + tf)
        if self.variant in ("robertson", "lucene"):
            return saturated
        return (self.k1 + 1) * saturated + (self.delta if self.variant == "bm25+" else 0.0)


class _Index(NamedTuple):
    """Query word counts [Q, S], idf [Q], mean document length in words."""

    counts: np.ndarray
    idf: np.ndarray
    mean_length: float


def okapi_idf(df: np.ndarray, n: int) -> np.ndarray:
    """log((N - df + 0.5) / (df + 0.5)), negative for words in more than half of the documents."""
    return np.log(n - df + 0.5) - np.log(df + 0.5)


def words(text: str, split: Split = "whitespace") -> list[str]:
    """Lower-cased words without ASCII punctuation."""
    if split == "spaces":
        return _bare(text.replace("\n", " ")).decode().split(" ")
    return _bare(text).decode().split()


def _bare(text: str) -> bytes:
    """Lower-cased UTF-8 without ASCII punctuation; deleting single bytes below 128 cannot break a character."""
    return text.lower().encode().translate(None, _PUNCTUATION)


def count_words(
    texts: list[str], vocabulary: dict[str, int], split: Split = "whitespace"
) -> tuple[sp.csr_matrix, np.ndarray, dict[str, int]]:
    """Counts [n, Q] of the vocabulary's words, lengths [n] in words, and document frequency of every word.

    Arrow splits and numbers the words of a whole block at once; rows of a sparse matrix then add up repeats.
    """
    if split == "spaces":
        found = pc.split_pattern(pa.array([_bare(t.replace("\n", " ")) for t in texts], type=pa.string()), " ")
    else:
        found = pc.utf8_split_whitespace(pa.array([_bare(t) for t in texts], type=pa.string()))
    numbered = found.flatten().dictionary_encode()
    dictionary, code = numbered.dictionary.to_pylist(), numbered.indices.to_numpy().copy()
    ends = found.offsets.to_numpy().astype(np.int64)
    if (
        "" in dictionary and split == "whitespace"
    ):  # Arrow, unlike str.split, leaves an empty word at the edges of a text
        real = code != dictionary.index("")
        ends = np.r_[0, np.cumsum(real)][ends]
        code = code[real]
    shape = (len(texts), len(dictionary))
    tf = sp.csr_matrix((np.ones(len(code)), code, ends), shape=shape)
    tf.sum_duplicates()
    df = np.bincount(tf.indices, minlength=len(dictionary))
    column = np.fromiter((vocabulary.get(w, -1) for w in dictionary), dtype=np.int64, count=len(dictionary))
    wanted = column[tf.indices]
    kept = wanted >= 0
    indptr = np.r_[0, np.cumsum(kept)][tf.indptr]
    matrix = sp.csr_matrix((tf.data[kept], wanted[kept], indptr), shape=(len(texts), len(vocabulary)))
    return matrix, np.diff(ends), {w: n for w, n in zip(dictionary, df.tolist()) if n}


def _save(job: Job, shard: int, tf: sp.csr_matrix, lengths: np.ndarray) -> None:
    import io

    buffer = io.BytesIO()
    parts = {"data": tf.data.astype(np.float32), "indices": tf.indices.astype(np.int32), "indptr": tf.indptr}
    np.savez(buffer, **parts, lengths=lengths, columns=np.asarray(tf.shape[1]))
    write_atomic(job.scratch / f"words-{shard:05d}.npz", buffer.getvalue())


def _load(job: Job, rows: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts [n, Q] and lengths [n] of `rows`."""
    shards, places = np.unique(rows // job.shard_rows, return_inverse=True)
    found = [_load_shard(job, int(shard)) for shard in shards]
    starts = np.cumsum([0, *(len(lengths) for _, lengths in found[:-1])])
    at = starts[places] + rows % job.shard_rows
    tf, lengths = sp.csr_matrix(sp.vstack([tf for tf, _ in found])), np.concatenate([lengths for _, lengths in found])
    return (tf, lengths) if np.array_equal(at, np.arange(len(lengths))) else (tf[at], lengths[at])


def _load_shard(job: Job, shard: int) -> tuple[sp.csr_matrix, np.ndarray]:
    with np.load(job.scratch / f"words-{shard:05d}.npz") as z:
        shape = (len(z["lengths"]), int(z["columns"]))
        data = z["data"].astype(np.float64)
        return sp.csr_matrix((data, z["indices"], z["indptr"]), shape=shape), z["lengths"]
