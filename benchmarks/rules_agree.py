"""Do the rules choose alike, and does it matter? Every rule over one gradient store and over one embedding store.

    python benchmarks/rules_agree.py --work runs/rules --worlds 0 1 2
    python benchmarks/rules_agree.py --work runs/rules-real --real 10000 --targets bbh tydiqa

In built-in worlds: gradients as in the demo and the packaged encoder's embeddings; tuned as in the demo, scored by exact
match, precision by the true labels. On a sample of the pool beside this repository: a small Llama pre-trained on that
sample, its plain-warm-up gradients at one checkpoint and its own hidden states (RDS+) as embeddings; tuned for one epoch,
scored by the likelihood of the references' answers, which the selection has seen and the training has not. Vectors, where
a rule compares candidates with each other, are those of the store in question.

One study a world, so that its targets share both stores. Printed for each target and all, over worlds and seeds: score, its
difference from `top` over the same store in the same world and seed (mean, least and most), loss on the references'
answers, precision, the share of its choice that a rule has in common with `top`, with itself over the other store, and with
all other rules over the same store on average. A killed run continues.
"""

from __future__ import annotations

import argparse
from functools import partial
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
from paydirt.study.schema import read_rows

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
OWN = {"vectors": "own"}
RULES: dict[str, dict[str, Any]] = {
    "top": {},
    "doubly_greedy": {},
    "round_robin": {"over": "reference"},
    "knn": {},
    "tsds": OWN,
    "tsds drawn": {**OWN, "draw": True},
    "transport": {},
    "mmr": OWN,
    "k_centre": OWN,
    "facility": OWN,
}
FRACTION = 0.05
TINY = TinyConfig(vocabulary=2048, hidden=64, layers=3, steps=300)
CHEAP = {"warmup_epochs": 1, "warmup_learning_rate": 1e-3, "checkpoints": 1, "max_tokens": 256, "k": 2048}


def methods(stores: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Every rule over every store, and random."""
    found: list[Any] = ["random"]
    for store, values in stores.items():
        for rule, options in RULES.items():
            found.append(values | {"policy": {"name": rule.split()[0], **options}, "label": f"{store} {rule}"})
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


class Runs:
    """What finished studies hold of some targets: by (world, target, seed) scores and chosen ids; losses, precision."""

    def __init__(self, places: list[Path], targets: list[str]) -> None:
        self.scores: dict[str, dict[tuple[str, str, int], float]] = {}
        self.losses: dict[str, list[float]] = {}
        self.precision: dict[str, list[float]] = {}
        self.chosen: dict[str, dict[tuple[str, str, int], set[str]]] = {}
        for place in places:
            for row in (r for r in read_rows(place / "results.parquet") if r["task"] in targets):
                name, at = row["method"], (place.name, row["task"], row["seed"])
                self.scores.setdefault(name, {})[at] = row["score"]
                self.losses.setdefault(name, []).append(row["reference_loss"])
                if row["precision"] is not None:
                    self.precision.setdefault(name, []).append(row["precision"])
                if row["selection"]:
                    self.chosen.setdefault(name, {})[at] = set(selected_ids(place / row["selection"]))

    def common(self, one: str, other: str) -> float:
        """Share of a rule's choice that another has too, over worlds and seeds."""
        mine, theirs = self.chosen[one], self.chosen[other]
        return float(np.mean([len(ids & theirs[at]) / len(ids) for at, ids in mine.items()]))

    def table(self, title: str) -> Table:
        shown = Table(title=title, title_justify="left")
        heads = (
            "rule",
            "score",
            "less top's",
            "least",
            "most",
            "reference loss",
            "precision",
            "with top",
            "other store",
            "other rules",
        )
        for head in heads:
            shown.add_column(head, justify="left" if head == "rule" else "right")
        for name, scores in self.scores.items():
            cells = [f"{np.mean(list(scores.values())):.3f}", "", "", ""]
            store, _, rule = name.partition(" ")
            if rule:
                tops = self.scores[f"{store} top"]
                apart = [score - tops[at] for at, score in scores.items()]
                cells[1:] = [f"{value:+.3f}" for value in (np.mean(apart), min(apart), max(apart))]
            cells.append(f"{np.mean(self.losses[name]):.3f}")
            cells.append(f"{np.mean(self.precision[name]):.2f}" if name in self.precision else "")
            if rule:
                rivals = [n for n in self.chosen if n.startswith(f"{store} ") and n != name]
                [twin] = [n for n in self.chosen if n.partition(" ")[2] == rule and n != name]
                cells += ["" if rule == "top" else f"{self.common(name, f'{store} top'):.2f}"]
                cells += [f"{self.common(name, twin):.2f}"]
                cells += [f"{np.mean([self.common(name, other) for other in rivals]):.2f}"]
            shown.add_row(name, *cells)
        return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", type=int, nargs="+", default=[0], help="seeds of built-in worlds")
    parser.add_argument("--real", type=int, help="instead: examples of the pool beside this repository")
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    work = options.work.absolute()
    targets = options.targets or (["bbh"] if options.real else ["worded", "paraphrased"])
    studies = {"real": lambda: real(work, options.real, targets)} if options.real else {
        f"world-{seed}": partial(world, work / f"made-{seed}", seed, targets) for seed in options.worlds
    }  # fmt: skip
    for name, make in studies.items():
        run_study(parse(Study, make() | {"workers": options.workers}, where="benchmark"), work / name)
    for some in [*([target] for target in targets), *([targets] if len(targets) > 1 else [])]:
        runs = Runs([work / name for name in studies], some)
        title = f"{', '.join(some)}: {FRACTION:.0%} of the pool; means over {max(map(len, runs.scores.values()))} runs"
        results_console().print(runs.table(f"{title}; shares in common"))


if __name__ == "__main__":
    main()
