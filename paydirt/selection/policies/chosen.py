"""Whom a row is nearest to among those chosen so far: with each of them where few are new to it, by an index where many are.

What enters: unit vectors and places, one after another. What leaves: highest cosines. The index is faiss's HNSW graph over
the chosen (an extra, `paydirt-llm[neighbours]`; why faiss: see `neighbours`): it grows by one entry at a time, and finds
what is far as well as what is near, which a graph of every example's own neighbours does not. What a search misses makes
a row look farther from the chosen than it is, never nearer. One thread builds it, so the same places give the same graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paydirt.selection.policies.neighbours import cosines, load_faiss, rounded

PASS = 4096  # vectors multiplied with at a time
# Chosen ones that a row is compared with about as fast as the index finds the nearest: who has missed more asks it.
MISSED = 16384
LINKS, BREADTH = 32, 64  # of an entry of the graph; entries that a search keeps in view


class Chosen:
    """Places chosen among unit vectors [n, d], in order."""

    def __init__(self, vectors: np.ndarray, indexed: bool, missed: int = MISSED) -> None:
        self.vectors, self.missed, self.indexed = vectors, missed, indexed
        self.places: list[int] = []
        self._index: Any = None

    def __len__(self) -> int:
        return len(self.places)

    def nearest(self, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Highest cosine [n] of `rows` [n, d] to the chosen, of which each has met the first `known` [n] before.

        Those that it has met may count again, or not.
        """
        out = np.full(len(rows), -np.inf, dtype=np.float32)
        far = np.full(len(rows), self.indexed) & (len(self) - known > self.missed)
        if far.any():
            out[far] = self._searched(rows[far])
        if not far.all():
            close = rows[~far]
            for start in range(int(known[~far].min()), len(self), PASS):
                similar = cosines(close, self.vectors[self.places[start : start + PASS]])
                out[~far] = np.maximum(out[~far], similar.max(axis=1))
        return out

    def _searched(self, rows: np.ndarray) -> np.ndarray:
        faiss = load_faiss()
        if self._index is None:
            self._index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efSearch = BREADTH
        new = self.places[self._index.ntotal :]
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            for start in range(0, len(new), PASS):
                self._index.add(np.ascontiguousarray(self.vectors[new[start : start + PASS]], dtype=np.float32))
        finally:
            faiss.omp_set_num_threads(threads)
        found, numbers = self._index.search(np.ascontiguousarray(rows, dtype=np.float32), 1)
        return np.where(numbers[:, 0] < 0, np.float32(-1), rounded(found[:, 0]))
