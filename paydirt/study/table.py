"""The results table on a terminal: mean and spread over seeds, method by fraction."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a results table; ValueError when there is none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no results table; run the study first")
    remedy = f"run the study again: paydirt run {Path(path).parent}/config.yaml --out {Path(path).parent}"
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: damaged ({str(error).splitlines()[0][:160]}); {remedy}") from error
    lacking = sorted({"task", "method", "metric", "fraction", "seed", "score"} - (rows[0].keys() if rows else set()))
    if lacking:
        raise ValueError(f"{path}: not a results table of a study: it lacks {', '.join(lacking)}; {remedy}")
    return rows


def results_tables(path: Path) -> list[Table]:
    """One table a task: score as mean ± half the range over seeds, by method and fraction; precision at the end."""
    rows = read_rows(path)
    tables = []
    for task in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if r["task"] == task]
        cells: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
        for row in mine:
            cells[row["method"], row["fraction"]].append(row)
        fractions = sorted({f for _, f in cells if f > 0})
        table = Table(title=f"{task}: {mine[0]['metric']} (mean ± half range over seeds)", title_justify="left")
        table.add_column("method")
        for fraction in fractions:
            table.add_column(f"{fraction:.1%}", justify="right")
        table.add_column("selection FLOPs", justify="right")
        precise = _precision_fraction(mine)
        if precise:
            table.add_column(f"precision at {precise:.1%}", justify="right")
        for method in dict.fromkeys(r["method"] for r in mine):
            own = [cells.get((method, f), []) for f in fractions]
            if method == "zero-shot":
                own = [cells[method, 0.0]] + [[]] * (len(fractions) - 1)
            line = [method, *(_spread([r["score"] for r in cell]) for cell in own)]
            line.append(f"{max(r['selection_flops'] or 0 for f in cells for r in cells[f] if f[0] == method):.2g}")
            if precise:
                found = [r["precision"] for r in cells.get((method, precise), []) if r["precision"] is not None]
                line.append(f"{np.mean(found):.2f}" if found else "")
            table.add_row(*line)
        tables.append(table)
    return tables


def _spread(scores: list[float]) -> str:
    if not scores:
        return ""
    half = (max(scores) - min(scores)) / 2
    return f"{np.mean(scores):.3f}" + (f" ±{half:.3f}" if len(scores) > 1 else "")


def _precision_fraction(rows: list[dict[str, Any]]) -> float | None:
    """The fraction nearest 5 % that has a precision."""
    known = sorted({r["fraction"] for r in rows if r["precision"] is not None}, key=lambda f: abs(f - 0.05))
    return known[0] if known else None
