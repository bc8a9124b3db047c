"""Columns: whatever is computed for every example of a pool, kept in one store, metered, shared and resumed alike.

`spec` says what a column is, `store` keeps it on disk, `claims` lets several processes fill it; the other modules are
one column each.
"""

from paydirt.columns.spec import COLUMNS, Block, PoolRef, Ragged, Spec, Unit, Worker
from paydirt.columns.store import SHARD_ROWS, PoolColumn
from paydirt.columns.tokens import TokensRef, TokenStore, token_store

__all__ = [
    "COLUMNS",
    "SHARD_ROWS",
    "Block",
    "PoolColumn",
    "PoolRef",
    "Ragged",
    "Spec",
    "TokenStore",
    "TokensRef",
    "Unit",
    "Worker",
    "token_store",
]
