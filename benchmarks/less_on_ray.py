"""The whole of LESS by one command on a local Ray cluster of two nodes: its ledger, and what a lost node costs.

    python benchmarks/less_on_ray.py [--rows 5000]

The real pool's first rows (../shared/data), MMLU's references, a tiny model made on the spot. The command is run in one
process, on the cluster, and on the cluster again while a node is removed as soon as the gradient store has its first shards,
one node being added in its place. All three must leave the same bytes and the same FLOPs.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("PAYDIRT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}


def prepare(place: Path, rows: int) -> Path:
    """The pool's file and a tiny model beside it."""
    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.models.tiny import tiny_model

    left = rows
    with open(place / "pool.jsonl", "w", encoding="utf-8") as out:
        for file in sorted((SHARED / "data/train").glob("*.jsonl.gz")):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                for line, _ in zip(lines, range(left)):
                    out.write(line)
                    left -= 1
    pool = open_pool(PoolConfig(files=str(place / "pool.jsonl")), place / "made")
    return tiny_model(pool, place / "tiny").path / "model"


def command(place: Path, name: str, model: Path, *more: str) -> list[str]:
    less = [
        "--warmup-fraction",
        "0.05",
        "--warmup-epochs",
        "4",
        "--checkpoints",
        "2",
        "--k",
        "1024",
        "--max-length",
        "512",
    ]
    files = ["--pool", place / "pool.jsonl", "--target", "mmlu", "--data", SHARED / "data/eval", "--model", model]
    places = ["--out", place / name, "--cache", place / f"{name}-cache"]
    return [sys.executable, "-m", "paydirt", "score", "gradient", *map(str, [*files, *places]), *less, *more]


def run(words: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(words, text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - start


def ledger(out: Path) -> None:
    from paydirt.cost.ledger import Ledger

    for line in Ledger(out).entries():
        charges: dict[str, Any] = line.notes.get("charges", {})
        print(
            f"  {line.stage} {line.what}: predicted {line.predicted_flops:.3g}, counted {line.measured_flops:.3g} FLOPs"
        )
        for what, flops in charges.items():
            print(f"    {what}: {flops if isinstance(flops, str) else f'{float(flops):.3g}'}")


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "values").rglob("*")) if p.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    arguments = parser.parse_args()
    if not SHARED.exists():
        raise SystemExit(f"{SHARED}: no test data there; set PAYDIRT_SHARED")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = prepare(place, arguments.rows)
        print(f"{arguments.rows} examples; load {os.getloadavg()[0]:.1f}")
        alone = run(command(place, "alone", model, "--workers", "1"))
        print(f"one process: {alone:.1f} s", flush=True)
        cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        try:
            node = cluster.add_node(**SMALL)
            ray = ["--execution", "ray", "--address", cluster.address]
            whole = run(command(place, "ray", model, *ray))
            print(f"two Ray nodes: {whole:.1f} s", flush=True)

            def remove() -> None:
                wanted = max(1, arguments.rows // 40960)
                while len([*(place / "lost-cache").glob("gradients/*/shards/*.safetensors")]) < wanted:
                    time.sleep(0.1)
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(**SMALL)

            threading.Thread(target=remove, daemon=True).start()
            lost = run(command(place, "lost", model, *ray))
            print(f"two Ray nodes, one removed in the gradient store: {lost:.1f} s, {lost - whole:+.1f} s", flush=True)
        finally:
            cluster.shutdown()
        assert contents(place / "alone") == contents(place / "ray") == contents(place / "lost")
        print("the same bytes in all three; the ledger of the second:")
        ledger(place / "ray")


if __name__ == "__main__":
    main()
