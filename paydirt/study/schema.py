"""The columns of a study's results table, and reading one that may be older, another's or damaged.

What enters: `results.parquet`. What leaves: rows as dicts with every column of `SCHEMA`, null where the table has none.
Only task, method, fraction and score must be there. Rows are grouped by everything that makes scores comparable
(`Group`): task, model by name, identity and size, and metric.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from paydirt.core.progress import say

Row = dict[str, Any]
ZERO_SHOT = "zero-shot"
NEEDED = ("task", "method", "fraction", "score")
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("model", pa.string()),
        ("method", pa.string()),
        ("metric", pa.string()),
        ("fraction", pa.float64()),
        ("seed", pa.int64()),
        ("selection_seed", pa.int64()),
        ("score", pa.float64()),
        ("reference_loss", pa.float64()),
        ("precision", pa.float64()),
        ("n_examples", pa.int64()),
        ("tokens", pa.int64()),
        ("selection_flops", pa.float64()),
        ("training_flops", pa.float64()),
        ("total_flops", pa.float64()),
        ("measured_training_flops", pa.float64()),
        ("selection_seconds", pa.float64()),
        ("training_seconds", pa.float64()),
        ("train_params", pa.int64()),
        ("selector_params", pa.int64()),
        ("selection", pa.string()),
        ("tuned_model", pa.string()),
        ("benchmark", pa.string()),
        ("score_stderr", pa.float64()),
        ("n_items", pa.int64()),
        ("evaluation_settings", pa.string()),
        ("evaluation_versions", pa.string()),
        ("model_id", pa.string()),
    ]
)


def read_rows(path: Path) -> list[Row]:
    """Rows of a results table; ValueError where there is none, or names the column that cannot be read."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no results table; run the study first")
    again = f"run the study again: paydirt run {Path(path).parent}/config.yaml --out {Path(path).parent}"
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0][:160]}); {again}") from None
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; this is not a study's results table; {again}")
    columns = [_column(path, table, field) for field in SCHEMA]
    rows = pa.Table.from_arrays(columns, schema=SCHEMA).to_pylist()
    for number, row in enumerate(rows):
        _check(path, number, row)
    scored = [row for row in rows if row["score"] is not None]
    if len(scored) < len(rows):
        say(f"{path}: {len(rows) - len(scored)} of {len(rows)} rows have no score and are left out")
    return scored


def _column(path: Path, table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    if table.column_names.count(field.name) > 1:
        raise ValueError(f"{path}: the column {field.name!r} is there more than once")
    try:
        return table.column(field.name).cast(field.type)
    except pa.ArrowException as error:
        why = str(error).splitlines()[0][:120]
        raise ValueError(f"{path}: column {field.name!r} is not {field.type} ({why}); run the study again") from None


def _check(path: Path, number: int, row: Row) -> None:
    """ValueError where a row has no name or budget, or a number that is none; a score may be missing (null)."""
    for name in ("task", "method", "fraction"):
        if row[name] is None:
            raise ValueError(f"{path}: row {number} has no {name}; run the study again")
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{path}: row {number}, {name} is {value}; run the study again")
    if row["fraction"] < 0:
        raise ValueError(f"{path}: row {number}, fraction is {row['fraction']}; run the study again")
    row["model"] = row["model"] or ""


class Group(NamedTuple):
    """What scores must share to be compared."""

    task: str
    model: str
    model_id: str
    train_params: int
    metric: str


def grouped(rows: list[Row]) -> dict[Group, list[Row]]:
    """Rows by group, in order of first appearance.

    A row that does not say its model's identity or size (an older table, zero-shot) is of the one that the others of its
    task, model name and metric name; where they name several, it is a group of its own.
    """
    known: dict[tuple[str, str, str | None], set[tuple[str, int]]] = {}
    for row in rows:
        if row["model_id"] or row["train_params"]:
            where = known.setdefault((row["task"], row["model"], row["metric"]), set())
            where.add((row["model_id"] or "", row["train_params"] or 0))
    out: dict[Group, list[Row]] = {}
    for row in rows:
        identity = (row["model_id"] or "", row["train_params"] or 0)
        fits = [
            k
            for k in known.get((row["task"], row["model"], row["metric"]), set())
            if (not identity[0] or k[0] == identity[0]) and (not identity[1] or k[1] == identity[1])
        ]
        fits = [k for k in fits if k != identity]
        if len(fits) == 1 and not all(identity):
            identity = fits[0]
        out.setdefault(Group(row["task"], row["model"], *identity, row["metric"] or "score"), []).append(row)
    return out


def names_of(groups: list[Group]) -> list[str]:
    """A title for each group: the task, and of the rest what the tasks of this table do not share."""
    titles = []
    for group in groups:
        rivals = [g for g in groups if g.task == group.task]
        parts = []
        if len({g.metric for g in rivals}) > 1:
            parts.append(group.metric)
        if len({(g.model, g.model_id, g.train_params) for g in rivals}) > 1:
            parts.append(model_name(group, rivals))
        titles.append(f"{group.task} ({', '.join(parts)})" if parts else group.task)
    return titles


def model_name(group: Group, groups: list[Group]) -> str:
    """The model's name, with its size and identity where another of `groups` has the same name."""
    same = [g for g in groups if g.model == group.model]
    parts = [group.model]
    if len({g.train_params for g in same}) > 1:
        parts.append(f"{group.train_params:.3g} parameters" if group.train_params else "unknown size")
    if len({g.model_id for g in same if g.train_params == group.train_params}) > 1:
        parts.append(f"id {group.model_id[:8]}" if group.model_id else "unknown id")
    return ", ".join(parts)
