"""This machine: several processes, each with its share of the cores, or one for each GPU.

Results come in task order, the first failure is raised. Workers are spawned and die with their parent (Linux), so that a
killed run leaves nobody behind who writes. One worker is this process itself.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from paydirt.columns import PoolColumn, Spec, Unit
from paydirt.columns.store import POLL
from paydirt.core.progress import console, report, showing, track

A = TypeVar("A")
R = TypeVar("R")
_column: PoolColumn | None = None  # of a worker process: opened once, for all the units that it is given
_parts: Any = None  # of all workers: what part of its unit each has done
_number = 0  # of a worker process: its place among them


@dataclass(frozen=True)
class Local:
    """`workers` processes on the CPU, or one for each of `gpus` (numbers as CUDA shows them).

    Without either: every GPU where there are several, else this process.
    """

    workers: int | None = None
    gpus: tuple[int, ...] | None = None

    def fill(self, column: PoolColumn, units: Sequence[Unit]) -> None:
        """Do all `units`; ValueError where a worker was killed, as by a lack of memory."""
        places = self.places(len(units))
        if len(places) <= 1:
            column.fill(units)
            return
        column.begin()
        left = list(units)
        opened = (type(column), column.spec, column.shared, column.shard_rows)
        rows = sum(map(column.rows_in, left))
        with (
            _processes(places, _open_column, opened) as (pool, parts),
            showing(column.spec.title, rows, others=lambda: sum(parts)) as bar,
        ):
            while left:
                futures = {pool.submit(_do, unit): unit for unit in left}
                left = []
                for future in as_completed(futures):
                    if future.result():
                        bar.finish(column.rows_in(futures[future]))
                    else:
                        left.append(futures[future])  # another run is at it
                if len(left) == len(futures):
                    time.sleep(POLL)
        column.sweep()

    def map(self, work: Callable[[A], R], tasks: Iterable[A], title: str) -> list[R]:
        """`work(task)` of every task, in task order."""
        items = list(tasks)
        places = self.places(len(items))
        if len(places) <= 1:
            return [work(item) for item in track(items, title)]
        out: list[Any] = [None] * len(items)
        with _processes(places, _nothing, ()) as (pool, parts):
            futures = {pool.submit(_work, work, item): i for i, item in enumerate(items)}
            for future in track(as_completed(futures), title, 1, len(items), others=lambda: sum(parts)):
                out[futures[future]] = future.result()
        return out

    def together(self, work: Callable[[], R], device: str, *places: Path, inputs: Sequence[str] = ()) -> R:
        """`work()` in this process, which may be one of a launcher's; ValueError where several are asked for."""
        several = self.workers or len(self.gpus or ())
        if several > 1:
            raise ValueError(
                f"one training in {several} processes needs who starts them together: --execution ray, which may be this "
                f"machine alone, or torchrun, N = {several}: `torchrun --nproc-per-node N -m paydirt train ...`"
            )
        return work()

    def check(self, *places: Path) -> None:
        """One machine sees what it sees."""

    def places(self, units: int) -> list[str]:
        """What each process sees of CUDA: one GPU, or "" for whatever this process sees."""
        from paydirt.models.load import visible_gpus

        if self.workers is not None and self.gpus is None:
            return [""] * min(self.workers, units)
        found = visible_gpus()
        wanted = range(len(found)) if self.gpus is None else self.gpus
        for gpu in wanted:
            if not 0 <= gpu < len(found):
                raise ValueError(
                    f"there is no GPU {gpu}: this machine shows {len(found)}; leave out --gpus, or name others"
                )
        if self.gpus is None and len(found) < 2:
            return [""]
        return [found[gpu] for gpu in wanted][:units]


def local(workers: int | None = None, gpus: str | None = None) -> Local:
    """What the command's `--workers` and `--gpus` ask for; ValueError for what is no number of processes or GPUs."""
    if workers is not None and workers < 1:
        raise ValueError(f"--workers {workers}: give at least 1")
    if gpus is None:
        return Local(workers)
    if workers is not None:
        raise ValueError("--workers are processes on the CPU, --gpus one process each: give one of them")
    if gpus == "all":
        return Local()
    numbers = gpus.split(",")
    if not all(number.strip().isdecimal() for number in numbers) or len({*numbers}) < len(numbers):
        raise ValueError(f"--gpus {gpus}: give distinct numbers, as 0,2, or all")
    return Local(gpus=tuple(map(int, numbers)))


class _Processes(ProcessPoolExecutor):
    """Processes start as units are submitted, and must not hear Ctrl-C."""

    def submit(self, *arguments: Any, **more: Any) -> Any:
        with _deaf():
            return super().submit(*arguments, **more)


@contextmanager
def _processes(
    places: list[str], begin: Callable[..., None], arguments: tuple[Any, ...]
) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """A process for each place, and what part of its unit each has done; killed where the block fails.

    ValueError where one of them was.
    """
    context = multiprocessing.get_context("spawn")
    queue, parts = context.SimpleQueue(), context.Array("d", len(places), lock=False)
    for number, place in enumerate(places):
        queue.put((number, place))
    threads = max(1, (os.cpu_count() or 1) // len(places))
    before = set(multiprocessing.active_children())
    with _Processes(
        len(places), mp_context=context, initializer=_begin, initargs=(threads, queue, parts, begin, arguments)
    ) as pool:
        try:
            yield pool, parts
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.kill()  # else leaving would wait for the tasks that they are at
            if isinstance(error, BrokenProcessPool):
                raise ValueError(
                    f"one of {len(places)} workers died (killed, or out of memory); what is finished is kept: run it "
                    "again, with fewer --workers"
                ) from error
            raise


def _begin(threads: int, queue: Any, parts: Any, begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    global _parts, _number
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _number, place = queue.get()
    _parts = parts
    if place:
        os.environ["CUDA_VISIBLE_DEVICES"] = place  # before CUDA starts here
    import torch

    torch.set_num_threads(threads)
    console.quiet = True
    begin(*arguments, place)


def _nothing(place: str) -> None:
    pass


def _open_column(kind: type[PoolColumn], spec: Spec, shared: Path, shard_rows: int, place: str) -> None:
    global _column
    _column = kind(spec.placed("cuda") if place else spec, shared, shard_rows)


def _do(unit: Unit) -> bool:
    assert _column is not None
    with report(_tell):
        return _column.do(unit)


def _tell(done: float) -> None:
    _parts[_number] = done


def _work(work: Callable[[Any], Any], item: Any) -> Any:
    with report(_tell, counts=False):
        return work(item)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C, which a terminal sends to all: this process alone answers it."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def default_workers() -> int | None:
    """None, one a GPU, where there are any; else one a core up to four, since small models gain little from threads."""
    import torch

    if torch.cuda.is_available():
        return None
    return max(1, min(4, os.cpu_count() or 1))
