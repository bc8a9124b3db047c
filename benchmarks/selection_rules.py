"""CPU seconds and memory of every policy over one matrix of similarities, as ratios to `top` in the same run.

    python benchmarks/selection_rules.py [--rows 100000] [--references 285] [--dim 384] [--share 0.05] [--only tsds mmr]
    python benchmarks/selection_rules.py --rows 1000000 --data /tmp/million --only transport

Rows of clusters and their cosines to references, in the shards that a score stage writes; vectors in a parquet file as a
user would bring them. Each policy runs in a process of its own, so that its peak memory (pages of mapped files included) is
its own. The time of opening scores, which all share, is left out; reading vectors from the file is in. `--data` is a folder
where the matrix stays for the next call.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paydirt.selection.budget import Budget
from paydirt.selection.policies.base import POLICIES, make_policy
from paydirt.selection.scores import Column, Reduction, Scores, write_columns, write_shard
from paydirt.selection.select import SelectionConfig, choose

SHARD = 4096
VARIANTS = {"round_robin_reference": {"name": "round_robin", "over": "reference"}}  # as RDS+ is published


def write(root: Path, n: int, r: int, d: int) -> None:
    """Scores [n, r] in nine subtasks, and vectors [n, d], of a pool of 500 clusters."""
    draw = np.random.default_rng(0)
    (root / "values").mkdir()
    write_columns(root, [Column(f"r{j}", f"t{j % 9}") for j in range(r)], True, SHARD, Reduction())
    centres = draw.normal(size=(500, d)).astype(np.float32)
    references = centres[draw.integers(0, 500, r)] + draw.normal(size=(r, d)).astype(np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    kind = pa.list_(pa.float32(), d)
    with pq.ParquetWriter(root / "vectors.parquet", pa.schema([("id", pa.string()), ("vector", kind)])) as writer:
        for shard, start in enumerate(range(0, n, SHARD)):
            size = min(SHARD, n - start)
            rows = centres[draw.integers(0, 500, size)] + draw.normal(size=(size, d)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            write_shard(root, shard, rows @ references.T)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), d)
            writer.write_table(pa.table([pa.array(ids(start, size)), vectors], names=["id", "vector"]))
    lengths = draw.integers(20, 400, n)
    table = {"id": ids(0, n), "source": [f"s{i % 5}" for i in range(n)], "tokens": lengths, "supervised": lengths // 2}
    pq.write_table(pa.table(table), root / "rows.parquet")


def ids(start: int, size: int) -> list[str]:
    """Ids whose order is not that of rows."""
    return [f"{(i * 2654435761) % (1 << 32):010d}-{i}" for i in range(start, start + size)]


def one(root: Path, name: str, share: float) -> dict[str, Any]:
    """Seconds of choosing, by clock and by processor, and peak memory in GB, in this process."""
    options = VARIANTS.get(name, {"name": name})
    if "vectors" in POLICIES.get(options["name"]).model_fields:
        options = options | {"vectors": str(root / "vectors.parquet")}
    scores = Scores(root)
    assert len(scores.ids) == len(scores.sources) == len(scores.tokens)
    started, worked = time.perf_counter(), time.process_time()
    chosen = choose(scores, SelectionConfig(policy=make_policy(options)), Budget(fraction=share))
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"policy": name, "chosen": len(chosen.rows), "seconds": seconds, "cpu": cpu, "peak_gb": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--references", type=int, default=285)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--data", help="folder to keep the matrix in")
    parser.add_argument("--only", nargs="*", help="policies; default: all, top first")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(one(Path(args.inside[0]), args.inside[1], args.share)))
        return
    print(f"{args.rows} rows x {args.references} references, {args.dim} numbers a vector, {args.share:.0%} chosen")
    print(f"load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.data or scratch
        if not (Path(folder) / "rows.parquet").exists():
            Path(folder).mkdir(parents=True, exist_ok=True)
            write(Path(folder), args.rows, args.references, args.dim)
        names = [
            "top",
            *(n for n in [*POLICIES.names(), *VARIANTS] if n != "top" and (not args.only or n in args.only)),
        ]
        rival = 0.0
        for name in names:
            command = [sys.executable, __file__, "--inside", folder, name, "--share", str(args.share)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{name:15} {done.stderr.strip().splitlines()[-1][:100]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            rival = rival or found["cpu"]
            ratio, clock = found["cpu"] / rival, f"{found['seconds']:.1f} s by the clock"
            print(
                f"{name:15} {found['cpu']:8.2f} CPU s  {ratio:7.1f} x top  {found['peak_gb']:.2f} GB  {clock}",
                flush=True,
            )


if __name__ == "__main__":
    main()
