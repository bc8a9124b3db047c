"""What a column is: a spec that travels and a worker that computes.

Enters: a pool (or its tokens) by reference, settings, identities of models. Leaves: a `key` made of everything that
decides the bytes, and a `Worker` opened from the spec once per process, which turns row numbers into a `Block`.
A spec is a small frozen config without open objects, so it can be pickled to another process or machine. Paths and
devices are in it, since a worker needs them, but not in its key.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from paydirt import __version__
from paydirt.core.artifacts import Artifact, fingerprint, library_versions
from paydirt.core.config import Config
from paydirt.core.named import Named
from paydirt.core.registry import Registry
from paydirt.data.pool import Pool


@dataclass(frozen=True)
class Ragged:
    """Arrays of unlike lengths: `flat` [sum of lengths], `lengths` [n]."""

    flat: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, parts: Sequence[np.ndarray], dtype: Any = np.float32) -> Ragged:
        lengths = np.asarray([len(part) for part in parts], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def _edges(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self._edges[row] : self._edges[row + 1]]

    def take(self, rows: np.ndarray) -> Ragged:
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        places = np.arange(lengths.sum()) + np.repeat(self._edges[rows] - (ends - lengths), lengths)
        return Ragged(self.flat[places], lengths)


Values = Mapping[str, "np.ndarray | Ragged"]


@dataclass(frozen=True)
class Block:
    """Some rows of a column: `values` by name, each [n, ...] or ragged, and what each row took: FLOPs and tokens [n].

    FLOPs are integers and belong to a row, not to a batch or shard: their sum is the same however rows were cut.
    """

    values: Values
    flops: np.ndarray
    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.flops)

    def array(self, name: str) -> np.ndarray:
        """Values [n, ...] of that name, which are not ragged."""
        value = self.values[name]
        assert isinstance(value, np.ndarray)
        return value

    def take(self, rows: np.ndarray) -> Block:
        values = {k: v.take(rows) if isinstance(v, Ragged) else v[rows] for k, v in self.values.items()}
        return Block(values, self.flops[rows], self.tokens[rows])

    @staticmethod
    def concatenate(blocks: Sequence[Block]) -> Block:
        values: dict[str, np.ndarray | Ragged] = {}
        for name, first in blocks[0].values.items():
            parts: list[Any] = [block.values[name] for block in blocks]
            if isinstance(first, Ragged):
                flat, lengths = [p.flat for p in parts], [p.lengths for p in parts]
                values[name] = Ragged(np.concatenate(flat), np.concatenate(lengths))
            else:
                values[name] = np.concatenate(parts)
        flops, tokens = [b.flops for b in blocks], [b.tokens for b in blocks]
        return Block(values, np.concatenate(flops), np.concatenate(tokens))


Unit = int | tuple[int, ...]
"""What one worker does at a time: a whole shard by its number, or some rows."""


class Worker(Protocol):
    """Opened from a spec, once per process or GPU. A row's values and cost depend on that row alone."""

    device: str

    def __call__(self, rows: np.ndarray) -> Block:
        """The block of `rows` [n], in that order."""
        ...


COLUMNS: Registry[Spec] = Registry("column", "paydirt.columns")


class Spec(Named):
    """Base of every column's config; a subclass with a `name` is registered.

    `version` changes with any change of the code that changes bytes; `libraries` are those whose numbers enter.
    """

    registry: ClassVar = COLUMNS
    version: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    places: ClassVar[frozenset[str]] = frozenset({"device"})  # fields that say where, not what

    @property
    @abstractmethod
    def size(self) -> int:
        """Rows of the column."""

    @property
    def title(self) -> str:
        """What progress calls the work."""
        return self.name

    @property
    def folder(self) -> str:
        """Where the column lies under the shared place."""
        return f"{self.name}/{self.key}"

    def facts(self) -> dict[str, Any]:
        """Everything that decides the bytes; a subclass says by `places` what of its config does not."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name not in self.places:
                values[name] = value.facts() if isinstance(value, Ref) else self.model_dump(mode="json")[name]
        libraries = {"paydirt": __version__, **library_versions(self.libraries)}
        return {"column": self.name, "version": self.version, "libraries": libraries, **values}

    @property
    def key(self) -> str:
        return fingerprint(self.facts())

    def placed(self, device: str) -> Spec:
        """The same column computed on another device."""
        changes: dict[str, Any] = {"device": device} if "device" in type(self).model_fields else {}
        if "model" in type(self).model_fields:
            changes["model"] = self.model.model_copy(update={"device": device})  # type: ignore[attr-defined]
        return self.model_copy(update=changes)

    @abstractmethod
    def open(self, folder: Path) -> Worker:
        """The worker; `folder` is the column's own, for what all workers share."""


class Ref(Config):
    """An input by where it lies and what it is."""

    def facts(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"path"})


class PoolRef(Ref):
    """A pool: its folder, content and order of rows."""

    path: str
    fingerprint: str
    rows: str
    size: int

    @classmethod
    def of(cls, pool: Pool) -> PoolRef:
        return cls(path=str(pool.path), fingerprint=pool.fingerprint, rows=pool.order, size=len(pool))

    def open(self) -> Pool:
        return _open_pool(self.path)


@lru_cache(maxsize=4)
def _open_pool(path: str) -> Pool:
    return Pool(Artifact(Path(path)))
