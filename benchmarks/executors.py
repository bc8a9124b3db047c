"""What an executor costs over a bare loop, and what a second process brings, for perplexity and for gradients.

    python benchmarks/executors.py [--rows 1024] [--shard-rows 128] [--repeats 2]

Real examples of ../shared/data (dolly), a byte-level tokenizer learnt on them, a random Llama of about 7M parameters on one
thread. The bare loop opens the column's worker and calls it shard by shard; the executor also claims, writes and renames
shards and says how far it is. Process start (imports, reading the model) is inside all times but the bare loop's worker,
and told apart by a run over two rows, one each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHARED = Path(os.environ.get("PAYDIRT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def specs(place: Path, rows: int) -> dict[str, Any]:
    """The columns, over the first `rows` of the pool."""
    import gzip

    from paydirt.columns import TokensRef, token_store
    from paydirt.columns.gradients import GradientFeatures
    from paydirt.columns.losses import Losses
    from paydirt.data.encoding import Encoder, EncodingConfig
    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.models.load import LoraSpec, ModelConfig, load_tokenizer, model_identity
    from paydirt.models.tiny import TinyConfig, tiny_model

    cut = place / "pool.jsonl"
    with gzip.open(SHARED / "data/train/dolly.jsonl.gz", "rt", encoding="utf-8") as lines, open(cut, "w") as out:
        out.writelines(line for line, _ in zip(lines, range(rows)))
    pool = open_pool(PoolConfig(files=str(cut)), place / "cache")
    model = tiny_model(pool, place / "tiny", config=TinyConfig(hidden=256, layers=8, length=256)).path / "model"
    chosen = ModelConfig(path=str(model), device="cpu")
    encoder = Encoder(load_tokenizer(chosen), EncodingConfig(max_length=256))
    tokens = TokensRef.of(token_store(pool, encoder, place / "cache"), pool, encoder.fingerprint)
    known = {"tokens": tokens, "model": chosen, "identity": model_identity(chosen)}
    lora = LoraSpec(r=8, alpha=16.0)
    return {
        "perplexity": Losses(**known, pad_id=encoder.pad_id),
        "gradients": GradientFeatures(**known, lora=lora, k=4096),
    }


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, spec: Any, folder: Path, arguments: argparse.Namespace) -> None:
    """One column: the bare loop, the executor in this process, and in two."""
    from paydirt.columns import PoolColumn
    from paydirt.execution import Local

    def opened() -> Any:
        return spec.open(Path(tempfile.mkdtemp(dir=folder)))

    def filled(workers: int, shard_rows: int, most: int | None = None) -> float:
        column = PoolColumn(spec, folder / "fill", shard_rows)
        took = seconds(lambda: Local(workers).fill(column, column.plan()[:most]))
        shutil.rmtree(folder / "fill")
        return took

    worker = opened()
    starts = range(0, arguments.rows, arguments.shard_rows)
    parts = [np.arange(at, min(at + arguments.shard_rows, arguments.rows)) for at in starts]
    worker(parts[0][:8])
    bare = alone = two = start = float("inf")
    for _ in range(arguments.repeats):  # in turns, so that a noisy moment hits all
        bare = min(bare, seconds(lambda: [worker(part) for part in parts]))
        alone = min(alone, filled(1, arguments.shard_rows) - seconds(opened))
        two = min(two, filled(2, arguments.shard_rows))
        start = min(start, filled(2, 1, 2))
    print(
        f"{name:10}  bare loop {bare:.2f} s, executor {alone:.2f} s ({100 * (alone / bare - 1):+.1f} %); two processes "
        f"{two:.2f} s, of which {start:.2f} s to start: {alone / two:.2f}x, {alone / (two - start):.2f}x after the start; "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--shard-rows", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=["perplexity", "gradients"])
    arguments = parser.parse_args()
    if not SHARED.exists():
        raise SystemExit(f"{SHARED}: no test data there; set PAYDIRT_SHARED")
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in specs(Path(folder), arguments.rows).items():
            if name in arguments.only:
                compare(name, spec, Path(folder), arguments)


if __name__ == "__main__":
    main()
