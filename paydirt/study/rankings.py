"""What a study's methods selected, as rankings, and how far they agree."""

from __future__ import annotations

from pathlib import Path

from paydirt.analysis.overlap import Overlap, overlaps
from paydirt.selection.select import selected_ids
from paydirt.study.schema import Row, grouped, read_rows


def rankings(study: Path, rows: list[Row]) -> dict[str, list[str]]:
    """The longest selection below the whole pool of each method, best first; a stochastic method's first seed."""
    longest: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row["selection"] is None or row["fraction"] >= 1:
            continue
        if row["fraction"] > longest.get(row["method"], (0.0, ""))[0]:
            longest[row["method"]] = (row["fraction"], row["selection"])
    return {method: selected_ids(study / place) for method, (_, place) in longest.items()}


def study_overlaps(study: Path) -> list[Overlap]:
    """Overlap of every pair of methods in the study's first group (task, model, metric), at its fractions below 1."""
    rows = next(iter(grouped(read_rows(study / "results.parquet")).values()), [])
    ranked = rankings(study, rows)
    if len(ranked) < 2:
        return []
    shortest = min(len(ids) for ids in ranked.values())
    known = {r["fraction"]: r["n_examples"] for r in rows if 0 < r["fraction"] < 1}
    pool = max((r["n_examples"] or 0 for r in rows), default=0)
    if not any(r["fraction"] == 1 for r in rows):
        pool = round(shortest / max(known))
    fractions = [f for f in sorted(known) if round(f * pool) <= shortest]
    return overlaps(ranked, fractions, pool_size=pool)
