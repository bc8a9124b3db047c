"""Scoring a large gradient store against a target's references: time against the machine's own limits, and memory.

    python benchmarks/matching.py                                # 270k x 8192 int8, 285 references in 57 subtasks
    python benchmarks/matching.py --dtypes bfloat16 float16 --rows 100000
    python benchmarks/matching.py --published                    # and everything loaded and floated, as published
    python benchmarks/matching.py --rows 100000 --threads 1 2 --neighbours 1    # beside a busy process

The limit is the slower of two things measured in the same run on the same files: reading every byte of the store
once, and the multiplications at the rate of a cached matrix product of the same shape and precision.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from paydirt.gradients import influence
from paydirt.gradients.influence import match, quantise, score_stores, similarities, unit
from paydirt.gradients.store import Store, pack_rows, plan_shards, write_shards


def make_store(path: Path, rows: int, k: int, dtype: str) -> Store:
    """Random rows that share a direction; one block is packed once and its rows shifted, for writing is not timed."""
    generator = torch.Generator().manual_seed(0)
    shard = pack_rows(torch.randn(4096, k, generator=generator) + 0.1, dtype)

    def compute(ids: object) -> dict[str, Tensor]:
        n = len(ids)  # type: ignore[arg-type]
        return {name: t[:n].roll(1 + int(torch.randint(4096, (), generator=generator)), 0) for name, t in shard.items()}

    ids = [f"{row:08d}" for row in range(rows)]
    return Store(write_shards(path, {"projection": {"k": k}, "dtype": dtype}, plan_shards(ids, 4096), compute))


def best(work: Callable[[], object], repeats: int) -> float:
    """Shortest of `repeats` runs, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def read_everything(store: Store) -> None:
    """Touch every byte of the features once, shard by shard, as summed 8-byte words: what reading alone costs."""
    for rows in store.shards():
        rows.features.view(torch.int64).sum()


def multiply_rate(columns: Tensor, dtype: str, seconds: float = 0.5) -> float:
    """Rows per second of a product with `columns` [c, k] whose rows lie in the cache."""
    columns = torch.nn.functional.pad(columns, (0, 0, 0, -len(columns) % 16))
    block = quantise(torch.randn(512, columns.shape[1], generator=torch.Generator().manual_seed(1)), dtype)
    if dtype == "int8":
        right = (columns * 127 / columns.abs().max()).round().to(torch.int8)
        exact = influence._whole_products(right)
        work: Callable[[], object] = lambda: exact(block.features)  # noqa: E731
    else:
        compute = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        left, right = block.features.to(compute), columns.to(compute).t()
        work = lambda: left @ right  # noqa: E731
    repeats = max(3, int(seconds / best(work, 3)))
    return 512 / best(work, repeats)


class PrivateMemory(threading.Thread):
    """Watches how far the process's private memory (mapped files excluded) rises, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_mb, self.peak_mb, self.going = self.now(), 0.0, True
        self.start()

    @staticmethod
    def now() -> float:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

    def run(self) -> None:
        while self.going:
            self.peak_mb = max(self.peak_mb, self.now() - self.start_mb)
            time.sleep(0.005)

    def __enter__(self) -> PrivateMemory:
        return self

    def __exit__(self, *error: object) -> None:
        self.going = False
        self.join()


def inside(store: Store, columns: Tensor) -> None:
    """The rival: block after block, torch's own threads within each product."""
    multiply = influence._multiplier(store.rows(0).features.dtype, columns)
    for rows in store.shards():
        for lo in range(0, len(rows.ids), 512):
            multiply(rows.features[lo : lo + 512])


def loaded(store: Store, references: Tensor, subtask_of: list[str], arguments: argparse.Namespace) -> None:
    """Blocks shared out between threads against threads within blocks, quiet and beside busy processes, by thread."""
    means, _ = influence.reduced_columns([references], subtask_of, "mean")
    padded = torch.nn.functional.pad(means[0], (0, 0, 0, -len(means[0]) % 16))
    for neighbours in sorted({0, arguments.neighbours}):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        try:
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                between = best(lambda: list(score_stores([store], [references], subtask_of, [1.0])), arguments.repeats)
                within = best(lambda: inside(store, padded), arguments.repeats)
                print(
                    f"  {threads} threads beside {neighbours} busy processes (load {os.getloadavg()[0]:.1f}): blocks shared "
                    f"out {between:.2f} s, threads within blocks {within:.2f} s"
                )
        finally:
            for process in busy:
                process.kill()


def compare(store: Store, dtype: str, references: Tensor, subtask_of: list[str], arguments: argparse.Namespace) -> None:
    rows, size = len(store), sum(p.stat().st_size for p in store.path.glob("*.safetensors"))
    read = best(lambda: read_everything(store), arguments.repeats)
    print(
        f"\n{rows} x {arguments.k} {dtype}, {size / 1e9:.1f} GB, {torch.get_num_threads()} threads; reading {read:.2f} s"
    )
    ways: list[tuple[str, int, Callable[[], object]]] = [
        ("subtask means", len(set(subtask_of)), lambda: list(score_stores([store], [references], subtask_of, [1.0]))),
        ("all references", len(subtask_of), lambda: [None for _ in similarities([store], [references], [1.0])]),
    ]
    for name, columns, work in ways:
        product = took = float("inf")
        with PrivateMemory() as memory:
            for _ in range(arguments.repeats):  # in turns, so that a noisy moment hits both
                product = min(product, rows / multiply_rate(unit(references[:columns]), dtype))
                took = min(took, best(work, 1))
        limit = max(read, product)
        print(
            f"  {name:15s} {columns:4d} columns: {took:6.2f} s = {took / limit:.2f} x the limit "
            f"(products {product:.2f} s), private memory +{memory.peak_mb:.0f} MB"
        )


def published(store: Store, references: Tensor) -> None:
    """Everything loaded, floated and multiplied at once."""
    with PrivateMemory() as memory:
        start = time.perf_counter()
        everything = torch.cat([rows.float() for rows in store.shards()])
        torch.matmul(everything, unit(references).t())
        print(f"  as published: {time.perf_counter() - start:.2f} s, private memory +{memory.peak_mb:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=270_000)
    parser.add_argument("--k", type=int, default=8192)
    parser.add_argument("--references", type=int, default=285)
    parser.add_argument("--subtasks", type=int, default=57)
    parser.add_argument("--dtypes", nargs="+", default=["int8"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--threads", nargs="*", type=int, default=[], help="compare ways to use so many threads")
    parser.add_argument("--neighbours", type=int, default=0, help="busy processes beside it")
    arguments = parser.parse_args()
    references = torch.randn(arguments.references, arguments.k, generator=torch.Generator().manual_seed(2)) + 0.1
    subtask_of = [f"subtask-{row % arguments.subtasks}" for row in range(arguments.references)]
    for dtype in arguments.dtypes:
        with tempfile.TemporaryDirectory() as directory:
            store = make_store(Path(directory), arguments.rows, arguments.k, dtype)
            error = (match(store.rows(0), unit(references)) - store.rows(0).float() @ unit(references).t()).abs().max()
            if arguments.threads:
                loaded(store, references, subtask_of, arguments)
                continue
            compare(store, dtype, references, subtask_of, arguments)
            print(f"  largest error of a cosine against float32 products: {float(error):.1e}")
            if arguments.published:
                published(store, references)


if __name__ == "__main__":
    main()
