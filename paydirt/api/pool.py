"""A pool of candidates, from memory or from files, imported once into the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paydirt.api import records as memory
from paydirt.api.calls import spoken
from paydirt.api.tables import BLOCK, dataset
from paydirt.core.config import parse
from paydirt.data.forms import FormName
from paydirt.data.pool import PoolConfig, open_pool
from paydirt.stages import Workspace

if TYPE_CHECKING:
    import datasets

    from paydirt.data.pool import Pool as Rows


class Pool:
    """Examples to choose from. `config` says how they were read; `path` is the imported pool."""

    @spoken
    def __init__(self, config: PoolConfig) -> None:
        self.config = config
        self._rows = open_pool(config)

    @classmethod
    @spoken
    def from_records(
        cls,
        records: Any,
        *,
        columns: Mapping[str, str] | None = None,
        form: FormName = "auto",
        on_bad: Literal["raise", "skip"] = "raise",
        prefix_ids: bool = False,
        split: str = "train",
        name: str = "records",
    ) -> Pool:
        """Examples from a `datasets.Dataset`, a list of dicts, a DataFrame, a path, paths, `{source: path}` or a hub id.

        `columns` says what the records call things, such as `{"prompt": "question", "answer": "reply"}`. `name` is the
        source of records in memory that name none. Ids are the records' own, else made of their content. Raises
        ValueError naming file, line and remedy for a bad record; `on_bad="skip"` counts it (see `account`).
        """
        files = (
            memory.paths(records)
            if memory.is_path(records)
            else [str(memory.written(memory.splits(records, split), name))]
        )
        values = {"files": files, "columns": dict(columns or {}), "form": form, "on_bad": on_bad}
        return cls(parse(PoolConfig, {**values, "prefix_ids": prefix_ids, "split": split}, where="pool"))

    def opened(self, workspace: Workspace) -> Rows:
        """The rows as the stages see them; ValueError where the files have changed since this pool was made."""
        rows = workspace.pool(self.config)
        if rows.fingerprint != self.fingerprint:
            raise ValueError(
                f"{', '.join(rows.notes['files'][:3])}: changed since the pool was made of it ({len(self)} examples then, "
                f"{len(rows)} now); make the pool again"
            )
        return rows

    @property
    def path(self) -> Path:
        return self._rows.path

    @property
    def fingerprint(self) -> str:
        """Of the content, whatever the order and the files."""
        return self._rows.fingerprint

    @cached_property
    def ids(self) -> list[str]:
        """In the order of the records."""
        return self._rows.ids()

    @property
    def sources(self) -> dict[str, int]:
        """Examples of each source."""
        return self._rows.source_counts()

    @property
    def account(self) -> dict[str, Any]:
        """What became of every record that was read: kept, skipped by reason, lost, renamed."""
        return self._rows.account()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, id: str) -> dict[str, Any]:
        """The record of an id, as it was given."""
        return self._rows.records(self._rows.rows_of([id]))[0]

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record as it was given, in order."""
        for start in range(0, len(self), BLOCK):
            yield from self._rows.records(np.arange(start, min(start + BLOCK, len(self))))

    @spoken
    def to_dataset(self) -> datasets.Dataset:
        return dataset(self.records())

    def __repr__(self) -> str:
        return f"Pool({len(self)} examples of {len(self.sources)} sources, {self._rows.form}; {self.path})"
