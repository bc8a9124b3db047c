"""The highest few of each column of a matrix that is read once, a block of rows at a time.

What enters: blocks [n, C] with the places of their rows, rising. What leaves: for each column the places of its highest
values, highest first, equal ones by place, and the values. In memory are a block and at most about twice k x C values.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def highest(blocks: Iterable[tuple[np.ndarray, np.ndarray]], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places int64 [C, k] and values [C, k]; fewer than `k` where there are fewer rows."""
    value: np.ndarray | None = None
    column, place = np.zeros(0, np.int32), np.zeros(0, np.int64)
    waiting: list[tuple[np.ndarray, ...]] = []
    held = rows = 0
    for places, block in blocks:
        if value is None:
            width, value = block.shape[1], np.zeros(0, block.dtype)
            least, full = np.zeros(width, dtype=block.dtype), np.zeros(width, dtype=bool)
        at, col = np.nonzero((block > least) | ~full)  # once a list is full, equals lose: they come later
        waiting.append((col.astype(np.int32), places[at], block[at, col]))
        held, rows = held + len(at), rows + len(block)
        if held >= k * width:
            column, place, value = _kept((column, place, value), waiting, k)
            full = np.bincount(column, minlength=width) >= k
            last = np.searchsorted(column, np.arange(width)) + k - 1
            least[full] = value[last[full]]
            waiting, held = [], 0
    assert value is not None, "a pool has rows"
    column, place, value = _kept((column, place, value), waiting, k)
    return place.reshape(width, min(k, rows)), value.reshape(width, min(k, rows))


def _kept(known: tuple[np.ndarray, ...], waiting: list[tuple[np.ndarray, ...]], k: int) -> tuple[np.ndarray, ...]:
    """Columns, places and values of the `k` highest of each column, column by column, highest first."""
    more: list[tuple[np.ndarray, ...]] = [*zip(*waiting)] or [(), (), ()]
    column, place, value = (np.concatenate([a, *others]) for a, others in zip(known, more))
    order = np.lexsort((place, -value, column))
    column = column[order]
    rank = np.arange(len(order)) - np.searchsorted(column, column)
    keep = rank < k
    return column[keep], place[order][keep], value[order][keep]
