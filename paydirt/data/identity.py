"""Who an example is: ids made of content, their 64-bit index keys, and what happens when two rows share one.

An own id (the record brought it) must be unique: a repeat is an error naming both places. A content id of repeated
content gets "-2", "-3" and is counted. Both are found from sorted hashes, so no set of N strings is ever held.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from paydirt.data.readers import BadRecord, unit
from paydirt.data.turns import Turn


def content_id(turns: Iterable[Turn]) -> str:
    """16 hex digits of BLAKE2b over the canonical messages: the id of a record that has none."""
    return hashlib.blake2b(_canonical(turns), digest_size=8).hexdigest()


def hash_id(id: str) -> int:
    """64 bits of BLAKE2b of an id, for the sorted index."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")


def _canonical(turns: Iterable[Turn]) -> bytes:
    return json.dumps([list(turn) for turn in turns], ensure_ascii=False, separators=(",", ":")).encode()


def content_share(id: str, source: str, turns: Iterable[Turn]) -> int:
    """One example's share of the pool's fingerprint: shares add up, so order and files do not matter."""
    head = json.dumps([id, source], ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(head + _canonical(turns), digest_size=16).digest(), "little")


@dataclass
class Clashes:
    """Finds rows that share an id and settles them: own ids must differ, content ids get "-2", "-3"."""

    path: Path
    files: list[str]
    explicit: npt.NDArray[np.bool_]
    prefixed: bool

    def settle(
        self, keys: npt.NDArray[np.uint64], bad: Callable[[str, BadRecord], None]
    ) -> tuple[dict[int, str], set[int]]:
        """New ids by row, and rows to drop (repeated own ids under on_bad: skip)."""
        renamed: dict[int, str] = {}
        dropped: set[int] = set()
        groups = self._groups(keys)
        for id, rows in groups.items():
            own = [row for row, _, _ in rows if self.explicit[row]]
            for row in own[1:]:
                bad(self._place(rows, row), self._fault(id, rows, own[0], row))
                dropped.add(row)
            # A content id keeps its plain form once; the order (source, then row) does not depend on how files are cut.
            others = sorted((source, row) for row, source, _ in rows if not self.explicit[row])
            for number, (_, row) in enumerate(others, 1 + bool(own)):
                if number > 1:
                    renamed[row] = f"{id}-{number}"
        return renamed, dropped

    def _groups(self, keys: npt.NDArray[np.uint64]) -> dict[str, list[tuple[int, str, str]]]:
        """Rows (row, source, place) that truly share an id, by id; equal hashes of different ids are no clash."""
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        suspects = np.sort(np.unique(np.concatenate([order[1:][same], order[:-1][same]])))
        groups: dict[str, list[tuple[int, str, str]]] = {}
        start = 0
        for batch in read_batches(self.path) if len(suspects) else ():
            low, high = np.searchsorted(suspects, [start, start + batch.num_rows])
            if high > low:
                found = batch.select(["id", "source", "file", "line"]).take(pa.array(suspects[low:high] - start))
                for row, record in zip(suspects[low:high].tolist(), found.to_pylist()):
                    file = self.files[record["file"]]
                    place = f"{file}{unit(file)}{record['line']}"
                    groups.setdefault(record["id"], []).append((row, record["source"], place))
            start += batch.num_rows
        return {id: rows for id, rows in groups.items() if len(rows) > 1}

    @staticmethod
    def _place(rows: list[tuple[int, str, str]], row: int) -> str:
        return next(place for found, _, place in rows if found == row)

    def _fault(self, id: str, rows: list[tuple[int, str, str]], first: int, row: int) -> BadRecord:
        sources = {found: source for found, source, _ in rows}
        prefix = not self.prefixed and sources[first] != sources[row]
        remedy = "set prefix_ids: true" if prefix else "make the ids distinct"
        return BadRecord("duplicate id", f"the id {id!r} is already taken by {self._place(rows, first)}; {remedy}")


def read_batches(path: Path) -> Iterator[Any]:
    """The record batches of an Arrow file, mapped, one after another."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def rewrite(
    path: Path,
    keys: npt.NDArray[np.uint64],
    renamed: dict[int, str],
    dropped: set[int],
    total: int,
    counts: Counter[str],
) -> tuple[npt.NDArray[np.uint64], int]:
    """Write the file again with new ids and without dropped rows; returns the keys kept and the new fingerprint sum."""
    old = path.with_name("first.arrow")
    os.replace(path, old)
    touched = np.array(sorted({*renamed, *dropped}), dtype=np.int64)
    start = 0
    sink: Any = None
    for batch in read_batches(old):
        sink = sink or pa.ipc.new_file(str(path), batch.schema)
        low, high = np.searchsorted(touched, [start, start + batch.num_rows])
        rows = touched[low:high]
        ids, keep = batch.column("id").to_pylist(), np.ones(batch.num_rows, dtype=bool)
        for row, record in zip(rows.tolist(), batch.take(pa.array(rows - start)).to_pylist()):
            turns = [(turn["role"], turn["content"]) for turn in record["messages"]]
            total -= content_share(record["id"], record["source"], turns)
            if row in dropped:
                counts[record["source"]] -= 1
                keep[row - start] = False
                continue
            ids[row - start] = renamed[row]
            keys[row] = hash_id(renamed[row])
            total += content_share(renamed[row], record["source"], turns)
        start += batch.num_rows
        sink.write_batch(
            batch.set_column(0, batch.schema.field("id"), pa.array(ids, pa.string())).filter(pa.array(keep))
        )
    sink.close()
    old.unlink()
    kept = np.delete(keys, sorted(dropped))
    if len(np.unique(kept)) < len(kept):
        raise ValueError(
            f"ids given to repeated content ({sorted(renamed.values())[:3]} ...) clash with the pool's own ids"
        )
    return kept, total
