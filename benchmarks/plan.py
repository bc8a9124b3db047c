"""What `paydirt plan` says against what then happens: wall time, peak memory, disk and FLOPs of verbs and of a recipe.

    python benchmarks/plan.py --world DIR --case train          # one case: measure this machine, plan, run, compare
    python benchmarks/plan.py --world DIR --case rds --pool-share 0.5

DIR is what `paydirt world --out DIR` wrote. Every run is a command of its own from a fresh process, its time that of the
whole process, start included; only what the plan itself has made (pool and tokens) is there before. Ratios are run over
plan; 0.77 to 1.30 is what the plan claims to keep to, on a machine that does nothing else: the load is printed beside it.
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

GRADIENT = {"warmup_learning_rate": 1e-3, "warmup_batch_size": 16, "warmup_epochs": 2, "k": 1024,
            "lora": {"r": 8, "alpha": 32, "dropout": 0.0}}  # fmt: skip
DATA = Path(os.environ.get("PAYDIRT_EVAL_DATA", "/work/shared/data"))  # in the LESS layout, for the case mmlu
TUNING = {"tune_method": "full", "tune_learning_rate": 1e-3, "tune_epochs": 5, "tune_batch_size": 8}
TRAINING = {"method": "full", "learning_rate": 1e-3, "batch_size": 16, "epochs": 3, "save": "no"}


def stages(world: Path, model: Path) -> dict[str, dict[str, Any]]:
    """Each case as the config of a stage, or of a study."""
    target = {"name": "worded", "references": str(world / "targets/worded/references.jsonl"),
              "test": str(world / "targets/worded/test.jsonl")}  # fmt: skip
    pool = {"files": {p.stem: str(p) for p in sorted((world / "pool").glob("*.jsonl"))}}
    encoding = {"template": "tulu", "max_length": 128}
    common = {"pool": pool, "model": {"path": str(model)}, "encoding": encoding}
    score = {"stage": "score", **common, "target": target}
    methods = ["bm25", "rds", {"name": "ppl", **TUNING}, {"name": "gradient", **GRADIENT}]
    study = {"stage": "study", **common, "targets": [target], "training": TRAINING, "fractions": [0.025, 0.05, 0.25]}
    study |= {"methods": methods, "seeds": [3]}
    return {
        "rds": {**score, "method": "rds"},
        "ppl": {**score, "method": {"name": "ppl", **TUNING}},
        "gradient": {**score, "method": {"name": "gradient", **GRADIENT}},
        "embed": {**score, "method": {"name": "embed", "encoder": "minilm"}},
        "train": {"stage": "train", **common, "training": TRAINING},
        "evaluate": {"stage": "evaluate", "model": {"path": str(model)}, "encoding": encoding, "target": target},
        "study": study,
        "dedup": {"stage": "dedup", "pool": pool},
        "split": {"stage": "split", "pool": pool, "points": 0.1},
        "decontaminate": {"stage": "decontaminate", "pool": pool, "references": [target["references"], target["test"]]},
        "select": {"stage": "select", "pool": pool, "scores": "BM25", "budget": {"fraction": 0.25}},
        "export": {"stage": "export", "exports": {"chosen": "CHOSEN"}},
        "mmlu": {"stage": "evaluate", "model": {"path": str(model)}, "encoding": encoding,
                 "benchmark": {"name": "mmlu", "data": str(DATA), "limit": 10}},
    }  # fmt: skip


def planned(config: Path, out: Path, cache: Path) -> dict[str, Any]:
    """The plan of a config in a process of its own, this machine measured."""
    code = (
        "import json, sys, paydirt as pay\n"
        "from paydirt.core.config import parse, read_yaml\n"
        "from paydirt.replay import STAGES\n"
        "from paydirt.stages import Workspace\n"
        "from pathlib import Path\n"
        "config, out = sys.argv[1:]\n"
        "values = read_yaml(Path(config)); stage = values.pop('stage')\n"
        "if stage == 'study':\n"
        "    plan = pay.plan(values, out=out)\n"
        "else:\n"
        "    cls, run = STAGES[stage]\n"
        "    plan = pay.plan(run, parse(cls, values), Path(out), Workspace())\n"
        "print(json.dumps({'hours': plan.hours, 'flops': plan.flops, 'peak': plan.peak_bytes, 'disk': plan.disk_bytes,\n"
        "    'artifacts': plan.artifacts, 'works': [[w.what, w.wall, w.flops, w.made] for w in plan.works]}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(config), str(out)], capture_output=True, text=True, check=True,
        env={**os.environ, "PAYDIRT_CACHE": str(cache)},
    )  # fmt: skip
    return json.loads(done.stdout)


def prepared(values: dict[str, Any], world: Path, model: Path, root: Path, cache: Path) -> dict[str, Any]:
    """A case whose stage takes another's output: that is made before anything is measured."""
    text = json.dumps(values)
    env = {**os.environ, "PAYDIRT_CACHE": str(cache)}
    for name, needed in (("BM25", "score"), ("CHOSEN", "select")):
        if f'"{name}"' not in text:
            continue
        stage = {**stages(world, model)["rds"], "method": "bm25"}
        if needed == "select":
            stage = prepared(stages(world, model)["select"], world, model, root, cache)
        config = root / f"{name}.yaml"
        config.write_text(json.dumps(stage))
        command = [sys.executable, "-m", "paydirt", "run", str(config), "--out", str(root / name)]
        subprocess.run(command, check=True, capture_output=True, env=env)
        text = text.replace(f'"{name}"', json.dumps(str(root / name)))
    return dict(json.loads(text))


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="another model; default: the world's")
    parser.add_argument("--case", choices=list(stages(Path(), Path())), required=True)
    parser.add_argument("--cache", type=Path, default=None, help="keep probes here between cases")
    args = parser.parse_args()
    world = args.world.absolute()
    model = (args.model or world / "model").absolute()
    values = stages(world, model)[args.case]
    with tempfile.TemporaryDirectory(prefix="paydirt-plan-") as folder:
        root, cache = Path(folder), args.cache or Path(folder) / "cache"
        config, out = root / "config.yaml", root / "out"
        config.write_text(json.dumps(prepared(values, world, model, root, cache)))
        before_load = os.getloadavg()[0]
        began = time.perf_counter()
        plan = planned(config, out, cache)
        planning = time.perf_counter() - began
        before = size(cache)
        command = [sys.executable, "-m", "paydirt", "run", str(config), "--out", str(out)]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PAYDIRT_CACHE": str(cache)})
        wall = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        disk = size(out) + size(cache) - before
        stated = sum(entry_flops(ledger) for ledger in [*out.rglob("ledger.jsonl")] if "shared" not in ledger.parts)
    rows = [
        ("seconds", plan["hours"] * 3600, wall),
        ("FLOPs", plan["flops"], stated),
        ("peak MB", plan["peak"] / 1e6, peak / 1e6),
        ("disk MB", plan["disk"] / 1e6, disk / 1e6),
    ]
    load = ", ".join(f"{n:.1f}" for n in (before_load, os.getloadavg()[0]))
    print(f"{args.case}: planned in {planning:.1f} s, {plan['artifacts']} artifacts; load before and after {load}")
    for name, said, found in rows:
        print(f"  {name:8} plan {said:12.4g}  run {found:12.4g}  ratio {found / said if said else float('nan'):.2f}")
    for what, seconds, flops, made in plan["works"]:
        print(f"    {what}: {made}, {seconds if seconds is None else round(seconds, 2)} s, {flops} FLOPs")


def entry_flops(ledger: Path) -> float:
    """FLOPs that a ledger's lines state as predicted."""
    return sum(json.loads(line)["predicted_flops"] for line in ledger.read_text().splitlines())


if __name__ == "__main__":
    main()
