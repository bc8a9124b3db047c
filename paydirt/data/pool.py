"""The pool: N candidate examples on disk, mapped, reached by row or by id.

What enters: a `PoolConfig`. What leaves: a `Pool`, whose files were imported once into the cache (see `importer`) and
are mapped from then on, so that opening takes milliseconds and memory does not grow with N. Everything downstream is
keyed by id; rows are only how the pool is walked, and hold for one import.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paydirt.core.artifacts import Artifact, build, cache_root, fingerprint
from paydirt.core.claims import discard_unfinished
from paydirt.core.types import Example, Message
from paydirt.data.forms import FormName
from paydirt.data.identity import content_id, hash_id
from paydirt.data.importer import VERSION, Parsed, import_files, parse_file
from paydirt.data.readers import stem, unit
from paydirt.data.sources import PoolConfig, SourceFile, digest, source_files
from paydirt.data.tally import Tally, account, opened

__all__ = ["Part", "Pool", "PoolConfig", "examples_from_file", "open_pool"]

Part = Literal["prompt", "answer", "full", "first"]
BLOCK = 4096


class Pool:
    """Examples in import order, on disk. `notes` tells what the import met; `fingerprint` is the content's."""

    def __init__(self, artifact: Artifact) -> None:
        self.path = artifact.path
        self.fresh = artifact.fresh
        self.notes: dict[str, Any] = artifact.notes
        self.fingerprint: str = self.notes["fingerprint"]
        self.form: str = self.notes["form"]
        reader = pa.ipc.open_file(pa.memory_map(str(self.path / "pool.arrow")))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def order(self) -> str:
        """Hash of the ids in row order: the fingerprint does not depend on order, columns do."""
        digest = hashlib.sha256()
        for start in range(0, len(self), BLOCK):
            digest.update("\n".join(self.ids(start, min(start + BLOCK, len(self)))).encode())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Pool({len(self)} examples, {len(self.source_counts())} sources, {self.form}, {self.fingerprint[:8]})"

    def id_at(self, row: int) -> str:
        return self._column("id", row, row + 1)[0]

    def ids(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Ids of rows [start, stop)."""
        return self._column("id", start, stop)

    def sources(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Source of each of the rows [start, stop)."""
        return self._column("source", start, stop)

    def subsets(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Subset of each of the rows [start, stop); "" where the record names none."""
        return self._column("subset", start, stop)

    def account(self) -> dict[str, Any]:
        """What became of every record that was read: counts with first places, for manifests and tables."""
        return account(self.notes)

    def source_counts(self) -> dict[str, int]:
        return dict(self.notes["sources"])

    def place(self, row: int) -> str:
        """Where a row was read: file and line, for messages."""
        file = self.notes["files"][self._column("file", row, row + 1)[0]]
        return f"{file}{unit(file)}{self._column('line', row, row + 1)[0]}"

    def example(self, row: int) -> Example:
        return self.examples(row, row + 1)[0]

    def examples(self, start: int = 0, stop: int | None = None) -> list[Example]:
        """Rows [start, stop) as examples; take a few thousand at a time."""
        return [example for batch in self._slices(start, stop) for example in _examples(batch)]

    def take(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> list[Example]:
        """The examples at `rows`, in that order, repeats allowed."""
        return self._take(rows, ["id", "source", "subset", "messages"], _examples)

    def records(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> list[dict[str, Any]]:
        """The original records at `rows`, every field as it was read, in the pool's own form."""
        return [json.loads(raw) for raw in self._take(rows, ["raw"], lambda batch: batch.column("raw").to_pylist())]

    def texts(self, start: int = 0, stop: int | None = None, part: Part = "full") -> list[str]:
        """One text for each of the rows [start, stop), turns joined by a newline.

        `part`: "prompt" all user turns, "answer" all assistant turns, "full" every turn, "first" the first turn only,
        which is what the seeds' bm25 indexes by mistake (METHODS section 2).
        """
        return [text for batch in self._slices(start, stop) for text in _texts(batch, part)]

    def ids_at(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """Ids of `rows`, in that order."""
        return self._take(rows, ["id"], lambda batch: batch.column("id").to_pylist())

    def sources_at(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """Source of each of `rows`, in that order."""
        return self._take(rows, ["source"], lambda batch: batch.column("source").to_pylist())

    def texts_at(self, rows: npt.NDArray[np.integer], part: Part = "full") -> list[str]:
        """One text for each of `rows`, in that order; parts as in `texts`."""
        return self._take(rows, ["messages"], lambda batch: _texts(batch, part))

    def rows_of(self, ids: Iterable[str]) -> npt.NDArray[np.int64]:
        """Row of each id [len(ids)] int64; ValueError naming ids that the pool does not have."""
        wanted = list(ids)
        keys = np.load(self.path / "id_hash.npy", mmap_mode="r")
        order = np.load(self.path / "id_row.npy", mmap_mode="r")
        hashes = np.fromiter((hash_id(id) for id in wanted), dtype=np.uint64, count=len(wanted))
        at = np.searchsorted(keys, hashes)
        rows = np.asarray(order[np.minimum(at, len(keys) - 1)], dtype=np.int64)
        found = self.ids_at(rows)
        missing = []
        for number, (id, other) in enumerate(zip(wanted, found)):
            while other != id and at[number] + 1 < len(keys) and keys[at[number] + 1] == hashes[number]:
                at[number] += 1  # two ids of one 64-bit hash: look at the next
                rows[number] = order[at[number]]
                other = self.id_at(int(rows[number]))
            if other != id:
                missing.append(id)
        if missing:
            shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise ValueError(f"{len(missing)} of {len(wanted)} ids are not in this pool of {len(self)}: {shown}")
        return rows

    def _slices(self, start: int, stop: int | None) -> Iterator[Any]:
        """The record batches that cover [start, stop), cut to it; IndexError outside the pool."""
        stop = len(self) if stop is None else min(stop, len(self))
        if start < 0 or (start > stop):
            raise IndexError(f"rows {start} to {stop} of a pool of {len(self)}")
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        for number in range(first, len(self._batches)):
            base = int(self._starts[number])
            if base >= stop:
                break
            low = max(start - base, 0)
            yield self._batches[number].slice(low, stop - base - low)

    def _column(self, name: str, start: int, stop: int | None) -> list[Any]:
        return [value for batch in self._slices(start, stop) for value in batch.column(name).to_pylist()]

    def _take(self, rows: Any, columns: list[str], convert: Callable[[Any], list[Any]]) -> list[Any]:
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of a pool of {len(self)}")
        batch_of = np.searchsorted(self._starts, wanted, side="right") - 1
        out: list[Any] = [None] * len(wanted)
        for number in np.unique(batch_of).tolist():
            places = np.flatnonzero(batch_of == number)
            batch = self._batches[number].select(columns).take(pa.array(wanted[places] - self._starts[number]))
            for place, value in zip(places.tolist(), convert(batch)):
                out[place] = value
        return out


def _turns(batch: Any) -> Iterator[list[tuple[str, str]]]:
    """The turns of each row, through flat columns: far faster than one Python dict for each turn."""
    column = batch.column("messages")
    offsets = column.offsets.to_numpy()
    offsets = (offsets - offsets[0]).tolist()
    flat = column.flatten()
    turns = list(zip(flat.field("role").to_pylist(), flat.field("content").to_pylist()))
    for low, high in itertools.pairwise(offsets):
        yield turns[low:high]


def _examples(batch: Any) -> list[Example]:
    columns = [batch.column(name).to_pylist() for name in ("id", "source", "subset")]
    return [_example(id, turns, source, subset) for id, source, subset, turns in zip(*columns, _turns(batch))]


def _example(id: str, turns: Iterable[tuple[str, str]], source: str, subset: str) -> Example:
    return Example(id, tuple(Message(role, content) for role, content in turns), source, subset)


def _texts(batch: Any, part: Part) -> list[str]:
    if part == "first":
        return [turns[0][1] for turns in _turns(batch)]
    roles = {"prompt": ("user",), "answer": ("assistant",), "full": ("system", "user", "assistant")}[part]
    return ["\n".join(content for role, content in turns if role in roles) for turns in _turns(batch)]


def open_pool(config: PoolConfig, cache: Path | None = None) -> Pool:
    """The pool of `config`, imported into the cache or found there; ValueError for bad input (see `importer`)."""
    cache = Path(cache) if cache else cache_root()
    files = source_files(config)
    inputs = {file.path: digest(file.path, config.split, cache) for file in files}
    options = config.model_dump(exclude={"files"})
    key = {"files": [list(file) for file in files], "importer": VERSION, **options}
    out = cache / "pools" / fingerprint([key, inputs])

    try:
        pool = Pool(build(out, "pool", key, inputs, lambda part: import_files(part, files, **options)))
    except ValueError:  # the files must change first, so nothing of this import can be of use
        discard_unfinished(out)
        raise
    opened[pool.fingerprint] = pool.account()
    return pool


def examples_from_file(
    path: str | Path,
    form: FormName = "auto",
    on_bad: Literal["raise", "skip"] = "raise",
    answers: bool = True,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
) -> list[tuple[Example, dict[str, Any]]]:
    """All examples of a small file with their original records; the same forms and errors as a pool.

    Content ids of repeated content get "-2", "-3" here too; repeated own ids are an error naming both lines. Without
    `answers` prompts alone are examples too; `split` is that of a `datasets` directory, and
    `columns` says what the records call things.
    """
    file, tally = SourceFile(str(path), stem(str(path)), False), Tally(on_bad, remedy="")
    seen: dict[str, int] = {}
    out: list[tuple[Example, dict[str, Any]]] = []
    for row in parse_file(file, form, tally, split, columns, answers=answers):
        out.append((_example(_fresh_id(row, seen, file.path), row.turns, row.source, row.subset), json.loads(row.raw)))
    if not out:
        raise ValueError(f"{path}: no examples in it; give at least one")
    return out


def _fresh_id(row: Parsed, seen: dict[str, int], path: str) -> str:
    id, number = row.id or content_id(row.turns), 1
    if row.id and id in seen:
        raise ValueError(f"{path}:{row.line}: the id {id!r} is already taken by line {seen[id]}; make the ids distinct")
    base = id
    while id in seen:
        number += 1
        id = f"{base}-{number}"
    seen[id] = row.line
    return id
