"""Local workers: independent tasks in separate processes, results in task order, the first failure raised.

Workers die with their parent (Linux), so that a killed run leaves nobody behind who writes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        futures = {pool.submit(work, item): i for i, item in enumerate(items)}
        try:
            for future in track(as_completed(futures), title, 1, len(items)):
                out[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return out
