"""Near-duplicates within a pool of any size: hashed bands on disk, then only what shares a band, component by component.

Enters: a pool and settings. Leaves: (row, row that stays, similarity) of each example to remove, in pool order: what one
pass over the pool with an index of all kept sets would find, since an example can only be compared with those that share
a band with it. Most share none with any; the others fall apart into components that know nothing of each other.
Memory: a few numbers a row (band by band), and `SETS` sets of shingles a process.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paydirt.data.curate import ranges
from paydirt.data.curate.minhash import NearIndex, banding
from paydirt.data.curate.ranges import Range, Spread, open_pool, over_ranges
from paydirt.data.curate.shingles import BASE, Hashes, jaccard, shingles
from paydirt.data.pool import Part, Pool

SETS = 1 << 16  # sets of shingles that a process holds
TOGETHER = 4096  # rows of components that one task takes
Found = tuple[int, int, float]


class Asked(NamedTuple):
    """What counts as a near-duplicate."""

    threshold: float
    ngram: int
    part: Part


def find_near(pool: Pool, asked: Asked, folder: Path, spread: Spread) -> list[Found]:
    """All near-duplicates, `folder` holding what a killed run need not make again."""
    NearIndex(asked.threshold)  # says what is missing before any work
    files = over_ranges(pool, _bands, asked, folder / "bands", "hashing bands", spread)
    rows, labels = _components(files, banding(asked.threshold)[0], len(pool))
    place = str(folder / "bands")
    tasks = [_Task(str(pool.path), asked, place, ranges.ROWS, part) for part in _cut(rows, labels)]
    return sorted(found for part in spread(_compare, tasks, "comparing") for found in part)


def _bands(asked: Range) -> bytes:
    """Hashes uint64 [n, bands] of the range's rows as .npy; 0 throughout for a text without words, which is like none."""
    how: Asked = asked.asked
    bands, width = banding(how.threshold)
    index = NearIndex(how.threshold)
    out = np.zeros((asked.stop - asked.start, bands), dtype=np.uint64)
    weights = np.cumprod(np.full(width, BASE, dtype=np.uint64), dtype=np.uint64)
    for at, text in enumerate(asked.open().texts(asked.start, asked.stop, how.part)):  # type: ignore[arg-type]
        own = shingles(text, how.ngram)
        if len(own):
            values = index.sketch(own).hashvalues[: bands * width].astype(np.uint64).reshape(bands, width)
            with np.errstate(over="ignore"):
                out[at] = _mixed((_mixed(values + np.uint64(1)) * weights).sum(axis=1, dtype=np.uint64)) | np.uint64(1)
    buffer = io.BytesIO()
    np.save(buffer, out)
    return buffer.getvalue()


def _mixed(x: Hashes) -> Hashes:
    """splitmix64's finaliser: equal numbers stay equal, others are told apart by 64 bits."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _column(files: Sequence[Path], band: int) -> Hashes:
    return np.concatenate([np.load(file, mmap_mode="r")[:, band] for file in files])


def _components(files: Sequence[Path], bands: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows that share a band with another, ascending, and the component of each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    labels = np.arange(size)
    shares = np.zeros(size, dtype=bool)
    for band in range(bands):
        keys = _column(files, band)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = np.flatnonzero((keys[1:] == keys[:-1]) & (keys[1:] != 0))
        one, other = order[same], order[same + 1]
        shares[one] = shares[other] = True
        joined = coo_array((np.ones(len(same), dtype=np.int8), (labels[one], labels[other])), shape=(size, size))
        labels = connected_components(joined, directed=False)[1][labels]
    rows = np.flatnonzero(shares)
    return rows, labels[rows]


def _cut(rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Whole components, about `TOGETHER` rows at a time, each part ascending."""
    order = np.argsort(labels, kind="stable")
    rows, labels = rows[order], labels[order]
    start = 0
    while start < len(rows):
        stop = min(start + TOGETHER, len(rows))
        stop = int(np.searchsorted(labels, labels[stop - 1], side="right"))
        yield np.sort(rows[start:stop])
        start = stop


class _Task(NamedTuple):
    """Rows of whole components of the pool at `pool`; their bands lie in `bands`, so many rows a file."""

    pool: str
    asked: Asked
    bands: str
    each: int
    rows: npt.NDArray[np.int64]


def _compare(task: _Task) -> list[Found]:
    """The near-duplicates among the task's rows, each compared with those before it that stay."""
    pool = open_pool(task.pool)

    @lru_cache(maxsize=SETS)
    def set_of(row: int) -> Hashes:
        return shingles(pool.texts_at(np.asarray([row]), task.asked.part)[0], task.asked.ngram)

    groups = _groups(task)
    kept: dict[int, list[int]] = defaultdict(list)  # of each group
    found: list[Found] = []
    for at, row in enumerate(task.rows.tolist()):
        own, mine = set_of(row), groups[at]
        others = sorted({other for group in mine for other in kept[group]})
        similarity, other = max(((jaccard(own, set_of(other)), -other) for other in others), default=(0.0, 0))
        if similarity >= task.asked.threshold:
            found.append((row, -other, similarity))
            continue
        for group in mine:
            kept[group].append(row)
    return found


def _groups(task: _Task) -> list[list[int]]:
    """For each row the groups of a common band that it is in."""
    rows, parts = task.rows, []
    for number in np.unique(rows // task.each).tolist():
        inside = rows[rows // task.each == number] - number * task.each
        parts.append(np.load(Path(task.bands) / f"{number:06d}", mmap_mode="r")[inside])
    keys = np.concatenate(parts)
    groups: list[list[int]] = [[] for _ in rows]
    first = 0
    for band in range(keys.shape[1]):
        _, of, counts = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        for at in np.flatnonzero(counts[of] > 1).tolist():
            groups[at].append(first + int(of[at]))
        first += len(counts)
    return groups
