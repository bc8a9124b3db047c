"""Greedy choice without looking at everybody at each step: values only fall as more is chosen, so old ones are upper bounds.

What enters: unit vectors in order of ids, a quality in [0, 1], a rule. What leaves: places in the order chosen, ties by
place. Who is not near the top keeps an old value, worked out anew only when it comes there. Up to `EXACT` rows the order is
that of plain greedy; beyond, who has missed many of the chosen asks an index for the nearest (see `chosen`), and the work
grows about as the rows do. Which of the two depends on the number of rows alone, so orders stay the same for every budget.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

from paydirt.selection.policies.chosen import MISSED, PASS, Chosen
from paydirt.selection.policies.neighbours import EXACT, cosines, load_faiss

BLOCK = 1024  # candidates whose values are brought up to date together

Value = Callable[[np.ndarray, np.ndarray], np.ndarray]


def away_from_chosen(
    vectors: np.ndarray,
    quality: np.ndarray,
    value: Value,
    limit: int,
    block: int = BLOCK,
    exact: int = EXACT,
    missed: int = MISSED,
) -> tuple[np.ndarray, np.ndarray]:
    """Places [limit] chosen one after another by the highest `value(quality, nearest)`, the best quality first.

    `nearest` [n] is the cosine to the nearest that is chosen already; `value` must not rise with it. Beside the places
    stands what it was for each when it was chosen; -1, as far as can be, for the first.
    """
    n = len(vectors)
    limit = min(limit, n)
    if n > exact and limit > missed:
        load_faiss()  # where it is missing, before the work and not in the midst of it
    first = int(np.argmax(quality))
    chosen, met = Chosen(vectors, n > exact, missed), [np.float32(-1)]
    chosen.places.append(first)
    nearest = np.empty(n, dtype=np.float32)
    for start in range(0, n, PASS):
        nearest[start : start + PASS] = cosines(vectors[start : start + PASS], vectors[[first]])[:, 0]
    bound = np.asarray(value(quality, nearest), dtype=np.float64)
    bound[first] = -np.inf
    known = np.ones(n, dtype=np.int64)  # how many of the chosen a bound has heard of
    while len(chosen) < limit:
        top, edge, rival = _top(bound, block)
        rows = np.asarray(vectors[top])
        nearest[top] = np.maximum(nearest[top], chosen.nearest(rows, known[top]))
        own = np.where(np.isneginf(bound[top]), -np.inf, value(quality[top], nearest[top]))  # the chosen stay chosen
        near = nearest[top]
        while len(chosen) < limit:
            best = int(np.argmax(own))
            if own[best] < edge or (own[best] == edge and top[best] > rival) or own[best] == -np.inf:
                break
            chosen.places.append(int(top[best]))
            met.append(near[best])
            near = np.maximum(near, cosines(rows, rows[best : best + 1])[:, 0])
            own = np.where(np.isneginf(own), own, value(quality[top], near))
            own[best] = -np.inf
        nearest[top], bound[top], known[top] = near, own, len(chosen)
    return np.asarray(chosen.places), np.asarray(met)


def _top(bound: np.ndarray, block: int) -> tuple[np.ndarray, float, int]:
    """The `block` highest places in rising order (ties by place), the next highest bound and the first place of it."""
    if block >= len(bound):
        return np.arange(len(bound)), -np.inf, len(bound)
    edge = float(-np.partition(-bound, block)[block])
    above, level = np.flatnonzero(bound > edge), np.flatnonzero(bound == edge)
    room = block - len(above)
    return np.sort(np.concatenate([above, level[:room]])), edge, int(level[room])


def covering(similar: Any, quality: np.ndarray, weight: float, limit: int) -> np.ndarray:
    """Places [limit] that greedily cover all by facility location, `weight` of the value being quality.

    `similar` [n, n] sparse, not negative: row j holds whom j accepts as its own. The value of i is weight x quality + (1 -
    weight) x what i adds to the sum over j of the best similarity to a chosen one, as a share of the most that one can add.
    """
    by_place = similar.tocsc()
    edges, rows, values = by_place.indptr, by_place.indices, by_place.data.astype(np.float64)
    n = len(quality)
    covered = np.zeros(n)
    first = np.add.reduceat(np.append(values, 0.0), np.minimum(edges[:-1], len(values)))
    first[edges[:-1] == edges[1:]] = 0
    scale = (1 - weight) / (first.max() or 1.0)
    heap = [
        (-(weight * q + scale * gain), place) for place, (q, gain) in enumerate(zip(quality.tolist(), first.tolist()))
    ]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < limit:
        _, place = heapq.heappop(heap)
        who = rows[edges[place] : edges[place + 1]]
        like = values[edges[place] : edges[place + 1]]
        added = float(np.maximum(like - covered[who], 0).sum())
        now = (-(weight * float(quality[place]) + scale * added), place)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        chosen.append(place)
        covered[who] = np.maximum(covered[who], like)
    return np.asarray(chosen)
