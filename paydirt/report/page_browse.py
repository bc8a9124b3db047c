"""The table of examples to look through: what every method chose and passed over, with scores, ranks and nearest references.

What enters: a study. What leaves: plain values for the page's script, up to `EMBEDDED` rows of the pool (all that any method
chose first, then a seeded sample of the rest), and a Parquet file beside the page with every row where the pool has more.
Texts travel as JSON in which nothing can end the element that holds it, and the script writes them as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from paydirt.core.artifacts import Artifact
from paydirt.core.types import Example
from paydirt.report.page_masks import Masks, selections_at
from paydirt.report.page_study import Panel, StudyFiles
from paydirt.report.style import Styles
from paydirt.selection.scores import Scores

EMBEDDED = 5_000
TEXT_ALLOWANCE = 4_000_000  # characters of text on the whole page
LONGEST, SHORTEST = 4_000, 300  # of one example
NEAREST = 2
BLOCK = 4_096
PARQUET = "report-examples.parquet"


@dataclass(frozen=True)
class Column:
    """One method at one task: score and rank [N] (NaN where it chose the example not), its scores if they compare."""

    method: str
    score: np.ndarray
    rank: np.ndarray
    scores: Scores | None

    def nearest(self, ids: Sequence[str]) -> list[list[tuple[int, float]]]:
        """Columns of the scores that each id is most like, and how much."""
        if self.scores is None:
            return [[] for _ in ids]
        place = {id: row for row, id in enumerate(self.scores.ids.tolist())}
        values = self.scores.take(np.asarray([place[id] for id in ids], dtype=np.int64))
        best = np.argsort(-values, axis=1, kind="stable")[:, :NEAREST]
        return [[(int(c), float(v[c])) for c in row] for row, v in zip(best, values)]


@dataclass(frozen=True)
class Browse:
    """What the page embeds; `beside` is the file that has all rows, where the page has not."""

    data: Markup
    shown: int
    total: int
    beside: str | None


def browse(study: StudyFiles, masks: Masks, styles: Styles) -> Browse | None:
    """The table of a study; None where no selection is left."""
    tasks = [(panel, columns) for panel in study.panels if (columns := _columns(study, panel, masks))]
    if not tasks:
        return None
    rows = _rows([column for _, columns in tasks for column in columns], len(masks))
    ids = [masks.ids[int(row)].as_py() for row in rows]
    data = {
        "sources": masks.source_names,
        "unit": masks.unit,
        "rows": _examples(study, masks, rows, ids),
        "tasks": [_task(study, panel, columns, rows, ids, styles) for panel, columns in tasks],
    }
    beside = _beside(study, masks, tasks) if len(rows) < len(masks) else None
    return Browse(_embedded(data), len(rows), len(masks), beside)


def _columns(study: StudyFiles, panel: Panel, masks: Masks) -> list[Column]:
    fraction = panel.nearest_five_percent
    chosen = {} if fraction is None else selections_at(study, panel, fraction)
    return [_column(study, method, selections[0], masks) for method, selections in chosen.items()]


def _column(study: StudyFiles, method: str, selection: Artifact, masks: Masks) -> Column:
    row = next(r for r in study.rows if (s := study.selection(r)) and s.path == selection.path)
    scored = study.scores(row)
    scores = Scores(scored.path) if scored else None
    pairwise = scores if scores is not None and scores.pairwise else None
    return Column(method, masks.values(selection, "score"), masks.values(selection, "rank"), pairwise)


def _rows(columns: Sequence[Column], total: int) -> np.ndarray:
    """Rows to embed, ascending: what was chosen by best rank, then a sample."""
    if total <= EMBEDDED:
        return np.arange(total)
    best = np.full(total, np.inf)
    for column in columns:
        best = np.fmin(best, column.rank)
    order = np.argsort(best, kind="stable")
    chosen = order[: min(int(np.isfinite(best).sum()), EMBEDDED * 4 // 5)]
    left = np.setdiff1d(np.arange(total), chosen)
    drawn = np.random.default_rng(0).choice(left, EMBEDDED - len(chosen), replace=False)
    return np.sort(np.concatenate([chosen, drawn]))


def _examples(study: StudyFiles, masks: Masks, rows: np.ndarray, ids: list[str]) -> list[list[Any]]:
    """[id, source, length, turns, characters left out] a row; no turns where the pool is gone."""
    limit = max(SHORTEST, min(LONGEST, TEXT_ALLOWANCE // max(1, len(rows))))
    out = []
    for start in range(0, len(rows), BLOCK):
        part = ids[start : start + BLOCK]
        texts: list[Example | None] = [None] * len(part)
        if study.pool is not None:
            texts = list(study.pool.take(study.pool.rows_of(part)))
        for id, row, example in zip(part, rows[start : start + BLOCK], texts):
            turns, hidden = cut(example, limit) if example else ([], 0)
            out.append([id, int(masks.source_codes[row]), int(masks.lengths[row]), turns, hidden])
    return out


def cut(example: Example, limit: int) -> tuple[list[list[str]], int]:
    """The turns of an example within `limit` characters in all, and how many characters are left out."""
    turns, hidden = [], 0
    for message in example.messages:
        kept = message.content[: max(0, limit)]
        hidden += len(message.content) - len(kept)
        limit -= len(kept)
        if kept or not message.content:
            turns.append([message.role, kept])
    return turns, hidden


def _task(
    study: StudyFiles, panel: Panel, columns: list[Column], rows: np.ndarray, ids: list[str], styles: Styles
) -> dict[str, Any]:
    references: dict[tuple[str, str], int] = {}
    methods = []
    for column in columns:
        of = column.scores.columns if column.scores else []
        near = [
            [[references.setdefault((of[c].id, of[c].subtask), len(references)), _short(v)] for c, v in found]
            for found in column.nearest(ids)
        ]
        methods.append(
            {
                "name": column.method,
                "style": styles.colour(column.method),
                "swatch": str(styles.swatch(column.method)),
                "score": [_short(v) for v in column.score[rows]],
                "rank": [0 if np.isnan(v) else int(v) for v in column.rank[rows]],
                "nearest": near if column.scores else [],
            }
        )
    target = study.target(panel.task)
    by_id = {e.id: e for e in target.references} if target else {}
    first = dict(zip(reversed(target.subtask_of), reversed(target.references))) if target else {}
    shown = []
    for id, subtask in references:
        example = by_id.get(id) or first.get(subtask)
        whole = id not in by_id  # the method compares with the subtask as a whole; one reference of it is shown
        shown.append([id, subtask, whole, cut(example, 1_500)[0] if example else []])
    fraction = panel.nearest_five_percent
    return {"title": panel.title or panel.task, "fraction": fraction, "methods": methods, "references": shown}


def _short(value: float) -> float | None:
    """Four digits; None where there is no number."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _embedded(data: dict[str, Any]) -> Markup:
    """JSON for a <script type="application/json">, in which nothing can end it or begin a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


# ---- the file beside the page -------------------------------------------------------------------------------------------


def _beside(study: StudyFiles, masks: Masks, tasks: list[tuple[Panel, list[Column]]]) -> str:
    """Every row of the pool, a block at a time; returns the name of the file."""
    part = study.root / (PARQUET + ".part")
    writer = None
    try:
        for table in _tables(study, masks, tasks):
            writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    part.replace(study.root / PARQUET)
    return PARQUET


def _tables(study: StudyFiles, masks: Masks, tasks: list[tuple[Panel, list[Column]]]) -> Iterator[pa.Table]:
    for start in range(0, len(masks), BLOCK):
        stop = min(start + BLOCK, len(masks))
        ids = masks.ids.slice(start, stop - start).to_pylist()
        texts = [""] * len(ids)
        if study.pool is not None:
            taken = study.pool.take(study.pool.rows_of(ids))
            texts = ["\n".join(f"{m.role}: {m.content}" for m in e.messages) for e in taken]
        table: dict[str, Any] = {
            "id": ids,
            "source": [masks.source_names[code] for code in masks.source_codes[start:stop]],
            masks.unit: masks.lengths[start:stop],
            "text": texts,
        }
        for panel, columns in tasks:
            for column in columns:
                name = f"[{panel.title or panel.task}/{column.method}]"
                table[f"score{name}"] = column.score[start:stop]
                rank = column.rank[start:stop]
                table[f"rank{name}"] = pa.array(np.nan_to_num(rank).astype(np.int64), mask=np.isnan(rank))
                if column.scores:
                    of = column.scores.columns
                    table[f"nearest{name}"] = [of[found[0][0]].id for found in column.nearest(ids)]
        yield pa.table(table)


def path_of(study: Path) -> Path:
    """Where the file beside the page of a study is."""
    return Path(study) / PARQUET
