"""Nearest neighbours among unit vectors: exact by blocks for some thousand rows, by faiss's inverted lists for more.

faiss (an extra, `paydirt-llm[neighbours]`) because it is what TSDS itself uses, has wheels for every platform, needs numpy
alone, and gives the same lists for the same vectors; hnswlib has no wheels, pynndescent brings a compiler. Which of the two
ways is taken depends on the number of rows, never on what is installed. Rows come in order of ids, so lists do not depend
on the pool's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

EXACT = 20_000  # rows up to which every pair is looked at
BLOCK = 1 << 24  # similarities held at a time
STEP = np.float32(1e-6)  # cosines are rounded to this, so that copies are equal whatever the order of additions


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines float32 [n, m] of unit rows [n, d] and [m, d], rounded."""
    return rounded(np.asarray(left) @ np.asarray(right).T)


def rounded(found: np.ndarray) -> np.ndarray:
    """Cosines float32 to the nearest `STEP`, in place."""
    found /= STEP
    np.rint(found, out=found)
    found *= STEP
    return found


def nearest_neighbours(
    vectors: np.ndarray, k: int, exact: int = EXACT
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """For blocks of rows: the numbers [n, k] of each row's nearest rows and their cosines, nearest first, itself included.

    Equally near ones come in their order where every pair is looked at. Missing ones (a list of faiss that holds fewer) have
    the number -1 and the cosine -1.
    """
    n = len(vectors)
    k = min(k, n)
    if n > exact:
        yield from _by_lists(vectors, k)
        return
    for start in range(0, n, max(1, BLOCK // n)):
        part = slice(start, min(start + max(1, BLOCK // n), n))
        similar = cosines(vectors[part], vectors)
        numbers = _highest(similar, k)
        values = np.take_along_axis(similar, numbers, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        yield part, np.take_along_axis(numbers, order, axis=1), np.take_along_axis(values, order, axis=1)


def _highest(similar: np.ndarray, k: int) -> np.ndarray:
    """Numbers [n, k] of each row's `k` highest in rising order; of those as high as the last one, the first."""
    n = similar.shape[1]
    if k == n:
        return np.broadcast_to(np.arange(n), similar.shape)
    numbers = np.sort(np.argpartition(similar, n - k, axis=1)[:, n - k :], axis=1)
    edge = np.take_along_axis(similar, numbers, axis=1).min(axis=1, keepdims=True)
    for row in np.flatnonzero((similar >= edge).sum(axis=1) > k).tolist():
        above, level = np.flatnonzero(similar[row] > edge[row]), np.flatnonzero(similar[row] == edge[row])
        numbers[row] = np.sort(np.concatenate([above, level[: k - len(above)]]))
    return numbers


def _by_lists(vectors: np.ndarray, k: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """By faiss: rows in lists around 4 sqrt(n) centres, of which each search looks at 32, or at what k needs."""
    faiss = load_faiss()
    n, d = vectors.shape
    lists = int(4 * np.sqrt(n))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = 1234, 5  # centres need not be good, and finding them is half of the work
    training = np.linspace(0, n - 1, min(n, 40 * lists)).astype(np.int64)
    index.train(np.ascontiguousarray(vectors[training], dtype=np.float32))
    for start in range(0, n, 1 << 16):
        index.add(np.ascontiguousarray(vectors[start : start + (1 << 16)], dtype=np.float32))
    index.nprobe = min(lists, max(32, -(-4 * k * lists // n)))
    for start in range(0, n, 1 << 14):
        part = slice(start, min(start + (1 << 14), n))
        values, numbers = index.search(np.ascontiguousarray(vectors[part], dtype=np.float32), k)
        values = np.where(numbers < 0, -1, np.round(values, 6))
        order = np.lexsort((numbers, -values), axis=1)
        yield part, np.take_along_axis(numbers, order, axis=1), np.take_along_axis(values, order, axis=1)


def load_faiss() -> Any:
    """The library; ValueError where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise ValueError(
            f"neighbours among more than {EXACT} vectors are found with faiss: pip install 'paydirt-llm[neighbours]'"
        ) from None
    return faiss


def densities(vectors: np.ndarray, sigma: float, k: int, exact: int = EXACT) -> np.ndarray:
    """Kernel density float64 [n] of unit rows: sum over the `k` nearest (itself included) of max(0, 1 - d^2 / sigma^2)."""
    out = np.empty(len(vectors))
    for part, _, similar in nearest_neighbours(vectors, k, exact):
        squared = np.maximum(2 - 2 * similar.astype(np.float64), 0)
        out[part] = np.maximum(1 - squared / sigma**2, 0).sum(axis=1)
    return np.maximum(out, 1e-12)
