"""Length: longer is better. An honest baseline, since many learned scores turn out to measure it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.scoring.base import Job, Scorer


class Length(Scorer):
    """Tokens of the example (words, when no model gives a tokenizer)."""

    name: ClassVar[str] = "length"
    uses_target: ClassVar[bool] = False
    cost_note: ClassVar[str] = "0"
    source: ClassVar[str] = "arXiv 2402.04833"
    use_when: ClassVar[str] = "as a baseline; general chat data"

    part: Literal["all", "supervised"] = Field("all", description="count all tokens or the supervised ones")

    def prepare(self, job: Job) -> np.ndarray:
        if self.part == "all":
            return job.lengths()[0]
        if job.model is None:
            raise ValueError("length of supervised tokens needs a tokenizer; give --model, or use part 'all'")
        return job.tokens.supervised_lengths

    def score_rows(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        return np.asarray(state[rows], dtype=np.float64)
