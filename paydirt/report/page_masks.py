"""Which pool examples a selection holds, as one boolean [N] in a common row order.

Only columns are read, never texts: ids, sources and lengths once, ranks once for each selection. Everything is keyed by id;
a selection whose rows stand in another order is brought into the common one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paydirt.core.artifacts import Artifact, reading
from paydirt.report.page_study import Panel, StudyFiles

TABLE = "scores.parquet"


class Masks:
    """Rows of a study's pool: `ids`, `sources` and lengths [N] in `unit`, and the mask of any selection."""

    def __init__(self, first: Artifact) -> None:
        with reading(first.path, TABLE):
            table = pq.read_table(first.path / TABLE, columns=["id", "source", "tokens"])
        self.ids: pa.Array = _flat(table["id"])
        sources = _flat(table["source"]).fill_null("").dictionary_encode()
        self.source_names: list[str] = sources.dictionary.to_pylist()
        self.source_codes: np.ndarray = sources.indices.to_numpy()
        self.lengths: np.ndarray = table["tokens"].to_numpy()
        self.unit = str(first.notes.get("token_unit", "tokens"))

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, selection: Artifact) -> np.ndarray:
        """Mask [N] of the chosen examples."""
        chosen, rows = self._column(selection.path, "rank")
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = chosen.is_valid().to_numpy(zero_copy_only=False)
        return mask

    def values(self, selection: Artifact, column: str) -> np.ndarray:
        """A numeric column [N] of the selection's table; NaN where it is null."""
        found, rows = self._column(selection.path, column)
        values = np.full(len(self), np.nan)
        values[rows] = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values

    def _column(self, path: Path, name: str) -> tuple[pa.Array, np.ndarray | slice]:
        """A column, and the common row of each of its entries."""
        with reading(path, TABLE):
            table = pq.read_table(path / TABLE, columns=["id", name])
        ids = _flat(table["id"])
        if ids.equals(self.ids):
            return _flat(table[name]), slice(None)
        rows = pc.index_in(ids, self.ids)
        if rows.null_count:
            raise ValueError(f"{path}: {rows.null_count} of its ids are not in the pool of the other selections")
        return _flat(table[name]), rows.to_numpy()


def _flat(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def open_masks(study: StudyFiles) -> Masks | None:
    """Masks over the study's pool; None where no selection is left."""
    for row in study.rows:
        if selection := study.selection(row):
            return Masks(selection)
    return None


def selections_at(study: StudyFiles, panel: Panel, fraction: float) -> dict[str, list[Artifact]]:
    """The distinct selections of each method at a fraction: one, or one a seed where the method draws lots."""
    found: dict[str, list[Artifact]] = {}
    for cell in panel.at(fraction):
        distinct = {s.path: s for row in cell.rows if (s := study.selection(row))}
        if distinct:
            found[cell.method] = list(distinct.values())
    return found
