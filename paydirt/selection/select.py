"""The select stage: scores, a policy and a budget to a JSONL of chosen examples in rank order.

Leaves `selection.jsonl` (the pool's own records, all original fields), `scores.parquet` (id, source, tokens, score,
per-subtask scores, rank; rank is null for what was not chosen) and `selection.json` (ids in rank order, counts).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from paydirt.artifacts import damaged, read_json, write_atomic
from paydirt.config import Config
from paydirt.data.pool import Pool
from paydirt.scores import Reduction, Scores
from paydirt.selection.budget import Budget
from paydirt.selection.policies.base import PolicyField, Ranking, make_policy

BLOCK = 4096


class SelectionConfig(Config):
    """How scores become a selection."""

    policy: PolicyField = Field(default_factory=lambda: make_policy("top"), description="order of the pool")
    reduction: Reduction | None = Field(None, description="how similarities become one score; null: the method's own")


@dataclass(frozen=True)
class Selection:
    """Chosen rows in rank order, and the scores they were chosen by."""

    rows: np.ndarray
    score: np.ndarray
    by_subtask: np.ndarray
    excluded: int


def choose(
    scores: Scores, config: SelectionConfig, budget: Budget, seed: int = 0, flops_per_token: float | None = None
) -> Selection:
    """Rank the pool and cut the ranking. Examples without a supervised token cannot train and are left out, counted."""
    score, by_subtask = scores.reduce(config.reduction)
    supervised = scores.rows["supervised"]
    known = supervised.null_count == 0
    eligible = np.flatnonzero(supervised.to_numpy() > 0) if known else np.arange(len(scores))
    if not len(eligible):
        raise ValueError("no example of the pool has a supervised token; check the chat template and max_length")
    ranking = Ranking(scores, score, eligible, config.reduction or scores.reduction)
    order = config.policy.order(ranking, len(eligible), seed)
    size = budget.size(scores.tokens[order], flops_per_token, len(eligible))
    return Selection(order[:size], score, by_subtask, len(scores) - len(eligible))


def write_selection(part: Path, pool: Pool, scores: Scores, selection: Selection) -> dict[str, Any]:
    """Write the three files; returns notes for the manifest."""
    ids = scores.ids[selection.rows]
    rows = pool.rows_of(ids)  # the pool may hold the same examples in another order than when it was scored
    with open(part / "selection.jsonl", "w", encoding="utf-8") as handle:
        for start in range(0, len(rows), BLOCK):
            for record in pool.records(rows[start : start + BLOCK]):
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_table(part / "scores.parquet", scores, selection)
    tokens = int(scores.tokens[selection.rows].sum())
    summary = {"examples": len(ids), "tokens": tokens, "excluded_without_supervised_tokens": selection.excluded}
    write_atomic(part / "selection.json", json.dumps({**summary, "ids": list(ids)}, ensure_ascii=False))
    return summary


def write_table(path: Path, scores: Scores, selection: Selection) -> None:
    """Every pool example with its scores and rank, in row order, streamed."""
    rank = np.full(len(scores), -1, dtype=np.int64)
    rank[selection.rows] = np.arange(1, len(selection.rows) + 1)
    names = [f"score[{name}]" for name in scores.subtasks] if scores.pairwise else []
    fields = [("id", pa.string()), ("source", pa.string()), ("tokens", pa.int64()), ("score", pa.float64())]
    schema = pa.schema([*fields, *((n, pa.float32()) for n in names), ("rank", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(scores), 1 << 16):
            part = slice(start, min(start + (1 << 16), len(scores)))
            ranks = pa.array(rank[part], mask=rank[part] < 0)
            columns = [
                scores.rows[n].slice(start, part.stop - start).combine_chunks() for n in ("id", "source", "tokens")
            ]
            columns.append(pa.array(selection.score[part]))
            columns += [pa.array(selection.by_subtask[part, i]) for i in range(len(names))]
            writer.write_table(pa.table([*columns, ranks], schema=schema))


def selected_ids(directory: Path) -> list[str]:
    """Ids in rank order of a finished selection."""
    directory = Path(directory)
    ids = read_json(directory, "selection.json").get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise damaged(directory, "selection.json holds no list of ids, each a text")
    return ids
