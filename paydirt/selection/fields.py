"""A field of the pool's own records as one text an example: what mixtures are cut by.

What enters: a pool, ids, a field's name, dots reaching inside (`meta.language`). What leaves: an array of texts. A record
without the field is an error, since its share would be nobody's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paydirt.core.registry import did_you_mean
from paydirt.data.pool import Pool

ROWS = 4096  # records read at a time


def field_values(pool: Pool, ids: np.ndarray, name: str) -> np.ndarray:
    """Value [n] (object array of str) of the field `name` of the records of `ids`; ValueError naming one without it."""
    out = np.empty(len(ids), dtype=object)
    rows = pool.rows_of(ids)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        for at, (row, record) in enumerate(zip(part.tolist(), pool.records(part)), start):
            out[at] = _value(pool, row, record, name)
    return out


def _value(pool: Pool, row: int, record: Any, name: str) -> str:
    value = record
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            known = did_you_mean(key, [str(k) for k in value]) if isinstance(value, dict) else "it holds no fields"
            raise ValueError(
                f"{pool.place(row)}: the record of {pool.id_at(row)!r} has no field {name!r} to share by; {known}, or share "
                "by source or subtask"
            )
        value = value[key]
    if isinstance(value, dict | list) or value is None:
        raise ValueError(
            f"{pool.place(row)}: the field {name!r} of {pool.id_at(row)!r} is {type(value).__name__}, which names no group; "
            "give a field of texts or numbers"
        )
    return str(value)
