"""Columns: whatever is computed for every example of a pool, kept in one store, metered, shared and resumed alike.

`spec` says what a column is, `store` keeps it on disk, `claims` lets several processes fill it; the other modules are
one column each.
"""

from paydirt.columns.spec import COLUMNS, Block, PoolRef, Ragged, Spec, TokensRef, Unit, Worker
from paydirt.columns.store import PoolColumn

__all__ = ["COLUMNS", "Block", "PoolColumn", "PoolRef", "Ragged", "Spec", "TokensRef", "Unit", "Worker"]
