"""Do the rules choose alike, and does it matter? Every rule over one gradient store and over one embedding store.

    python benchmarks/rules_agree.py --work runs/rules-world --world 0
    python benchmarks/rules_agree.py --work runs/rules-real --real 10000 --targets bbh

In the built-in world: gradients as in the demo and the packaged encoder's embeddings; tuned as in the demo, scored by exact
match, precision by the true labels. On a sample of the pool beside this repository: a small Llama pre-trained on that
sample, its plain-warm-up gradients at one checkpoint and its own hidden states (RDS+) as embeddings; tuned for one epoch,
scored by the likelihood of the references' answers, which the selection has seen and the training has not. Vectors, where
a rule compares candidates with each other, are the similarities of the store in question.

Printed: score and precision of each rule, the share of its choice that it has in common with `top` over the same store,
with itself over the other store, and with all others over the same store, on average. A second run finds what is there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from paydirt.core.config import parse
from paydirt.core.progress import results_console
from paydirt.data.pool import PoolConfig, open_pool
from paydirt.data.subset import write_rows
from paydirt.demo import GRADIENT, prepare_world, recipe
from paydirt.models.tiny import TinyConfig, tiny_model
from paydirt.selection.select import selected_ids
from paydirt.study.recipe import Study
from paydirt.study.run import run_study

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
RULES: dict[str, dict[str, Any]] = {
    "top": {},
    "doubly_greedy": {},
    "round_robin": {"over": "reference"},
    "knn": {},
    "tsds": {"vectors": "similarities"},
    "transport": {},
    "mmr": {},
    "k_centre": {},
    "facility": {},
}
FRACTION = 0.05
TINY = TinyConfig(vocabulary=2048, hidden=64, layers=3, steps=300)
CHEAP = {"warmup_epochs": 1, "warmup_learning_rate": 1e-3, "checkpoints": 1, "max_tokens": 256, "k": 2048}


def methods(stores: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every rule over every store, and random."""
    found: list[Any] = ["random"]
    for store, values in stores.items():
        for rule, options in RULES.items():
            found.append(values | {"policy": {"name": rule, **options}, "label": f"{store} {rule}"})
    return found


def world(work: Path, seed: int, targets: list[str]) -> dict[str, Any]:
    place = prepare_world(work / "world", seed).absolute()
    stores = {"gradient": {"name": "gradient", **GRADIENT}, "embed": {"name": "embed", "encoder": "minilm"}}
    return recipe(place, targets) | {"methods": methods(stores), "fractions": [FRACTION]}


def real(work: Path, examples: int, targets: list[str]) -> dict[str, Any]:
    source = open_pool(PoolConfig(files=[str(SHARED / "train" / "*.jsonl.gz")]), work / "cache")
    if not (work / "pool").exists():
        write_rows(source, np.sort(np.random.default_rng(0).permutation(len(source))[:examples]), work / "pool")
    pool = PoolConfig(files=[str(work / "pool" / "*.jsonl")])
    model = tiny_model(open_pool(pool, work / "cache"), work / "model", 0, TINY)
    lora = {"r": 8, "alpha": 32, "dropout": 0.0}
    stores = {"gradient": {"name": "gradient", "lora": lora, **CHEAP}, "rds": {"name": "rds"}}
    return {
        "name": "rules",
        "pool": pool.to_dict(),
        "targets": [{"name": name, "data": str(SHARED / "eval")} for name in targets],
        "model": {"path": str(model.path / "model"), "device": "cpu"},
        "encoding": {"template": "tulu", "max_length": 1024},
        "methods": methods(stores),
        "fractions": [FRACTION],
        "seeds": [3, 6],
        "selection_seeds": "fixed",
        "training": {"method": "full", "learning_rate": 1e-3, "batch_size": 16, "epochs": 1, "save": "no"},
        "evaluation": {"name": "likelihood"},
    }


def table(out: Path, target: str) -> Table:
    """Scores and overlaps of one target."""
    text = (out / "results.jsonl").read_text(encoding="utf-8")
    rows = [r for r in map(json.loads, text.splitlines()) if r["task"] == target]
    kept = {r["method"]: set(selected_ids(out / r["selection"])) for r in rows if r["selection"]}
    shown = Table(title=f"{target}: {FRACTION:.0%} of the pool, mean ± half range over seeds; shares in common")
    for title in ("rule", "score", "precision", "with top", "other store", "other rules"):
        shown.add_column(title, justify="left" if title == "rule" else "right")
    for name in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == name]
        scores = [r["score"] for r in mine]
        cells = [f"{np.mean(scores):.4f} ±{(max(scores) - min(scores)) / 2:.4f}"]
        cells.append("" if mine[0]["precision"] is None else f"{mine[0]['precision']:.2f}")
        store, _, rule = name.partition(" ")
        if rule:
            others = [n for n in kept if n.startswith(f"{store} ") and n != name]
            [twin] = [n for n in kept if n.endswith(f" {rule}") and n != name]
            common = {n: len(kept[name] & kept[n]) / len(kept[name]) for n in (*others, twin)}
            cells += [f"{common[n]:.2f}" if n in common else "" for n in (f"{store} top", twin)]
            cells.append(f"{np.mean([common[n] for n in others]):.2f}")
        shown.add_row(name, *cells)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--world", type=int, help="seed of the built-in world")
    parser.add_argument("--real", type=int, help="examples of the pool beside this repository")
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    work = options.work.absolute()
    if options.real:
        targets = options.targets or ["bbh"]
        study = real(work, options.real, targets)
    else:
        targets = options.targets or ["worded", "paraphrased"]
        study = world(work, options.world or 0, targets)
    for target in targets:
        one = study | {"targets": [t for t in study["targets"] if t["name"] == target], "workers": options.workers}
        run_study(parse(Study, one, where="benchmark"), work / target)
        results_console().print(table(work / target, target))


if __name__ == "__main__":
    main()
