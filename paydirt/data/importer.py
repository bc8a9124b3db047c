"""Records to one memory-mapped Arrow file, streamed: what `pool.open_pool` builds once and then only maps.

What enters: sources (a path with the name its records take) and how to treat bad records. What leaves in a directory:

- pool.arrow     id, source, subset, messages, raw (the record as JSON text), file, line: record batches of at most
                 `BATCH_ROWS` rows or `BATCH_BYTES` of text
- id_hash.npy    [N] uint64, sorted hashes of the ids; id_row.npy [N] int64, their rows: ids to rows without a dict

Memory: one record batch, plus 17 bytes for each example to prove ids unique. Repeated ids are found from sorted hashes
after the first pass; only then, and only if there are any, the file is rewritten.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from paydirt.data.columns import mapped, names_turns
from paydirt.data.forms import detect, instances, read
from paydirt.data.identity import Clashes, content_id, content_share, hash_id, rewrite
from paydirt.data.readers import BadRecord, Row, read_rows, unit, unread_splits
from paydirt.data.sources import ID_KEYS, SOURCE_KEYS, SourceFile
from paydirt.data.tally import Tally
from paydirt.data.turns import Conversation, Turn

BATCH_ROWS = 8192
BATCH_BYTES = 32 << 20  # far below the 2 GiB that 32-bit Arrow offsets can address
TOO_DEEP = ("nested too deeply", "a field is nested too deeply to be read; leave the record out")
VERSION = 2  # of what an import makes of the same bytes: raise it whenever a record may be read otherwise than before
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("subset", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("raw", pa.string()),
        ("file", pa.int32()),
        ("line", pa.int64()),
    ]
)


class Parsed(NamedTuple):
    """One good record. `id` is "" where the record has none."""

    id: str
    source: str
    subset: str
    turns: list[Turn]
    raw: str
    line: int


def parse_file(
    file: SourceFile,
    form: str,
    tally: Tally,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    answers: bool = True,
) -> Iterator[Parsed]:
    """The good records of one file. With form "auto" the first record that shows a form decides for the file.

    Without `answers` each record shows its own, and may be a prompt alone.
    """
    columns = columns or {}
    by_name = names_turns(columns)
    known = None if form == "auto" else form
    if by_name:
        known = "sharegpt" if "messages" in columns else "columns" if "answer" in columns else "prompt"
    place = file.path + unit(file.path)
    tally.unread.update({f"{file.path}: {name}": 1 for name in unread_splits(file.path, split)})
    for row in read_rows(file.path, split):
        for line, record, raw in _each(row):
            tally.read += 1
            try:
                if isinstance(record, BadRecord):
                    raise record
                meant, used = mapped(record, columns)
                known = (known if answers or by_name else None) or detect(meant, answers)
                parsed, found = _parsed(meant, known, file, line, raw, answers)
            except RecursionError:
                tally.bad(f"{place}{line}", BadRecord(*TOO_DEEP))
                continue
            except BadRecord as fault:
                tally.bad(f"{place}{line}", fault)
                continue
            tally.forms[file.path] = "columns" if by_name else known
            tally.met(f"{place}{line}", found, record, used if by_name else found.used | used)
            yield parsed


def _each(row: Row) -> Iterator[Row]:
    """The row; or one row for each instance of an instruction that nests several."""
    if isinstance(row.record, BadRecord):
        yield row
        return
    records = instances(row.record)
    if len(records) == 1:
        yield row
        return
    for record in records:
        try:
            yield Row(row.line, record, json.dumps(record, ensure_ascii=False, default=str))
        except RecursionError:
            yield Row(row.line, BadRecord(*TOO_DEEP), "")


def _parsed(
    record: dict[str, Any], form: str, file: SourceFile, line: int, raw: str, answers: bool = True
) -> tuple[Parsed, Conversation]:
    found = read(record, form, answers)
    id, source, subset = _id(record), file.source, _text(record.get("subset"))
    if not file.named:
        source = next((_text(record[key]) for key in SOURCE_KEYS if record.get(key)), source)
    _check_encodable([id, source, subset, *(content for _, content in found.turns)])
    if "\\ud" in raw or "\\uD" in raw:  # escaped pairs are well; halves could not be written again
        _check_encodable([json.dumps(record, ensure_ascii=False, default=str)])
    return Parsed(id, source, subset, found.turns, raw, line), found


def _id(record: dict[str, Any]) -> str:
    return next((_text(record[key]) for key in ID_KEYS if record.get(key) not in (None, "")), "")


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _check_encodable(texts: list[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise BadRecord("lone surrogate", "a text holds half a surrogate pair (\\ud800...); repair the text") from None


class _Writer:
    """Gathers rows and writes them as record batches."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.ipc.new_file(str(path), SCHEMA)
        self._rows: list[tuple[Parsed, int]] = []
        self._bytes = 0

    def add(self, row: Parsed, file: int) -> None:
        self._rows.append((row, file))
        self._bytes += len(row.raw) * 2
        if len(self._rows) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        rows = [row for row, _ in self._rows]
        offsets = np.cumsum([0, *(len(row.turns) for row in rows)], dtype=np.int32)
        turns = [turn for row in rows for turn in row.turns]
        messages = pa.StructArray.from_arrays(
            [pa.array([turn[0] for turn in turns], pa.string()), pa.array([turn[1] for turn in turns], pa.string())],
            fields=list(MESSAGE),
        )
        columns = [pa.array([getattr(row, name) for row in rows], pa.string()) for name in ("id", "source", "subset")]
        columns += [
            pa.ListArray.from_arrays(pa.array(offsets), messages),
            pa.array([row.raw for row in rows], pa.string()),
            pa.array([file for _, file in self._rows], pa.int32()),
            pa.array([row.line for row in rows], pa.int64()),
        ]
        self.write(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._rows, self._bytes = [], 0

    def write(self, batch: Any) -> None:
        self._sink.write_batch(batch)

    def close(self) -> None:
        self.flush()
        self._sink.close()


def import_files(
    part: Path,
    files: list[SourceFile],
    form: str,
    on_bad: str,
    prefix_ids: bool,
    split: str,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Fill `part` from `files`; returns the pool's notes. ValueError for bad records, repeated ids and an empty pool."""
    tally = Tally(on_bad)
    hashes, explicit, total = array("Q"), bytearray(), 0
    counts: Counter[str] = Counter()
    path = part / "pool.arrow"
    writer = _Writer(path)
    for number, file in enumerate(files):
        for row in parse_file(file, form, tally, split, columns):
            id = row.id or content_id(row.turns)
            id = f"{row.source}:{id}" if prefix_ids else id
            hashes.append(hash_id(id))
            explicit.append(bool(row.id))
            total += content_share(id, row.source, row.turns)
            counts[row.source] += 1
            writer.add(row._replace(id=id), number)
    writer.close()
    if not hashes:
        raise ValueError(
            f"the pool is empty ({tally.why_empty()}) in {', '.join(file.path for file in files)}; check the files"
        )

    keys = np.frombuffer(hashes, dtype=np.uint64).copy()
    made = len(explicit) - sum(explicit)
    clashes = Clashes(path, [file.path for file in files], np.frombuffer(explicit, dtype=np.uint8) == 1, prefix_ids)
    renamed, dropped = clashes.settle(keys, tally.bad)
    if renamed or dropped:
        keys, total = rewrite(path, keys, renamed, dropped, total, counts)
    order = np.argsort(keys, kind="stable")
    np.save(part / "id_hash.npy", keys[order])
    np.save(part / "id_row.npy", order.astype(np.int64))
    forms = sorted(set(tally.forms.values()))
    return {
        "examples": len(keys),
        "fingerprint": f"{total % (1 << 128):032x}",
        "form": forms[0] if len(forms) == 1 else "mixed",
        "forms": tally.forms,
        "files": [file.path for file in files],
        "sources": {source: count for source, count in counts.items() if count},
        "ids": {"own": len(keys) - made, "from content": made, "repeats renamed": len(renamed)},
        **tally.notes(),
    }
