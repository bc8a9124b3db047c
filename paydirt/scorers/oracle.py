"""Oracle: the true labels as scores. Not a method, but the ceiling that methods are measured against.

Reads a JSONL of `{"id": ..., "score": ...}`; the built-in world writes one for each of its targets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.artifacts import file_digest
from paydirt.core.config import PathText
from paydirt.scoring.base import Job, Scorer


class Oracle(Scorer):
    """True labels, where a benchmark has them: the ceiling."""

    name: ClassVar[str] = "oracle"
    cost_note: ClassVar[str] = "not available outside benchmarks"
    source: ClassVar[str] = "nobody: the ceiling"
    use_when: ClassVar[str] = "to see the ceiling in the built-in world"

    labels: PathText = Field(description="JSONL of {id, score}; may hold {target} for the target's name")

    def _path(self, job: Job) -> Path:
        path = Path(self.labels.replace("{target}", job.target.name))
        if not path.is_file():
            raise ValueError(f"oracle: no labels at {path}")
        return path

    def inputs(self, job: Job) -> dict[str, str]:
        return {"labels": file_digest(self._path(job))}

    def prepare(self, job: Job) -> dict[str, float]:
        path = self._path(job)
        labels = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                labels[row["id"]] = float(row["score"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                raise ValueError(
                    f"{path}:{number}: expected a JSON object with id and score, found {line[:80]!r}"
                ) from None
        return labels

    def score_rows(self, job: Job, state: dict[str, float], rows: np.ndarray) -> np.ndarray:
        ids = job.pool.ids_at(rows)
        if missing := [i for i in ids if i not in state]:
            raise ValueError(f"oracle: no label for example {missing[0]!r}; {len(missing)} of {len(ids)} are missing")
        return np.asarray([state[i] for i in ids])
