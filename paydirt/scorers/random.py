"""Random: the baseline that every method has to beat, and often the one that a budget should buy."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np

from paydirt.scoring.base import Job, Scorer


class Random(Scorer):
    """Uniform random scores, a function of seed and example id alone."""

    name: ClassVar[str] = "random"
    stochastic: ClassVar[bool] = True
    uses_target: ClassVar[bool] = False
    cost_note: ClassVar[str] = "0"
    source: ClassVar[str] = "nobody: the baseline"
    use_when: ClassVar[str] = "always, as the baseline; large budgets"

    def score_rows(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        key = str(job.seed).encode()

        def uniform(example_id: str) -> float:
            digest = hashlib.blake2b(example_id.encode(), digest_size=8, key=key).digest()
            return int.from_bytes(digest, "big") / 2**64

        return np.asarray([uniform(i) for i in job.pool.ids_at(rows)])
