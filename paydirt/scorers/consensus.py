"""Consensus: a method's mean rank over several of its own seeds, since one run's top is no truth.

Full gradients keep about .6 of their own top 5 % with another warm-up seed (METHODS section 2). The mean rank over seeds is
a yardstick that a cheaper method can be held against, and a truth that a predictor can be taught. Each seed is added to the
seeds of the method (warm-up, tuning, projection, points; nested methods too) and to the job's; each run is reduced to one
score an example as the method reduces it, and ranked; equal scores share their mean rank. 1 is the best, 1/N the worst.

Ranks are among the rows that are asked for.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from paydirt.core.seeds import draws, varied
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.methods import selection_cost
from paydirt.scorers.drop import Drop
from paydirt.scoring.base import OWN, Job, Method, Scorer
from paydirt.scoring.inputs import is_stochastic


class Consensus(Scorer):
    """Mean rank of a method over several of its own seeds."""

    name: ClassVar[str] = "consensus"
    libraries: ClassVar = ("numpy", "scipy")
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "the method's, for each seed; what no seed changes is paid once"
    source: ClassVar[str] = "ours"
    use_when: ClassVar[str] = "as a yardstick, or a truth to predict: what remains when tuning and warm-up vary"

    method: Method = Field(default_factory=Drop, description="any method that depends on a seed, with its options")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=2, description="added to the method's own seeds, in turn")

    @model_validator(mode="after")
    def _depends_on_seeds(self) -> Consensus:
        if not draws(self.method) and not is_stochastic(self.method):
            raise ValueError(f"method {self.method.name!r} depends on no seed; it is its own consensus")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {self.seeds} hold one twice; it would weigh double")
        return self

    def price(self, facts: Facts) -> Cost:
        """The method's price for every seed, but once for the parts that it names `seedless`."""
        once: frozenset[str] = getattr(self.method, "seedless", frozenset())
        cost = selection_cost(self.method, facts)
        parts = {k: v * (1 if k in once else len(self.seeds)) for k, v in cost.parts.items()}
        return Cost(sum(parts.values()), len(self.seeds) * cost.tokens, parts)

    def ceiling(self, facts: Facts) -> float:
        return len(self.seeds) * self.method.ceiling(facts)

    def row_charges(self, job: Job, rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """The method's for every seed; columns that seeds share count once."""
        charges: dict[str, np.ndarray] = {}
        for seed in self.seeds:
            found = varied(self.method, seed).row_charges(job, rows)
            if found is None:
                return None
            own = charges.get(OWN, np.zeros(len(rows))) + found.get(OWN, 0.0)
            charges |= {**found, OWN: own}
        return charges

    def prepare(self, job: Job) -> np.ndarray:
        """Mean rank [N] of the job's rows, as a share."""
        return self.among(self.raw_values(job))[:, 0]

    def raw_values(self, job: Job) -> np.ndarray:
        """One score by each seed [N, S]."""
        return np.stack([self._scores(job, seed) for seed in self.seeds], axis=1)

    def among(self, raw: np.ndarray) -> np.ndarray:
        """Mean rank [N, 1] among these rows."""
        from scipy.stats import rankdata

        return np.asarray(rankdata(raw, axis=0).mean(axis=1, keepdims=True) / len(raw))

    def score_rows(self, job: Job, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[job.places(rows)]

    def _scores(self, job: Job, seed: int) -> np.ndarray:
        """One score [n] by the method with that seed, in a scratch folder of its own."""
        method: Scorer = varied(self.method, seed)
        out = job.scratch / f"seed-{seed}"
        out.mkdir(exist_ok=True)
        inner = job.asking(job.rows, out)
        inner.seed, inner.remarks = job.seed + seed, {}
        scores = method.scores(inner)
        job.meter.absorb(inner.meter)
        job.remarks[f"seed {seed}"] = inner.remarks
        return scores
