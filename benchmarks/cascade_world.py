"""The built-in world: does tuning on a cascade's selection do as well as on full gradients', and where does it pay?

    python benchmarks/cascade_world.py --out runs/cascade-world                 # three worlds, about 40 minutes on two cores
    python benchmarks/cascade_world.py --out runs/cascade-world --worlds 0 --only table

For each world (its own facts, pool, base model and truth) a study of random, bm25, full gradients and a cascade at a tenth
of their cost, both targets, two training seeds. Printed: scores at each fraction side by side, precision,
what selecting cost by closed form and by count, which runs are on the Pareto front of total compute, and the number of
tasks that must share a selection before it reaches the others' front, by the three definitions of `analysis.breakeven`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from paydirt.analysis.breakeven import DEFINITIONS, crossing
from paydirt.analysis.front import SAME_COST
from paydirt.analysis.loading import load_results
from paydirt.analysis.results import panels
from paydirt.core.config import parse
from paydirt.core.progress import results_console
from paydirt.demo import GRADIENT, prepare_world, recipe
from paydirt.study.recipe import Study
from paydirt.study.run import run_study

TARGETS = ["worded", "paraphrased"]
FRACTIONS = [0.025, 0.05, 0.1, 0.25, 1.0]
SHARES = (0.1,)


def cascade(share: float) -> dict[str, Any]:
    """A cascade on gradients of a short warm-up, its budget a share of the demo's gradients."""
    shape = {k: GRADIENT[k] for k in ("warmup_learning_rate", "warmup_batch_size", "lora", "k")}
    cheap = {"name": "gradient", "warmup_epochs": 1, "checkpoints": 1, **shape}
    stages = [{"name": "learned", "rounds": 4, "truth": cheap}, cheap]
    full = {"name": "gradient", **GRADIENT}
    return {"name": "cascade", "stages": stages, "share": share, "full": full, "label": f"cascade {share:.0%}"}


def study(world: Path) -> dict[str, Any]:
    values = recipe(world.absolute(), TARGETS)
    methods = ["random", "bm25", {"name": "gradient", **GRADIENT}, *(cascade(share) for share in SHARES)]
    return values | {"name": f"cascade-{world.parent.name}", "methods": methods, "fractions": FRACTIONS}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name("results.jsonl").read_text(encoding="utf-8").splitlines()]


def scores_table(runs: dict[int, list[dict[str, Any]]]) -> list[Table]:
    """Score of each method and fraction: mean over worlds and seeds, half the range over the seeds of a world."""
    tables = []
    for target in TARGETS:
        table = Table(title=f"{target}: exact match, mean over worlds ± mean half range over seeds")
        for title in ("method", *(f"{f:.1%}" for f in FRACTIONS), "precision 5%", "selection, closed form", "counted"):
            table.add_column(title, justify="left" if title == "method" else "right")
        rows = [r | {"world": w} for w, found in runs.items() for r in found if r["task"] == target]
        for method in dict.fromkeys(r["method"] for r in rows if r["method"] != "zero-shot"):
            mine = [r for r in rows if r["method"] == method]
            cells = []
            for fraction in FRACTIONS:
                by_world = [[r["score"] for r in mine if (r["fraction"], r["world"]) == (fraction, w)] for w in runs]
                half = np.mean([(max(s) - min(s)) / 2 for s in by_world])
                cells.append(f"{np.mean([np.mean(s) for s in by_world]):.3f} ±{half:.3f}")
            precision = np.mean([r["precision"] for r in mine if r["fraction"] == 0.05])
            counted = np.mean([r["counted"] for r in mine])
            flops = np.mean([r["selection_flops"] for r in mine])
            table.add_row(method, *cells, f"{precision:.2f}", f"{flops:.3g}", f"{counted:.3g}")
        tables.append(table)
    return tables


def agreement_table(runs: dict[int, list[dict[str, Any]]]) -> Table:
    """Cascade minus gradient, world by world, beside the larger half range over seeds of the two."""
    table = Table(title="cascade minus full gradients (in brackets: the larger half range over seeds of the two)")
    for title in ("target", "world", "method", *(f"{f:.1%}" for f in FRACTIONS[:-1])):
        table.add_column(title)
    for target in TARGETS:
        for world, rows in runs.items():
            for method in (f"cascade {share:.0%}" for share in SHARES):
                cells = []
                for fraction in FRACTIONS[:-1]:
                    pair = [
                        [
                            r["score"]
                            for r in rows
                            if (r["task"], r["method"], r["fraction"]) == (target, name, fraction)
                        ]
                        for name in (method, "gradient")
                    ]
                    gap = float(np.mean(pair[0]) - np.mean(pair[1]))
                    cells.append(f"{gap:+.3f} ({max((max(s) - min(s)) / 2 for s in pair):.3f})")
                table.add_row(target, str(world), method, *cells)
    return table


def dominated(cell: tuple[str, float, float, float], others: list[tuple[str, float, float, float]]) -> bool:
    """Whether another run costs no more and scores at least as well."""
    _, _, total, score = cell
    return any(t <= total * (1 + SAME_COST) and s >= score and (t, s) != (total, score) for _, _, t, s in others)


def front_table(paths: dict[int, Path]) -> Table:
    """Runs on the Pareto front of total compute, and break-even tasks, world by world."""
    table = Table(
        title="on the Pareto front (fractions), and tasks that must share the selection, by definition of the front"
    )
    for title in ("target", "world", "method", "on the front at", *DEFINITIONS):
        table.add_column(title)
    for world, path in paths.items():
        for panel in panels(load_results(path)):
            cells = [
                (name, f, total, score)
                for name, c in panel.curves.items()
                for f, total, score in zip(c.fraction, c.total_flops, c.mean)
                if f < 0.999
            ]
            for method in (m for m in panel.curves if m == "gradient" or m.startswith("cascade")):
                on = [f"{cell[1]:.1%}" for cell in cells if cell[0] == method and not dominated(cell, cells)]
                tasks = []
                for definition in DEFINITIONS:
                    found = crossing(panel, method, definition, draws=200)
                    tasks.append(f"{found.tasks:.2g} [{found.tasks_interval[0]:.2g}, {found.tasks_interval[1]:.2g}]")
                table.add_row(panel.task, str(world), method, " ".join(on) or "nowhere", *tasks)
    return table


def counted_of(out: Path, row: dict[str, Any]) -> float:
    """Counted FLOPs of the selection behind a result row."""
    from paydirt.core.artifacts import open_artifact
    from paydirt.cost.ledger import Ledger

    if row["method"] == "zero-shot":
        return 0.0
    scores = open_artifact(out / row["selection"], "select").manifest["config"]["scores"]
    return sum(e.measured_flops or 0.0 for e in Ledger(Path(scores)).entries() if e.stage == "score")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=["table"])
    options = parser.parse_args()
    paths = {}
    for seed in options.worlds:
        out = options.out.absolute() / f"world-{seed}" / "study"
        if options.only != "table":
            world = prepare_world(out.parent / "world", seed)
            run_study(parse(Study, study(world), where="benchmark"), out)
        paths[seed] = out / "results.parquet"
    runs = {w: [r | {"counted": counted_of(p.parent, r)} for r in rows_of(p)] for w, p in paths.items()}
    console = results_console()
    for table in [*scores_table(runs), agreement_table(runs), front_table(paths)]:
        console.print(table)


if __name__ == "__main__":
    main()
