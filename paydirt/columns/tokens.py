"""Token ids: every example of a pool encoded once, by one tokenizer, template and length, memory-mapped from then on.

Enters: a pool and what an encoder is made of. Leaves: a `TokenStore`, row by row `Encoded` examples without encoding
again, and the lengths of all rows. Encoding is the first pass over a pool and needs no accelerator: an executor spreads it
over processes, each with the tokenizer loaded for itself and checked by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paydirt.columns.spec import Block, PoolRef, Ragged, Ref, Spec, Unit
from paydirt.columns.store import SHARD_ROWS, PoolColumn, mapped, read_tensors
from paydirt.core.artifacts import cache_root, read_json, reading
from paydirt.core.progress import say
from paydirt.data.encoding import Encoded, Encoder, EncodingConfig
from paydirt.data.pool import Pool
from paydirt.data.tally import note_encoding
from paydirt.models.load import ModelConfig, load_tokenizer

MOST_OPEN = 256  # shards that a store keeps mapped: each holds a file open
Fill = Callable[[PoolColumn, Sequence[Unit]], None]


class Tokens(Spec):
    """Ids int32 and supervision masks of every row, ragged; its supervised tokens; whether it was cut or folded."""

    name: ClassVar[str] = "tokens"
    libraries: ClassVar[tuple[str, ...]] = ("tokenizers", "transformers")
    places: ClassVar[frozenset[str]] = frozenset({"tokenizer"})

    pool: PoolRef
    tokenizer: ModelConfig | None = None  # without one, only the process that has the encoder can fill it
    encoding: EncodingConfig
    encoder: str  # its fingerprint

    @property
    def size(self) -> int:
        return self.pool.size

    def open(self, folder: Path) -> TokenWorker:
        assert self.tokenizer is not None
        encoder = Encoder(load_tokenizer(self.tokenizer), self.encoding)
        if encoder.fingerprint != self.encoder:
            raise ValueError(
                f"{self.tokenizer.path}: the tokenizer is another one here; put the same files there for all processes"
            )
        return TokenWorker(self, encoder)


class TokenWorker:
    """An encoder that stays loaded."""

    device = "cpu"

    def __init__(self, spec: Tokens, encoder: Encoder) -> None:
        self.pool, self.encoder = spec.pool.open(), encoder

    def __call__(self, rows: np.ndarray) -> Block:
        examples = self.pool.take(rows)
        encoded = self.encoder.encode_examples(examples)
        folds = self.encoder.folds_system
        values: dict[str, np.ndarray | Ragged] = {
            "ids": Ragged.of([e.ids for e in encoded], np.int32),
            "supervised": Ragged.of([e.supervised for e in encoded], np.bool_),
            "supervised_lengths": np.asarray([e.n_supervised for e in encoded], dtype=np.int32),
            "truncated": np.asarray([e.truncated for e in encoded], dtype=np.int8),
            "folded": np.asarray([folds and any(m.role == "system" for m in e.messages) for e in examples], np.int8),
        }
        lengths = np.asarray([len(e.ids) for e in encoded], dtype=np.int64)
        return Block(values, np.zeros(len(rows), dtype=np.int64), lengths)


class TokenStore:
    """Ids and masks of every row of a filled column, read where they lie; lengths are in tokens after truncation."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        layout = read_json(self.path, "column.json")
        with reading(self.path, "column.json"):
            self._shard_rows, self._size = int(layout["shard_rows"]), int(layout["spec"]["pool"]["size"])
        self._open: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, row: int) -> Encoded:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a pool of {len(self)}")
        number, inside = divmod(int(row), self._shard_rows)
        if number not in self._open:
            if len(self._open) == MOST_OPEN:
                del self._open[next(iter(self._open))]
            found = mapped(self._shard(number))
            edges = np.concatenate([[0], np.cumsum(found["tokens"])])
            self._open[number] = edges, found["value.ids"], found["value.supervised"]
        edges, ids, supervised = self._open[number]
        part = slice(edges[inside], edges[inside + 1])
        return Encoded(ids[part], supervised[part])

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64."""
        return self._counts["tokens"]

    @property
    def supervised_lengths(self) -> np.ndarray:
        """[N] int32; the first token has no prediction and never counts."""
        return self._counts["value.supervised_lengths"]

    @property
    def total(self) -> int:
        """Tokens in the whole pool."""
        return int(self.lengths.sum())

    @cached_property
    def notes(self) -> dict[str, int]:
        """Counts for manifests and tables."""
        return {
            "examples": len(self),
            "tokens": self.total,
            "supervised_tokens": int(self.supervised_lengths.sum(dtype=np.int64)),
            "truncated": int(self._counts["value.truncated"].sum(dtype=np.int64)),
            "without_supervised_tokens": int(np.sum(self.supervised_lengths == 0)),
            "system_folded": int(self._counts["value.folded"].sum(dtype=np.int64)),
        }

    def _shard(self, number: int) -> Path:
        return self.path / "shards" / f"{number:05d}.safetensors"

    @cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        names = ("tokens", "value.supervised_lengths", "value.truncated", "value.folded")
        parts = [read_tensors(self._shard(i), names) for i in range(-(-len(self) // self._shard_rows))]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


class TokensRef(Ref):
    """A pool's tokens: where their column lies, the pool and the identity of the encoder."""

    path: str
    pool: PoolRef
    encoder: str

    @classmethod
    def of(cls, tokens: TokenStore, pool: Pool, encoder: str) -> TokensRef:
        return cls(path=str(tokens.path), pool=PoolRef.of(pool), encoder=encoder)

    def facts(self) -> dict[str, Any]:
        return {"pool": self.pool.facts(), "encoder": self.encoder}

    @property
    def size(self) -> int:
        return self.pool.size

    def open(self) -> TokenStore:
        return TokenStore(Path(self.path))


def token_store(
    pool: Pool,
    encoder: Encoder,
    shared: Path | None = None,
    tokenizer: ModelConfig | None = None,
    fill: Fill | None = None,
    shard_rows: int = SHARD_ROWS,
) -> TokenStore:
    """Encode `pool`, or find what was encoded; `fill` is an executor's, for which `tokenizer` says what to load."""
    spec = Tokens(pool=PoolRef.of(pool), tokenizer=tokenizer, encoding=encoder.config, encoder=encoder.fingerprint)
    column = PoolColumn(spec, shared or cache_root(), shard_rows)
    units = column.plan()
    if units:
        column.worker = TokenWorker(spec, encoder)  # where it is this process that fills, the encoder is there
        (fill if fill and tokenizer else PoolColumn.fill)(column, units)
    store = TokenStore(column.path)
    if units and (folded := store.notes["system_folded"]):
        say(f"{folded} system turns were put at the head of the user turn: the chat template has no place for them")
    note_encoding(pool.fingerprint, store.notes)
    return store
