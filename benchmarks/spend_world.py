"""`paydirt spend` for real on the built-in world, against the oracle choice of the finished demo study.

    paydirt demo --out demo                                        # once: the study whose table is the yardstick
    python benchmarks/spend_world.py --demo demo --out runs/spend  # minutes; a killed run is continued

Three budgets for each target: small, middle and large, as multiples of one gradient selection (LESS) and a training on 5 %
of the pool. The recipe is the demo's without its ceiling. The oracle choice of a budget is the demo's best run of those
whose selection and training cost no more, by the mean over its seeds; it looked at every run, which together cost some
hundred times as much. Beside it stands what each habit would have got ("always random" at its largest affordable size, ...).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import paydirt
from paydirt.demo import recipe
from paydirt.study.schema import Row, read_rows

TIMES = {"small": 0.2, "middle": 1.0, "large": 3.0}  # of one gradient selection and a training on 5 %
CEILING = "oracle"


def main() -> None:
    """Spend, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="directory of a finished `paydirt demo`")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--targets", nargs="+", default=["worded", "paraphrased"])
    parser.add_argument("--budgets", nargs="+", default=list(TIMES), choices=list(TIMES))
    given = parser.parse_args()
    rows = read_rows(given.demo / "study" / "results.parquet")
    values = recipe((given.demo / "world").absolute(), given.targets)
    values["methods"] = [m for m in values["methods"] if not (isinstance(m, dict) and m["name"] == CEILING)]
    print("| target | budget | what it did | kept | spent | score | oracle choice | its score | habits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for target in given.targets:
        means = scores(rows, target)
        unit = means["gradient", 0.05][1]
        for name in given.budgets:
            budget = TIMES[name] * unit
            found = paydirt.spend(values, budget, target=target, out=given.out / f"{target}-{name}")
            assert isinstance(found, paydirt.Spending)
            assert found.flops <= budget, "a ledger above its budget"
            print(line(target, name, budget, found.course, means), flush=True)
            (given.out / f"{target}-{name}" / "line.md").write_text(line(target, name, budget, found.course, means))


def scores(rows: list[Row], target: str) -> dict[tuple[str, float], tuple[float, float]]:
    """(mean score over seeds, total FLOPs) of every cell of the demo that competes."""
    cells: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        if row["task"] == target and row["method"] != CEILING:
            cells[row["method"], row["fraction"]].append(row)
    return {k: (float(np.mean([r["score"] for r in v])), float(v[0]["total_flops"])) for k, v in cells.items()}


def line(
    target: str, name: str, budget: float, course: dict[str, Any], means: dict[tuple[str, float], tuple[float, float]]
) -> str:
    """A row of the table."""
    affordable = {k: score for k, (score, flops) in means.items() if flops <= budget}
    best = max(affordable, key=lambda k: affordable[k])
    habits = {m: affordable[m, max(f for n, f in affordable if n == m)] for m in ("random", "bm25", "gradient")
              if any(n == m for n, _ in affordable)}  # fmt: skip
    did = "; ".join(f"{s['kind']} {s['what']} {s['score']:.3f}" for s in course["steps"])
    told = ", ".join(f"{m} {score:.3f}" for m, score in habits.items())
    return (
        f"| {target} | {name}, {budget:.3g} | {did} | {course['kept']} | {course['flops']:.3g} | {course['score']:.3f} | "
        f"{best[0]} at {best[1]:.1%} | {affordable[best]:.3f} | {told} |"
    )


if __name__ == "__main__":
    main()
