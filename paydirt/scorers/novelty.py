"""Novelty: how far an example is from all that would be chosen before it, where the farthest is always chosen next.

The order of greedy k-centre (Gonzalez 1985) over sentence embeddings, kept as a score: distances between unit vectors, 0 for
a copy, 2 at most. References are not read. It begins with the example of the first id; outliers come early, and noise with
them. The policy `k_centre` at weight 0 has the same order over any vectors, and its search, exact up to 20,000 examples, is
what is used here.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.scorers.embed import Embed
from paydirt.scoring.base import Job
from paydirt.selection.policies.lazily import away_from_chosen
from paydirt.selection.scores import Reduction


class Novelty(Embed):
    """Distance to the nearest example chosen before, the farthest chosen next; copies come last."""

    name: ClassVar[str] = "novelty"
    libraries: ClassVar[tuple[str, ...]] = (*Embed.libraries, "faiss-cpu")
    pairwise: ClassVar[bool] = False
    uses_target: ClassVar[bool] = False
    cost_note: ClassVar[str] = "2 P_embed T; CPU seconds as the policy k_centre over the whole pool"
    source: ClassVar[str] = "Gonzalez 1985"
    use_when: ClassVar[str] = "no target at hand: a pool of many near-copies"
    reduction: ClassVar[Reduction] = Reduction()

    def price(self, facts: Facts) -> Cost:
        """The encoder reads the pool, and no reference."""
        encoder = facts.encoder_of(self)
        forward = 2.0 * encoder.parameters * encoder.pool.total
        return Cost(forward, round(encoder.pool.total), {"forward": forward})

    def prepare(self, job: Job) -> np.ndarray:  # type: ignore[override]
        """Distance of each example that is asked for to the nearest of them chosen before it."""
        column = job.filled(self.column(job))
        ids = np.concatenate([np.asarray(job.pool.ids(start, stop), dtype=str) for start, stop in job.shards()])[
            job.rows
        ]
        place = np.empty(len(ids), dtype=np.int64)
        place[np.argsort(ids, kind="stable")] = np.arange(len(ids))
        path, vectors = job.scratch / "unit.npy", None
        for rows in job.blocks():
            block = column.read(rows).array("vectors")
            if vectors is None:
                vectors = _empty(path, (len(ids), block.shape[1]))
            vectors[place[job.places(rows)]] = block
        assert vectors is not None
        order, nearest = away_from_chosen(vectors, np.zeros(len(ids)), _distance, len(ids))
        out = np.empty(len(ids))
        out[order] = _distance(np.zeros(len(ids)), nearest)
        return np.asarray(out[place])

    def score_rows(self, job: Job, state: np.ndarray, rows: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.asarray(state[job.places(rows)])


def _distance(quality: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Distances [n] of unit vectors from their cosines; 2 where nothing is chosen yet."""
    return np.asarray(np.sqrt(np.maximum(2 - 2 * nearest.astype(np.float64), 0)))


def _empty(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
