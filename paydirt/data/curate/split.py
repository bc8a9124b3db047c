"""Split a source into training points for a predictor and the pool to select from (METHODS section 2, document 001).

The points are drawn at random by a seed, from one source or from each. Files are named as document 001 names them:
`val_<source>_data.jsonl` holds the points, `train_<source>_data.jsonl` the pool.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from paydirt.core.artifacts import Artifact, Replace, build, open_artifact, write_atomic
from paydirt.core.config import Config
from paydirt.data.pool import Pool
from paydirt.data.subset import write_rows


class SplitConfig(Config):
    """How many points, and of which source."""

    points: float = Field(
        0.5, gt=0, le=1e15, description="training points: a whole count, or a share where it is below 1"
    )
    source: str | None = Field(None, description="split this source, the others going to the pool; null: all together")
    seed: int = Field(0, ge=0, lt=1 << 64)

    @field_validator("points")
    @classmethod
    def _whole(cls, points: float) -> float:
        if points >= 1 and points != int(points):
            raise ValueError(f"{points:g} is neither a share below 1 nor a whole number of points")
        return points


def split(
    pool: Pool, config: SplitConfig, out: Path, told: dict[str, Any] | None = None, replace: Replace = "nothing"
) -> Artifact:
    """Write both parts to `out`, `told` being what `config.yaml` shall hold.

    ValueError where the source is unknown or has too few examples.
    """
    sources = np.asarray(pool.sources(), dtype=object)
    if config.source is not None and config.source not in pool.source_counts():
        raise ValueError(f"the pool has no source {config.source!r}; it has: {', '.join(pool.source_counts())}")
    eligible = np.arange(len(pool)) if config.source is None else np.flatnonzero(sources == config.source)
    count = round(config.points * len(eligible)) if config.points < 1 else int(config.points)
    if not 0 < count < len(eligible):
        raise ValueError(
            f"points: {config.points:g} makes {count} training points of {len(eligible)} examples: both parts need some; "
            f"give a count from 1 to {len(eligible) - 1}, or a share"
        )

    def make(part: Path) -> dict[str, Any]:
        # Drawn among ids in sorted order, so that the order of the pool's files does not matter.
        ids = sorted(pool.id_at(int(row)) for row in eligible)
        drawn = np.random.default_rng(config.seed).choice(len(ids), count, replace=False)
        chosen = set(pool.rows_of([ids[i] for i in drawn]).tolist())
        points = np.asarray(sorted(chosen), dtype=np.int64)
        rest = np.asarray([row for row in range(len(pool)) if row not in chosen], dtype=np.int64)
        write_rows(pool, points, part, "val_{source}_data.jsonl")
        write_rows(pool, rest, part, "train_{source}_data.jsonl")
        summary = {"points": len(points), "pool": len(rest)}
        write_atomic(part / "split.json", json.dumps({**summary, "point_ids": pool_ids(pool, points)}))
        return {**summary, "pool": pool.account()}

    inputs = {"pool": pool.fingerprint, "records": open_artifact(pool.path).fingerprint}  # records are written whole
    told = told or config.to_dict()
    return build(out, "split", told, inputs, make, config.to_dict(), libraries=["numpy"], replace=replace)


def pool_ids(pool: Pool, rows: np.ndarray) -> list[str]:
    """Ids at `rows`."""
    return [example.id for example in pool.take(rows)]
