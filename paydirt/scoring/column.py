"""The scores of a pool as a column: computed shard by shard, metered, resumed, and by several processes where that pays.

It lies in the score directory itself: `values/00012.npy` holds the scores float32 [n, C] of a fixed range of rows, mapped by
who reads them (`selection.scores`). What a shard took (FLOPs, seconds, device) is told beside it, so that bytes of scores
depend on nothing but what was scored; `costs.jsonl` keeps these lines when all shards are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import SerializeAsAny

from paydirt.columns import Block, PoolColumn, PoolRef, Spec
from paydirt.core.artifacts import write_atomic
from paydirt.core.config import Config
from paydirt.core.types import Example, Message, Target
from paydirt.cost.measure import FlopMeter
from paydirt.data.encoding import EncodingConfig
from paydirt.models.load import ModelConfig
from paydirt.scoring.job import Job
from paydirt.selection.scores import shard_path, write_shard

if TYPE_CHECKING:
    from paydirt.scoring.base import Scorer

COSTS = "costs.jsonl"


class Scored(Spec):
    """Scores float32 [n, C] of every row by a method, for a target; `inputs` are fingerprints of all that they depend on."""

    name: ClassVar[str] = "scores"
    places: ClassVar[frozenset[str]] = frozenset({"references", "selector", "out", "shared", "shard_rows"})

    method: SerializeAsAny[Config]
    pool: PoolRef
    inputs: dict[str, Any]
    references: str  # the file with the target
    selector: ModelConfig | None
    encoding: EncodingConfig
    seed: int
    convention: str
    out: str
    shared: str
    shard_rows: int

    @classmethod
    def of(cls, method: Scorer, job: Job) -> Scored:
        path = job.scratch / "target.json"
        write_atomic(path, json.dumps(asdict(replace(job.target, test=())), ensure_ascii=False))
        return cls(
            method=method,
            pool=PoolRef.of(job.pool),
            inputs=job.inputs,
            references=str(path),
            selector=job.model,
            encoding=job.encoding,
            seed=job.seed,
            convention=job.convention,
            out=str(job.out),
            shared=str(job.shared),
            shard_rows=job.shard_rows,
        )

    @property
    def size(self) -> int:
        return self.pool.size

    @property
    def folder(self) -> str:
        """What ledgers call it; it lies in the score directory."""
        return self.title

    @property
    def title(self) -> str:
        return f"scoring {self.method.label}"  # type: ignore[attr-defined]

    def open(self, folder: Path) -> ScoreWorker:
        """Prepare the method anew: what it takes long for is on disk by now."""
        job = Job(
            self.pool.open(),
            read_target(Path(self.references)),
            Path(self.out),
            Path(self.shared),
            self.selector,
            self.encoding,
            self.seed,
            self.convention,
            shard_rows=self.shard_rows,
        )
        method: Any = self.method
        return ScoreWorker(method, job, method.prepare(job))


class ScoreWorker:
    """A method that is prepared; what it counts while it scores is its rows'."""

    device = "cpu"

    def __init__(self, method: Scorer, job: Job, state: Any) -> None:
        self.method, self.job, self.state = method, job, state

    def __call__(self, rows: np.ndarray) -> Block:
        kept, self.job.meter = self.job.meter, FlopMeter()
        try:
            values = self.method.scored(self.job, self.state, rows)
            spent = round(self.job.meter.flops)
        finally:
            self.job.meter = kept
        flops = spread(spent, len(rows))
        return Block({"values": values.astype(np.float32)}, flops, np.zeros_like(flops))


def spread(flops: int, rows: int) -> np.ndarray:
    """FLOPs int64 [rows] of each row, where all cost the same."""
    out = np.full(rows, flops // rows, dtype=np.int64)
    out[: flops % rows] += 1
    return out


class ScoreColumn(PoolColumn):
    """The column of a score directory: `path` is that directory."""

    def __init__(self, spec: Spec, shared: Path, shard_rows: int) -> None:
        super().__init__(spec, shared, shard_rows)
        self.path = self.shared

    def shard_path(self, shard: int) -> Path:
        return shard_path(self.path, shard)

    def lines(self) -> list[dict[str, Any]]:
        """The cost line of every shard."""
        if (self.path / COSTS).exists():
            return [json.loads(line) for line in (self.path / COSTS).read_text(encoding="utf-8").splitlines()]
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((self.path / "costs").glob("*.json"))]

    def finish(self) -> None:
        """Leave values and cost lines alone."""
        write_atomic(self.path / COSTS, "".join(json.dumps(line) + "\n" for line in self.lines()))
        for name in ("costs", "claims", "pieces"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / "column.json").unlink(missing_ok=True)

    def _write_shard(self, shard: int, rows: np.ndarray, block: Block, seconds: float) -> None:
        path = self._cost_path(shard)
        for folder in (path.parent, self.shard_path(shard).parent):
            folder.mkdir(exist_ok=True)
        write_atomic(path, json.dumps(self.line(rows, block, seconds)))
        write_shard(self.path, shard, block.array("values"))

    def _read_shard(self, shard: int, only: Sequence[str] | None) -> Block:
        values = np.load(self.shard_path(shard), mmap_mode="r")
        flops = spread(json.loads(self._cost_path(shard).read_text(encoding="utf-8"))["flops"], len(values))
        return Block({} if only == () else {"values": values}, flops, np.zeros_like(flops))

    def _cost_path(self, shard: int) -> Path:
        return self.path / "costs" / f"{shard:05d}.json"


def read_target(path: Path) -> Target:
    """What `Scored.of` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    references = [
        Example(**e | {"messages": tuple(Message(**message) for message in e["messages"])}) for e in found["references"]
    ]
    return Target(found["name"], tuple(references), tuple(found["subtask_of"]))
