"""Local workers: independent tasks in separate processes, results in task order, the first failure raised.

Workers die with their parent (Linux), so that a killed run leaves nobody behind who writes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from paydirt.progress import console, track

A = TypeVar("A")
R = TypeVar("R")


def _begin(threads: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    console.quiet = True


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C, which a terminal sends to all: this process alone answers it."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def default_workers() -> int:
    """One where there is a GPU, else one a core up to four, since small models gain little from threads."""
    import torch

    if torch.cuda.is_available():
        return 1
    return max(1, min(4, os.cpu_count() or 1))


def run_tasks(work: Callable[[A], R], tasks: Iterable[A], workers: int, title: str) -> list[R]:
    """`work(task)` for every task; with one worker in this process. `work` and tasks must pickle."""
    items = list(tasks)
    if workers <= 1 or len(items) <= 1:
        return [work(item) for item in track(items, title)]
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    out: list[Any] = [None] * len(items)
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        with _deaf():
            futures = {pool.submit(work, item): i for i, item in enumerate(items)}
        try:
            for future in track(as_completed(futures), title, 1, len(items)):
                out[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.kill()  # else leaving would wait for the tasks that they are at
            raise
    return out
