"""Vectors that a user brings in a parquet file: lists of any kind, and what is no list of numbers of one length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paydirt.selection.vectors import open_vectors

ROWS = [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]


def written(path: Path, vectors: pa.Array) -> str:
    pq.write_table(pa.table({"id": ["c", "a", "b"][: len(vectors)], "vector": vectors}), path)
    return str(path)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2), pa.list_(pa.int64())],
    ids=str,
)
def test_lists_become_unit_rows_in_the_order_asked_for(tmp_path: Path, kind: pa.DataType) -> None:
    place = written(tmp_path / "v.parquet", pa.array(ROWS, kind))
    with open_vectors(place).unit(["a", "b", "c"]) as rows:
        np.testing.assert_allclose(np.asarray(rows), [[0, 0], [1, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (pa.array([[1.0], [1.0, 2.0], [3.0]]), "unlike lengths"),
        (pa.array([[1.0], None, [3.0]]), "unlike lengths"),
        (pa.array([[], [], []], pa.list_(pa.float32())), "unlike lengths"),
        (pa.array(["x", "y", "z"]), "lists of numbers"),
        (pa.array([[1.0], [None], [3.0]]), "of 'a' is not finite"),
    ],
)
def test_what_is_no_vector_is_named(tmp_path: Path, vectors: pa.Array, message: str) -> None:
    place = written(tmp_path / "v.parquet", vectors)
    with pytest.raises(ValueError, match=message), open_vectors(place).unit(["a", "b", "c"]):
        pass
