"""Scores on disk: similarities in memory-mapped row shards, keyed by example id.

`Scores` reads what a score stage wrote: values float32 [N, C], one column for each reference (or subtask, for scorers
whose query is a subtask), C = 1 for pointwise scorers. `reduce` streams them to one score [N] and per-subtask scores
[N, S], without ever holding [N, C].
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from paydirt.core.artifacts import damaged, read_json, reading, write_atomic
from paydirt.core.config import Config

Statistic = Literal["mean", "max", "min"]
Across = Literal["mean", "max", "min", "pooled"]


class Reduction(Config):
    """How columns become one score: `within` a subtask, then `across` subtasks; `pooled` ignores subtasks."""

    within: Statistic = Field("mean", description="over the references of a subtask")
    across: Across = Field("mean", description="over subtasks")


class Column(NamedTuple):
    """What a column of similarities stands for: a reference (or a whole subtask) and the subtask it belongs to."""

    id: str
    subtask: str


def apply_statistic(name: Statistic, values: np.ndarray) -> np.ndarray:
    """[n, c] -> [n] in float64."""
    values = np.asarray(values, dtype=np.float64)
    if name == "mean":
        return np.asarray(values.mean(axis=1))
    return np.asarray(values.max(axis=1) if name == "max" else values.min(axis=1))


def by_subtask(values: np.ndarray, columns: Sequence[Column], within: Statistic) -> np.ndarray:
    """[n, C] -> [n, S], subtasks in order of first appearance."""
    names = list(dict.fromkeys(c.subtask for c in columns))
    groups = [[i for i, c in enumerate(columns) if c.subtask == name] for name in names]
    return np.stack([apply_statistic(within, values[:, group]) for group in groups], axis=1)


def reduced(values: np.ndarray, columns: Sequence[Column], how: Reduction) -> np.ndarray:
    """[n, C] -> [n]."""
    if how.across == "pooled":
        return apply_statistic(how.within, np.asarray(values))
    return apply_statistic(how.across, by_subtask(values, columns, how.within))


ROWS = pa.schema([("id", pa.string()), ("source", pa.string()), ("tokens", pa.int64()), ("supervised", pa.int64())])


class Scores:
    """The finished score directory `path`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._open: dict[int, np.ndarray] = {}
        layout = read_json(self.path, "columns.json")
        with reading(self.path, "columns.json"):
            self.columns = [Column(*map(str, c)) for c in layout["columns"]]
            self.pairwise = bool(layout["pairwise"])
            self.shard_rows = int(layout["shard_rows"])
            self.reduction = Reduction(**layout["reduction"])
        with reading(self.path, "rows.parquet"):
            self.rows = pq.read_table(self.path / "rows.parquet", schema=ROWS, memory_map=True)
        if not self.columns or self.shard_rows < 1 or any(self.rows[name].null_count for name in ("id", "tokens")):
            raise damaged(self.path, "columns.json or rows.parquet lacks values")

    def __len__(self) -> int:
        return self.rows.num_rows

    @cached_property
    def ids(self) -> np.ndarray:
        """Example ids [N] in row order."""
        return np.asarray(self.rows["id"].to_pylist(), dtype=object)

    @cached_property
    def sources(self) -> np.ndarray:
        return np.asarray(self.rows["source"].to_pylist(), dtype=object)

    @cached_property
    def tokens(self) -> np.ndarray:
        """Length [N] of each example in the unit that the manifest states."""
        return self.rows["tokens"].to_numpy()

    @property
    def subtasks(self) -> list[str]:
        return list(dict.fromkeys(c.subtask for c in self.columns))

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row number and values float32 [n, C] of each shard, memory-mapped."""
        for shard, start in enumerate(range(0, len(self), self.shard_rows)):
            yield start, self._shard(shard)

    def column(self, index: int) -> np.ndarray:
        """One column [N]."""
        return np.concatenate([np.asarray(block[:, index]) for _, block in self.blocks()])

    def row(self, row: int) -> np.ndarray:
        """Similarities [C] of one example."""
        shard, inside = divmod(row, self.shard_rows)
        return np.asarray(self._shard(shard)[inside])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Similarities float32 [n, C] of `rows` [n], in that order; take a block at a time."""
        out = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        shard = rows // self.shard_rows
        order = np.argsort(shard, kind="stable")
        starts = np.flatnonzero(np.diff(shard[order], prepend=-1))
        for at, stop in zip(starts, [*starts[1:], len(rows)]):
            here = order[at:stop]
            number = int(shard[here[0]])
            out[here] = self._mapped(number)[rows[here] - number * self.shard_rows]
        return out

    def _mapped(self, shard: int) -> np.ndarray:
        """The shard, kept mapped for who comes again."""
        if shard not in self._open:
            self._open[shard] = self._shard(shard)
        return self._open[shard]

    def _shard(self, shard: int) -> np.ndarray:
        """Values float32 [n, C], memory-mapped."""
        name = shard_path(self.path, shard).relative_to(self.path)
        with reading(self.path, str(name)):
            values = np.load(self.path / name, mmap_mode="r")
        expected = (min(self.shard_rows, len(self) - shard * self.shard_rows), len(self.columns))
        if not isinstance(values, np.ndarray) or values.shape != expected or values.dtype != np.float32:
            raise damaged(self.path, f"{name} is not float32 {expected}")
        return values

    def reduce(self, reduction: Reduction | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Score float64 [N] and per-subtask scores float32 [N, S]."""
        how = reduction or self.reduction
        score = np.empty(len(self))
        parts = np.empty((len(self), len(self.subtasks)), dtype=np.float32)
        for start, block in self.blocks():
            rows = slice(start, start + len(block))
            parts[rows] = here = by_subtask(block, self.columns, how.within)
            if how.across == "pooled":
                score[rows] = apply_statistic(how.within, np.asarray(block))
            else:
                score[rows] = apply_statistic(how.across, here)
        return score, parts


def shard_path(root: Path, shard: int) -> Path:
    return Path(root) / "values" / f"{shard:05d}.npy"


def write_shard(root: Path, shard: int, values: np.ndarray) -> None:
    """Write values [n, C] as float32, whole or not at all. NaN and infinity are errors, not scores."""
    import io

    if not np.isfinite(values).all():
        bad = int(np.argwhere(~np.isfinite(values).all(axis=1))[0, 0])
        raise ValueError(f"shard {shard}, row {bad}: the score is not finite; see `paydirt doctor` for the model")
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, dtype=np.float32))
    write_atomic(shard_path(root, shard), buffer.getvalue())


def write_columns(root: Path, columns: Sequence[Column], pairwise: bool, shard_rows: int, reduction: Reduction) -> None:
    layout = {
        "pairwise": pairwise,
        "shard_rows": shard_rows,
        "reduction": reduction.to_dict(),
        "columns": [list(c) for c in columns],
    }
    write_atomic(root / "columns.json", json.dumps(layout, ensure_ascii=False))
