"""Tables that leave: Arrow inside, pandas or `datasets` where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import datasets
    import pandas as pd

BLOCK = 4096


class Tabular:
    """Something that can be seen as a table."""

    def to_arrow(self) -> pa.Table:
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """The table as a DataFrame; ValueError where pandas is not installed."""
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise ValueError("pandas is not installed; `pip install pandas`, or use to_arrow()") from None
        return self.to_arrow().to_pandas()


def dataset(records: Iterable[dict[str, Any]]) -> datasets.Dataset:
    """Records as a `datasets.Dataset`, every field a column, absent ones null; ValueError for a field of several types."""
    import datasets

    blocks, left = [], iter(records)
    while block := list(islice(left, BLOCK)):
        names = list(dict.fromkeys(name for record in block for name in record))
        blocks.append(pa.table({name: _column(name, block) for name in names}))
    try:
        return datasets.Dataset(pa.concat_tables(blocks, promote_options="permissive"))
    except pa.ArrowException as error:
        raise ValueError(f"a field has several types ({error}); use records() instead") from None


def _column(name: str, block: list[dict[str, Any]]) -> pa.Array:
    try:
        return pa.array([record.get(name) for record in block])
    except pa.ArrowException as error:
        raise ValueError(f"the field {name!r} has values of several types ({error}); use records() instead") from None
