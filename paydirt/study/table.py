"""The results table on a terminal: mean and spread over seeds, method by fraction, and what the spread covers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from paydirt.study.schema import ZERO_SHOT, Row, grouped, names_of, read_rows

__all__ = ["coverage", "read_rows", "results_tables"]


def results_tables(path: Path) -> list[Table]:
    """One table a task, model and metric: score as mean ± half the range over seeds, by method and fraction."""
    groups = grouped(read_rows(path))
    return [
        _table(f"{title}: {group.metric} (mean ± half range over seeds)", mine)
        for (group, mine), title in zip(groups.items(), names_of(list(groups)))
    ]


def _table(title: str, mine: list[Row]) -> Table:
    cells: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in mine:
        cells[row["method"], row["fraction"]].append(row)
    fractions = sorted({f for _, f in cells if f > 0})
    table = Table(title=title, title_justify="left", caption=coverage(mine) or None, caption_justify="left")
    table.add_column("method")
    for fraction in fractions:
        table.add_column(f"{fraction:.1%}", justify="right")
    table.add_column("selection FLOPs", justify="right")
    precise = _precision_fraction(mine)
    if precise:
        table.add_column(f"precision at {precise:.1%}", justify="right")
    for method in dict.fromkeys(r["method"] for r in mine):
        own = [cells.get((method, f), []) for f in fractions]
        if method == ZERO_SHOT and own:
            own[0] = cells.get((method, 0.0), [])
        line = [method, *(_spread([r["score"] for r in cell]) for cell in own)]
        line.append(f"{max(r['selection_flops'] or 0 for f in cells for r in cells[f] if f[0] == method):.2g}")
        if precise:
            found = [r["precision"] for r in cells.get((method, precise), []) if r["precision"] is not None]
            line.append(f"{np.mean(found):.2f}" if found else "")
        table.add_row(*line)
    return table


def coverage(rows: Iterable[Row]) -> str:
    """One sentence on what the spread over seeds covers; empty where no method has two seeds, or no seed is known."""
    seeds: dict[str, set[int]] = defaultdict(set)
    drawn: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row["method"] != ZERO_SHOT and 0 < row["fraction"] < 1 and row["seed"] is not None:
            seeds[row["method"]].add(row["seed"])
            if row["selection_seed"] is not None:
                drawn[row["method"]].add(row["selection_seed"])
    several = [method for method, found in seeds.items() if len(found) > 1]
    if not several:
        return ""
    both = [m for m in several if len(drawn[m]) > 1]
    held = [m for m in several if len(drawn[m]) == 1]
    said = f"spread covers training, and of {', '.join(both)} selecting too" if both else "spread covers training alone"
    if held:
        said += (
            f"; {', '.join(held)} {'draws' if len(held) == 1 else 'draw'} by one seed, so of selecting nothing is known"
        )
    return said


def _spread(scores: list[float]) -> str:
    if not scores:
        return ""
    half = (max(scores) - min(scores)) / 2
    return f"{np.mean(scores):.3f}" + (f" ±{half:.3f}" if len(scores) > 1 else "")


def _precision_fraction(rows: list[dict[str, Any]]) -> float | None:
    """The fraction nearest 5 % that has a precision."""
    known = sorted({r["fraction"] for r in rows if r["precision"] is not None}, key=lambda f: abs(f - 0.05))
    return known[0] if known else None
