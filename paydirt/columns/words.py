"""Words: latent semantic analysis of prompts and of answers, hashed, weighted by TF-IDF. No accelerator, no FLOPs counted.

Directions come from a sample spread over the ids, so they do not depend on the order of the rows. Who opens the column
first finds them and leaves them in its folder; all workers use the same.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paydirt.columns.spec import Block, PoolRef, Spec
from paydirt.data.pool import Pool

HASHES = 1 << 16  # columns that words are hashed into, for prompts and for answers
SAMPLE = 20_000  # examples that the main directions are found on
DIRECTIONS = 192  # of prompts, and as many of answers


class Words(Spec):
    """Vectors float32 [n, up to 2 x directions]: main directions of the words of prompts and of answers."""

    name: ClassVar[str] = "words"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy", "scikit-learn")

    pool: PoolRef
    hashes: int = HASHES
    sample: int = SAMPLE
    directions: int = DIRECTIONS

    @property
    def size(self) -> int:
        return self.pool.size

    def open(self, folder: Path) -> WordWorker:
        return WordWorker(self, folder)


class WordWorker:
    """Two spaces: of prompts and of answers."""

    device = "cpu"

    def __init__(self, spec: Words, folder: Path) -> None:
        self.spec, self.pool = spec, spec.pool.open()
        found = self._found(folder)
        self.spaces = [(found[f"idf.{part}"], found[f"directions.{part}"]) for part in ("prompt", "answer")]

    def __call__(self, rows: np.ndarray) -> Block:
        examples = self.pool.take(rows)
        parts = []
        for (idf, directions), texts in zip(self.spaces, _texts(examples)):
            parts.append(self._weighted(self._counts(texts), idf) @ directions.T)
        vectors = np.concatenate(parts, axis=1).astype(np.float32)
        return Block({"vectors": vectors}, np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64))

    def _found(self, folder: Path) -> dict[str, np.ndarray]:
        from safetensors.numpy import load_file, save_file

        path = folder / "directions.safetensors"
        if not path.exists():
            part = path.with_name(f".{uuid.uuid4().hex}.part")
            save_file(self._find(self.pool), part)
            try:
                os.link(part, path)
            except FileExistsError:
                pass  # another process was first, and its directions hold
            finally:
                part.unlink()
        return load_file(path)

    def _find(self, pool: Pool) -> dict[str, np.ndarray]:
        from sklearn.decomposition import TruncatedSVD

        ids = np.asarray(pool.ids(), dtype=object)
        order = np.argsort(ids, kind="stable")
        sample = order[np.linspace(0, len(order) - 1, min(self.spec.sample, len(order))).astype(np.int64)]
        found: dict[str, np.ndarray] = {}
        for part, texts in zip(("prompt", "answer"), _texts(pool.take(sample))):
            counts = self._counts(texts)
            idf = np.log((1 + counts.shape[0]) / (1 + np.bincount(counts.indices, minlength=self.spec.hashes))) + 1
            size = max(1, min(self.spec.directions, counts.shape[0] - 1))
            svd = TruncatedSVD(size, n_iter=3, random_state=0).fit(self._weighted(counts, idf))
            found |= {f"idf.{part}": idf, f"directions.{part}": np.ascontiguousarray(svd.components_)}
        return found

    def _counts(self, texts: list[str]) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        hashing = HashingVectorizer(
            n_features=self.spec.hashes,
            ngram_range=(1, 2),
            alternate_sign=False,
            norm=None,
            token_pattern=r"\w+|[^\w\s]",
        )
        return hashing.transform(texts)

    def _weighted(self, counts: Any, idf: np.ndarray) -> Any:
        from sklearn.preprocessing import normalize

        weighted = counts.copy()
        weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
        return normalize(weighted)


def _texts(examples: list[Any]) -> tuple[list[str], list[str]]:
    """User turns and assistant turns of each example."""

    def of(role: str) -> list[str]:
        return ["\n".join(m.content for m in e.messages if m.role == role) for e in examples]

    return of("user"), of("assistant")
