"""Vectors of a pool for rules that compare candidates with each other, wherever they lie.

What enters: a place. A folder of a column (embeddings, hidden states), a gradient store, the directory of finished scores
that left one of these, a parquet file of your own with the columns `id` and `vector`, or a word: `own`, what the scores that
are selected from left, or `similarities`, each example as its similarities to the references, less their means. What leaves:
a file of unit rows float32 [n, d] in the order asked for, mapped, so that memory does not grow with n x d. Everything is
found by example id.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, BeforeValidator

from paydirt.core.artifacts import Artifact, fingerprint, open_artifact, reading
from paydirt.core.config import PLACE, absolute, text_of_path
from paydirt.core.files import file_digest

if TYPE_CHECKING:
    from paydirt.columns import Block, Spec

OWN, SIMILARITIES = "own", "similarities"
WORDS = (OWN, SIMILARITIES)
VectorsText = Annotated[
    str,
    PLACE,
    BeforeValidator(text_of_path),
    AfterValidator(lambda place: place if place in WORDS else absolute(place)),
]
"""A place of vectors, or one of the words; a folder of such a name is given as `./own`."""
ROWS = 8192  # rows read at a time
Blocks = Iterator[tuple[Sequence[str], np.ndarray]]


@dataclass(frozen=True)
class Vectors:
    """Vectors somewhere: `blocks()` gives ids and rows [n, d]; `fingerprint` is of what decides them."""

    place: str
    fingerprint: str
    blocks: Callable[[], Blocks]

    @contextmanager
    def unit(self, ids: Sequence[str]) -> Iterator[np.ndarray]:
        """Rows [n, d] float32 of `ids`, each divided by its length (a row of zeros stays one), mapped from a scratch file.

        ValueError where an id has no vector, or one that is not finite.
        """
        row_of = {id: row for row, id in enumerate(ids)}
        with tempfile.TemporaryDirectory(prefix="paydirt-vectors-") as folder:
            out: np.ndarray | None = None
            seen = np.zeros(len(ids), dtype=bool)
            for names, block in self.blocks():
                rows = np.asarray([row_of.get(name, -1) for name in names], dtype=np.int64)
                here = rows >= 0
                if out is None:
                    out = np.lib.format.open_memmap(
                        Path(folder) / "unit.npy", mode="w+", dtype=np.float32, shape=(len(ids), block.shape[1])
                    )
                out[rows[here]] = _unit(block[here], [name for name, wanted in zip(names, here) if wanted], self.place)
                seen[rows[here]] = True
            if out is None or not seen.all():
                missing = [id for id, found in zip(ids, seen) if not found]
                raise ValueError(
                    f"{self.place}: no vector for {len(missing)} of {len(ids)} examples (first: {missing[0]!r}); make the "
                    "vectors of the pool that was scored"
                )
            yield out


def _unit(block: np.ndarray, ids: Sequence[str], place: str) -> np.ndarray:
    rows = np.asarray(block, dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{place}: the vector of {ids[int(np.argmin(finite))]!r} is not finite; make the vectors again"
        )
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))


def open_vectors(place: str, shared: Path | None = None) -> Vectors:
    """The vectors at `place`; `shared` is where finished scores keep theirs. ValueError with what is possible."""
    path = Path(place)
    if path.is_file():
        return Vectors(place, file_digest(path), lambda: _of_table(path))
    if (path / "column.json").is_file():
        with reading(path, "column.json"):
            facts = json.loads((path / "column.json").read_text(encoding="utf-8"))["facts"]
        return Vectors(place, fingerprint(facts), lambda: _of_column(path))
    for store in (path, path / "store"):
        if (store / "index.json").is_file():
            key = file_digest(store / "index.json") + file_digest(store / "manifest.json")
            return Vectors(place, key, partial(_of_gradients, store))
    if path.is_dir() and (path / "manifest.json").is_file():
        return _of_scores(open_artifact(path), shared)
    raise ValueError(
        f"no vectors at {place}: give finished scores of embed, rds or gradient, the folder of their column or store, a "
        f"parquet file with the columns id and vector, {OWN!r} or {SIMILARITIES!r}"
    )


def _of_scores(scored: Artifact, shared: Path | None) -> Vectors:
    """The store that finished scores left in the shared place; ValueError for none, or for several to choose from.

    Gradients at several checkpoints are one vector, side by side: its cosines are the means of the checkpoints' cosines.
    """
    found = []
    for charge in scored.notes.get("charges", {}):
        place = (shared or scored.path) / charge
        if (place / "column.json").is_file() or (place / "store" / "index.json").is_file():
            found.append(place)
    if len(found) == 1:
        return open_vectors(str(found[0]))
    if not found:
        raise ValueError(
            f"{scored.path}: these scores left no vectors in {shared}; as vectors (--vectors) give finished scores of "
            "embed, rds or gradient (with its store) of the same pool, a parquet file with the columns id and vector, or "
            f"{SIMILARITIES!r}; or give the --cache that these were made with"
        )
    parts = [open_vectors(str(place)) for place in sorted(found)]
    if len({place.parent for place in found}) > 1:
        shown = ", ".join(part.place for part in parts)
        raise ValueError(f"{scored.path}: these scores left vectors of several kinds; give one: {shown}")
    key = fingerprint([part.fingerprint for part in parts])
    return Vectors(str(scored.path), key, partial(_side_by_side, parts))


def _side_by_side(parts: Sequence[Vectors]) -> Blocks:
    for blocks in zip(*(part.blocks() for part in parts), strict=True):
        ids = [list(names) for names, _ in blocks]
        assert all(names == ids[0] for names in ids), "columns of one pool are cut alike"
        rows = [_unit(np.asarray(rows), ids[0], part.place) for (_, rows), part in zip(blocks, parts)]
        yield ids[0], np.concatenate(rows, axis=1)


def _of_table(path: Path) -> Blocks:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a parquet file ({str(error).splitlines()[0][:100]})") from None
    names = file.schema_arrow.names
    if not {"id", "vector"} <= set(names):
        raise ValueError(f"{path}: vectors are a parquet file with the columns id and vector; this one has {names}")
    kind = file.schema_arrow.field("vector").type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"{path}: vectors are lists of numbers; the column vector is of {kind}")
    width = None
    for batch in file.iter_batches(ROWS, columns=["id", "vector"]):
        rows = batch.column("vector")
        found = pc.fill_null(pc.list_value_length(rows), 0).to_pylist()
        lengths = {*found} | ({width} if width else set())
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"{path}: vectors of unlike lengths {sorted(lengths)[:5]}; all must have the same numbers")
        width = lengths.pop()
        numbers = np.asarray(rows.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
        yield batch.column("id").to_pylist(), numbers.reshape(len(rows), width)


def _of_column(path: Path) -> Blocks:
    from paydirt.columns import COLUMNS, PoolColumn
    from paydirt.core.named import make

    with reading(path, "column.json"):
        layout = json.loads((path / "column.json").read_text(encoding="utf-8"))
    spec = make(COLUMNS, layout["spec"])
    ref = getattr(spec, "tokens", spec).pool
    column = PoolColumn(spec, path.parent.parent, int(layout["shard_rows"]))
    column.path = path  # made by other versions of libraries it may be, which its key says
    pool = ref.open()
    for start in range(0, len(column), ROWS):
        stop = min(start + ROWS, len(column))
        yield pool.ids(start, stop), _rows_of(column.read(np.arange(start, stop)), spec, path)


def _rows_of(block: Block, spec: Spec, path: Path) -> np.ndarray:
    if "vectors" in block.values:
        return block.array("vectors")
    if "features" in block.values:
        from paydirt.columns.gradients import stored_rows

        return np.asarray(stored_rows(block, spec.store_dtype).float().numpy())  # type: ignore[attr-defined]
    raise ValueError(f"{path}: the column {spec.name} holds no vectors; give embeddings, hidden states or gradients")


def _of_gradients(path: Path) -> Blocks:
    from paydirt.gradients.store import Store

    for rows in Store(path).shards():
        yield rows.ids, rows.float().numpy()
