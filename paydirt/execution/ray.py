"""A Ray cluster: an existing one, or one started on this machine for the call.

Ray Core actors, one a GPU, or a share of the CPU cores each; specs, paths and results of tasks travel, arrays don't: the
workers read and write storage that all nodes share, which is checked first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from paydirt.columns import PoolColumn, Spec, Unit
from paydirt.columns.store import POLL
from paydirt.core.progress import showing, track
from paydirt.execution.cluster import check, connect, nodes
from paydirt.execution.crew import Crew, Share
from paydirt.execution.ranks import run_ranks

A = TypeVar("A")
R = TypeVar("R")
_column: PoolColumn | None = None  # of a worker process: opened once, for all the units that it is given
A_NODE = 4  # workers a node where there is no GPU: small models gain little from more threads


@dataclass(frozen=True)
class Ray:
    """The cluster at `address` ("auto": the one of this machine); at most `workers` actors at once."""

    address: str | None = None
    workers: int | None = None

    def fill(self, column: PoolColumn, units: Sequence[Unit]) -> None:
        """Do all `units`; ValueError names a node that does not see the column's folder or its inputs."""
        if not units:
            return
        self.check(column.shared, inputs=_paths(column.spec.to_dict()))
        device = _device(column.spec)
        share = self._share(len(units), device != "cpu")
        if device.startswith("cuda") and not share.gpu:
            raise ValueError(
                f"device {device}, but no node of the Ray cluster has a GPU: start them by `ray start --num-gpus N`, or "
                "ask for cpu"
            )
        column.begin()
        spec = column.spec.placed("cuda" if share.gpu else "cpu")
        opened = (type(column), spec, column.shared, column.shard_rows, column.spec.key)
        crew = Crew(share, _open_column, opened, _do, again=_undone, lost=column.release)
        with showing(column.spec.title, sum(map(column.rows_in, units)), others=lambda: crew.parts) as bar:
            for number, _ in crew.run(units):
                bar.finish(column.rows_in(units[number]))
        column.sweep()

    def map(self, work: Callable[[A], R], tasks: Iterable[A], title: str) -> list[R]:
        """`work(task)` of every task, in task order; the task of a node that dies is done again elsewhere, from the start
        or from what it left."""
        items = list(tasks)
        if not items:
            return []
        self.check()
        out: list[Any] = [None] * len(items)
        crew = Crew(self._share(len(items), True), _nothing, (), work, counts=False)
        for number, result in track(crew.run(items), title, 1, len(items), others=lambda: crew.parts):
            out[number] = result
        return out

    def together(self, work: Callable[[], R], device: str, *places: Path, inputs: Sequence[str] = ()) -> R:
        """`work()` by Ray Train: a rank a GPU (all of them), or `workers` ranks; without GPUs a rank a node by default.

        Where a rank's node dies all begin again, from what is saved.
        """
        self.check(*places, inputs=inputs)
        share = self._ranks(device != "cpu")
        if device.startswith("cuda") and not share.gpu:
            raise ValueError(f"device {device}, but no node of the Ray cluster has a GPU: ask for cpu")
        return run_ranks(work, share, places[0] / ".ray-train")

    def _ranks(self, accelerated: bool) -> Share:
        """Equal shares for processes that work in step; ValueError where the cluster has no room for so many."""
        there = nodes()
        gpus = sum(node.gpus for node in there) if accelerated else 0
        if gpus:
            wanted, room = self.workers or gpus, gpus
            cpus = max(1, min(node.cpus // node.gpus for node in there if node.gpus))
        else:
            cores = [node.cpus for node in there if node.cpus]
            wanted, room = self.workers or len(cores), sum(cores)
            cpus = next((c for c in range(max(cores), 0, -1) if sum(n // c for n in cores) >= wanted), 1)
        if wanted > room:
            kind = "GPUs" if gpus else "CPU cores"
            raise ValueError(f"--workers {wanted}: the Ray cluster has {room} {kind}; ask for no more, or add nodes")
        return Share(wanted, cpus, bool(gpus))

    def check(self, *places: Path, inputs: Sequence[str] = ()) -> None:
        """Join the cluster; ValueError where it has nothing to work with, or a node does not share a folder of `places`."""
        connect(self.address)
        if not nodes():
            raise ValueError("the Ray cluster has no node with CPUs or GPUs for Ray; see `ray status`")
        check(places, inputs)

    def _share(self, jobs: int, accelerated: bool) -> Share:
        """One worker a GPU where there are any; else up to four a node that share its cores, or `workers` in all."""
        there = nodes()
        gpus = sum(node.gpus for node in there) if accelerated else 0
        if gpus:
            workers = min(gpus, self.workers or gpus, jobs)
            return Share(workers, min(node.cpus // node.gpus for node in there if node.gpus), True)
        cores = [node.cpus for node in there if node.cpus] or [0]
        wanted = min(self.workers or sum(min(A_NODE, n) for n in cores), max(1, sum(cores)), jobs)
        each = next((c for c in range(max(cores), 0, -1) if sum(n // c for n in cores) >= wanted), 1)
        return Share(wanted, each, False)


def ray_executor(address: str | None, workers: int | None, gpus: str | None) -> Ray:
    """What `--execution ray` asks for; ValueError for what does not go with it."""
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: give at least 1")
    if gpus is not None:
        raise ValueError(
            f"--gpus {gpus} are numbers of this machine; on Ray each worker has a GPU of the cluster: use --workers"
        )
    return Ray(address, workers)


def _device(spec: Spec) -> str:
    """Where the column is asked to be computed; cpu where it has no use for anything else."""
    return str(getattr(spec, "device", None) or getattr(getattr(spec, "model", None), "device", "cpu"))


def _paths(values: Any) -> list[str]:
    """Every absolute path in a spec."""
    if isinstance(values, dict):
        return [path for inner in values.values() for path in _paths(inner)]
    if isinstance(values, list | tuple):
        return [path for inner in values for path in _paths(inner)]
    return [values] if isinstance(values, str) and os.path.isabs(values) else []


def _nothing() -> None:
    pass


def _open_column(kind: type[PoolColumn], spec: Spec, shared: Path, shard_rows: int, key: str) -> None:
    global _column
    if spec.key != key:
        raise ValueError(f"column {spec.name} is {key} here and {spec.key} on a node: install the same versions there")
    _column = kind(spec, shared, shard_rows)


def _do(unit: Unit) -> bool:
    assert _column is not None
    done = _column.do(unit)
    if not done:
        time.sleep(POLL)  # another run is at it
    return done


def _undone(done: bool) -> bool:
    return not done
