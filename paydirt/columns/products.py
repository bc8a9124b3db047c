"""Products of a column's rows with a few vectors, the same in the last bit whatever block of rows is asked for."""

from __future__ import annotations

import numpy as np

BLOCK = 256  # rows multiplied at a time; the last block is filled up, so that all have one shape


def products(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """rows [n, d] times others [R, d], as [n, R]."""
    out = np.empty((len(rows), len(others)), dtype=np.result_type(rows, others))
    right = np.ascontiguousarray(others.T)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        whole = np.concatenate([part, np.zeros((BLOCK - len(part), rows.shape[1]), dtype=rows.dtype)])
        out[start : start + len(part)] = (whole @ right)[: len(part)]
    return out
