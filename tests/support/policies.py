"""Small scores on disk and policies over them, for whoever tests policies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paydirt.selection.policies.base import POLICIES, Policy, Ranking, make_policy
from paydirt.selection.scores import Column, Reduction, Scores, shard_path, write_columns, write_shard

OPTIONS: dict[str, dict[str, Any]] = {"tsds": {"vectors": "similarities"}}  # what a policy must be told


VARIANTS: dict[str, list[dict[str, Any]]] = {  # what else of a policy goes through the battery
    "mmr": [{"weight": 0}],
    "facility": [{"weight": 0}, {"neighbours": 4}],
    "top": [{"shuffle_third": True}],
    "round_robin": [{"over": "reference"}],
    "knn": [{"draw": True}, {"nearest": 5}],
    "tsds": [{"draw": True}, {"draw": True, "repeat": 1}],
    "transport": [{"draw": True}, {"draw": True, "repeat": 2}],
    "quota": [{"by": "subtask", "unit": "tokens", "temperature": 2}, {"repeat": 2}, {"policy": "random"}],
}


SHARD = 16


every_policy = pytest.mark.parametrize("name", POLICIES.names())


every_variant = pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name in POLICIES.names() for o in ({}, *VARIANTS.get(name, []))], ids=str
)


def some_rows(n: int = 50, seed: int = 0, ties: bool = True, other: int = 0) -> list[tuple[str, str, np.ndarray]]:
    """(id, source, similarities [3]) of n examples; coarse values, so that many are equal; all may be cosines.

    Ids are those of `seed`; the values are others with each `other`.
    """
    draw, drawn = np.random.default_rng(seed), np.random.default_rng([seed, other])
    values = drawn.integers(0, 5, size=(n, 3)) / 4 if ties else drawn.uniform(-1, 1, size=(n, 3))
    return [(f"id-{draw.integers(1 << 30):09d}-{i}", "abc"[i % 3], values[i].astype(np.float32)) for i in range(n)]


COLUMNS = (Column("r0", "one"), Column("r1", "two"), Column("r2", "two"))


def scores_on_disk(
    root: Path,
    rows: list[tuple[str, str, np.ndarray]],
    columns: Sequence[Column] = COLUMNS,
    reduction: Reduction | None = None,
) -> Scores:
    """Scores of `rows`, whose similarities have a number for each of `columns`."""
    (root / "values").mkdir(parents=True)
    write_columns(root, columns, True, SHARD, reduction or Reduction())
    ids, sources, values = zip(*rows)
    tokens = [5 + zlib.crc32(id.encode()) % 4 for id in ids]
    table = {"id": ids, "source": sources, "tokens": tokens, "supervised": [2] * len(rows)}
    pq.write_table(pa.table(table), root / "rows.parquet")
    for shard, start in enumerate(range(0, len(rows), SHARD)):
        write_shard(root, shard, np.stack(values[start : start + SHARD]))
        assert shard_path(root, shard).exists()
    return Scores(root)


def ranking(scores: Scores, rows: np.ndarray | None = None) -> Ranking:
    score, _ = scores.reduce()
    return Ranking(scores, score, np.arange(len(scores)) if rows is None else rows)


def ids_in_order(policy: Policy, scores: Scores, limit: int | None = None, seed: int = 0, **more: Any) -> list[str]:
    made = ranking(scores, **more)
    order = policy.order(made, limit or len(made.rows), seed)
    return scores.ids[order].tolist()


def policy(name: str, **options: Any) -> Policy:
    return make_policy({"name": name, **OPTIONS.get(name, {}), **options})


def turns_by_hand(values: dict[str, list[float]], turns: int) -> list[str]:
    """Round robin as one would do it on paper: each turn takes the best example that nobody has taken."""
    left, out = set(values), []
    while left:
        for turn in range(turns):
            if left:
                best = min(left, key=lambda id: (-values[id][turn], id))
                left.remove(best)
                out.append(best)
    return out


def one_column(root: Path, columns: list[Column]) -> Scores:
    (root / "values").mkdir(parents=True)
    write_columns(root, columns, True, SHARD, Reduction(within="mean", across="max"))
    table = {"id": ["a", "b"], "source": ["s", "s"], "tokens": [5, 5], "supervised": [2, 2]}
    pq.write_table(pa.table(table), root / "rows.parquet")
    write_shard(root, 0, np.arange(2.0 * len(columns)).reshape(2, -1))
    return Scores(root)
