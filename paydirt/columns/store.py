"""A column on disk: whole shards, and pieces of rows that were asked for before their shards were filled.

A folder named by the spec's key holds `column.json` (the spec and the size of a shard), `shards/00012.safetensors`, a
fixed range of rows each, and `pieces/*.safetensors`, rows from anywhere. Every file is written under a name of its own
and renamed when whole, so the file is the marker; it holds what each of its rows took and its own cost line (FLOPs,
tokens, seconds, device), so that a killed and resumed column adds up to the same bytes and FLOPs as any other. No lock is
held while work is done: see `claims`.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.columns.spec import Block, Ragged, Spec, Unit, Worker
from paydirt.core.artifacts import write_atomic
from paydirt.core.claims import SILENT, claimed, revoke
from paydirt.core.files import WRITING
from paydirt.core.progress import showing

SHARD_ROWS = 4096  # of a shard, unless told
PIECE_ROWS = 1024  # rows on demand that a kill may cost
DTYPES = {"I64": np.int64, "I32": np.int32, "I8": np.int8, "BOOL": np.bool_, "F32": np.float32}
POLL = 0.2  # seconds between two looks at shards that others work on


class PoolColumn:
    """The column of `spec` under `shared`. Who opens it first decides the size of a shard; nothing else depends on it."""

    def __init__(self, spec: Spec, shared: Path, shard_rows: int) -> None:
        self.spec, self.shared = spec, Path(shared)
        self.path = self.shared / spec.folder
        self._wanted = shard_rows
        self._pieces: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return self.spec.size

    @property
    def shard_rows(self) -> int:
        """Rows of a shard: as who began the column decided."""
        if "_settled" in self.__dict__ or (self.path / "column.json").exists():
            return self._settled
        return self._wanted

    @cached_property
    def worker(self) -> Worker:
        """Opened when the first row is missing, and kept."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.spec.open(self.path)

    def close(self) -> None:
        """Let go of the worker, and of the model that it holds."""
        self.__dict__.pop("worker", None)

    @property
    def place(self) -> str:
        """What a ledger calls this column."""
        return self.spec.folder

    def shards(self) -> list[tuple[int, int]]:
        n = len(self)
        return [(start, min(start + self.shard_rows, n)) for start in range(0, n, self.shard_rows)]

    def missing_shards(self) -> list[int]:
        there = {path.name for path in self.shard_path(0).parent.glob("*")}
        return [i for i in range(-(-len(self) // self.shard_rows)) if self.shard_path(i).name not in there]

    def shard_path(self, shard: int) -> Path:
        """The file of a shard, which is there when the shard is."""
        return self.path / "shards" / f"{shard:05d}.safetensors"

    def begin(self) -> None:
        """From here on the size of a shard holds."""
        assert self._settled > 0

    # ---- filling --------------------------------------------------------------------------------------------------
    def plan(self, rows: np.ndarray | None = None) -> list[Unit]:
        """What is missing of `rows` (default: all): shards that are asked for in whole, other rows in pieces."""
        if rows is None:
            return list(self.missing_shards())
        self.begin()
        rows = np.unique(rows)
        number, counts = np.unique(rows // self.shard_rows, return_counts=True)
        sizes = np.minimum((number + 1) * self.shard_rows, len(self)) - number * self.shard_rows
        whole = np.intersect1d(number[counts == sizes], self.missing_shards())
        missing = rows[~self.present(rows) & ~np.isin(rows // self.shard_rows, whole)]
        pieces = [tuple(missing[at : at + PIECE_ROWS].tolist()) for at in range(0, len(missing), PIECE_ROWS)]
        return [*whole.tolist(), *pieces]

    def fill(self, units: Iterable[Unit] | None = None) -> None:
        """Do `units` (default: every missing shard) in this process; those that another process has, it may do."""
        self.begin()
        todo = list(self.plan() if units is None else units)
        with showing(self.spec.title, sum(map(self.rows_in, todo))) as bar:
            while todo:
                left = []
                for unit in todo:
                    if self.do(unit):
                        bar.finish(self.rows_in(unit))
                    else:
                        left.append(unit)
                if left == todo:
                    time.sleep(POLL)
                todo = left
        self.sweep()

    def rows_in(self, unit: Unit) -> int:
        """How many rows a unit has."""
        if isinstance(unit, tuple):
            return len(unit)
        return max(0, min((unit + 1) * self.shard_rows, len(self)) - unit * self.shard_rows)

    def do(self, unit: Unit) -> bool:
        """Whether the unit is there: found, or computed now. False where another process is at work on it."""
        if isinstance(unit, int):
            return self.fill_shard(unit)
        rows = np.asarray(unit, dtype=np.int64)
        missing = rows[~self.present(rows)]
        if len(missing):
            self._write(self.path / "pieces" / f"{uuid.uuid4().hex}.safetensors", missing, *self._timed(missing))
        return True

    def fill_shard(self, shard: int) -> bool:
        """Whether the shard is there: found, or computed now. False where another process is at work on it."""
        self.begin()
        path = self.shard_path(shard)
        if path.exists():
            return True
        with claimed(self.path / "claims" / f"{shard:05d}", frozen=True) as mine:
            if mine and not path.exists():
                rows = np.arange(shard * self.shard_rows, min((shard + 1) * self.shard_rows, len(self)))
                self._write_shard(shard, rows, *self._complete(rows))
        return bool(mine) or path.exists()

    def release(self, unit: Unit, host: str, process: int) -> None:
        """Give up that a process will do `unit`: it died, or is frozen."""
        if isinstance(unit, int):
            revoke(self.path / "claims" / f"{unit:05d}", host, process)

    def compute(self, rows: np.ndarray) -> None:
        """Make sure that `rows` are there, in this process."""
        if units := self.plan(rows):
            self.fill(units)

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of `rows` is on disk, bool [n]."""
        absent = np.zeros(-(-len(self) // self.shard_rows), dtype=bool)
        absent[self.missing_shards()] = True
        found = ~absent[rows // self.shard_rows]
        for piece in self._index().values():
            found |= np.isin(rows, piece)
        return np.asarray(found)

    def _timed(self, rows: np.ndarray) -> tuple[Block, float]:
        started = time.perf_counter()
        block = self.worker(rows)
        return block, time.perf_counter() - started

    def _complete(self, rows: np.ndarray) -> tuple[Block, float]:
        """The block of a shard and the seconds it took: what pieces hold already is not computed again."""
        here = self.present(rows)
        if not here.any():
            return self._timed(rows)
        known = self.read(rows[here])
        if here.all():
            return known, 0.0
        new, seconds = self._timed(rows[~here])
        order = np.argsort(np.concatenate([rows[here], rows[~here]]), kind="stable")
        return Block.concatenate([known, new]).take(order), seconds

    # ---- reading --------------------------------------------------------------------------------------------------
    def rows(self, rows: np.ndarray) -> Block:
        """The block of `rows` [n] in that order, computed where it is missing."""
        self.compute(rows)
        return self.read(rows)

    def read(self, rows: np.ndarray, only: Sequence[str] | None = None) -> Block:
        """The block of `rows` [n] in that order, all values or `only` some; ValueError where a row was never computed."""
        rows = np.asarray(rows, dtype=np.int64)
        try:
            return self._gather(rows, only)
        except FileNotFoundError:  # a piece that went because its shards are whole now
            self._pieces.clear()
            return self._gather(rows, only)

    def _gather(self, rows: np.ndarray, only: Sequence[str] | None) -> Block:
        blocks, places = [], []
        left = np.ones(len(rows), dtype=bool)
        number = rows // self.shard_rows
        order = np.argsort(number, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(rows) else ():
            shard = int(number[at[0]])
            if self.shard_path(shard).exists():
                blocks.append(_take(self._read_shard(shard, only), rows[at] - shard * self.shard_rows))
                places.append(at)
                left[at] = False
        for name, piece in self._index().items() if left.any() else ():
            at = np.flatnonzero(left & np.isin(rows, piece))
            if len(at):
                blocks.append(_load(self.path / "pieces" / name, only).take(np.searchsorted(piece, rows[at])))
                places.append(at)
                left[at] = False
        if left.any():
            raise ValueError(f"{self.path}: row {rows[left][0]} was not computed; run what needs this column again")
        order = np.argsort(np.concatenate(places), kind="stable")
        block = Block.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        return block.take(order) if np.any(np.diff(order) < 0) else block

    def flops(self, rows: np.ndarray) -> np.ndarray:
        """FLOPs int64 [n] of computed `rows`."""
        return self.read(rows, only=()).flops

    def lines(self) -> list[dict[str, Any]]:
        """The cost line of every file."""
        return [_header(path) for path in sorted(self.path.glob("[sp]*s/*.safetensors"))]

    def _index(self) -> dict[str, np.ndarray]:
        """Rows of every piece by file name."""
        folder = self.path / "pieces"
        names = {path.name for path in folder.glob("*.safetensors")}
        for name in self._pieces.keys() - names:
            del self._pieces[name]
        for name in sorted(names - self._pieces.keys()):
            self._pieces[name] = read_tensors(folder / name, ["rows"])["rows"]
        return self._pieces

    # ---- files ----------------------------------------------------------------------------------------------------
    @cached_property
    def _settled(self) -> int:
        """Begin the column, unless it is begun: its size of a shard holds from then on."""
        path = self.path / "column.json"
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            facts = {"spec": self.spec.to_dict(), "facts": self.spec.facts(), "shard_rows": self._wanted}
            part = path.with_name(f".{uuid.uuid4().hex}.part")
            part.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
            with suppress(FileExistsError):
                os.link(part, path)  # unlike a rename, it fails where another process was first
            part.unlink()
        return int(json.loads(path.read_text(encoding="utf-8"))["shard_rows"])

    def _write_shard(self, shard: int, rows: np.ndarray, block: Block, seconds: float) -> None:
        self._write(self.shard_path(shard), rows, block, seconds)

    def _read_shard(self, shard: int, only: Sequence[str] | None) -> Block:
        return _load(self.shard_path(shard), only)

    def line(self, rows: np.ndarray, block: Block, seconds: float) -> dict[str, Any]:
        """The cost line of a file."""
        return {
            "what": self.spec.folder,
            "rows": len(rows),
            "flops": sum(block.flops.tolist()),
            "tokens": int(block.tokens.sum()),
            "seconds": round(seconds, 4),
            "device": str(self.worker.device) if "worker" in self.__dict__ else "",
            **(getattr(self.worker, "remarks", {}) if "worker" in self.__dict__ else {}),
        }

    def _write(self, path: Path, rows: np.ndarray, block: Block, seconds: float) -> None:
        from safetensors.numpy import save

        tensors = {"rows": rows, "flops": block.flops, "tokens": block.tokens}
        for name, value in block.values.items():
            if isinstance(value, Ragged):
                tensors |= {f"value.{name}": value.flat, f"lengths.{name}": value.lengths}
            else:
                tensors[f"value.{name}"] = np.ascontiguousarray(value)
        line = self.line(rows, block, seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(tensors, metadata={"line": json.dumps(line)}))

    def sweep(self) -> None:
        """Once all shards are there: remove pieces, and what killed processes left half-written."""
        if self.missing_shards():
            return
        for path in self.path.glob("pieces/*"):
            path.unlink(missing_ok=True)
        for path in self.path.rglob(f"{WRITING}*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > SILENT:  # else somebody may be writing it
                    path.unlink()
        self._pieces.clear()


def mapped(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a file, memory-mapped; ValueError where it is damaged."""
    try:
        data = np.memmap(path, np.uint8, "r").view(np.ndarray)
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        found = {}
        for name, tensor in header.items():
            if name != "__metadata__":
                low, high = (start + offset for offset in tensor["data_offsets"])
                found[name] = data[low:high].view(DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
        return found
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove the file, and its rows are computed again") from None


def read_tensors(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Tensors of a file, all or those of `names`; ValueError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys() if names is None or name in names}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error}); remove the file, and its rows are computed again") from None


def _load(path: Path, only: Sequence[str] | None) -> Block:
    wanted = None if only is None else ["flops", "tokens", *(f"{p}.{n}" for p in ("value", "lengths") for n in only)]
    found = read_tensors(path, wanted)
    values: dict[str, np.ndarray | Ragged] = {}
    for name in (name.removeprefix("value.") for name in found if name.startswith("value.")):
        lengths = found.get(f"lengths.{name}")
        flat = found[f"value.{name}"]
        values[name] = flat if lengths is None else Ragged(flat, lengths)
    return Block(values, found["flops"], found["tokens"])


def _take(block: Block, rows: np.ndarray) -> Block:
    """Those rows of a shard; all of them as they are, without a copy."""
    whole = len(rows) == len(block) and bool((rows == np.arange(len(block))).all())
    return block if whole else block.take(rows)


def _header(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return dict(json.loads(file.metadata()["line"]))
