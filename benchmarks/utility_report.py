"""Tables and the figure of `utility.py`: paired differences, intervals over worlds and seeds, random at equal total FLOPs.

A difference is taken between runs of the same world, target, fraction, selection seed and training seed. Its interval is
that of `paydirt.analysis.clustered` at 95 %: worlds, then pairs of seeds within each, both targets of a pair together. "2/3"
counts the worlds where it is above 0; a star marks what is sure: beyond 0 by a t test on the means of the worlds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.analysis.clustered import Gap, clustered

Row = dict[str, Any]
KEY = ("world", "target", "fraction", "selection_seed", "training_seed")


def total(row: Row) -> float:
    return float(row["selection_flops"] + row["training_flops"])


def keyed(rows: Iterable[Row]) -> dict[tuple[Any, ...], Row]:
    return {tuple(row[name] for name in KEY): row for row in rows}


def gap(first: Iterable[Row], second: Callable[[Row], float | None], what: str = "score") -> Gap | None:
    """`first` minus what `second` says of the same run; None where nothing can be paired."""
    values: dict[int, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in first:
        other = second(row)
        if other is not None:
            pair = (row["fraction"], row["selection_seed"], row["training_seed"])
            values[row["world"]][pair].append(row[what] - other)
    return clustered(values) if values else None


def same_run(rows: Iterable[Row], what: str = "score") -> Callable[[Row], float | None]:
    """The score of another method's run with the same key."""
    known = keyed(rows)

    def of(row: Row) -> float | None:
        other = known.get(tuple(row[name] for name in KEY))
        return None if other is None else other[what]

    return of


def random_at_equal_total(rows: Iterable[Row], what: str = "score") -> Callable[[Row], float | None]:
    """What random data bought with the run's total FLOPs scores: a line between its runs in log FLOPs, the same seeds.

    Fractions that were not run with a pair of seeds (the whole pool) are those of the others, in the mean. More FLOPs
    than one training on the whole pool buy no more than that.
    """
    curves: dict[tuple[Any, ...], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        curves[row["world"], row["target"]][row["fraction"]].append(row)

    def of(row: Row) -> float | None:
        curve = curves.get((row["world"], row["target"]))
        if not curve:
            return None
        points = []
        for _, runs in sorted(curve.items()):
            same = [r for r in runs if all(r[k] == row[k] for k in ("selection_seed", "training_seed"))] or runs
            points.append((np.mean([total(r) for r in same]), np.mean([r[what] for r in same])))
        costs, scores = np.log(np.asarray(points)[:, 0]), np.asarray(points)[:, 1]
        return float(np.interp(np.log(total(row)), costs, scores))

    return of


def finished(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows with a score by method, in order of first appearance."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if "score" in row:
            found[row["method"]].append(row)
    return dict(found)


def cost_share(rows: list[Row], full: list[Row]) -> float:
    """Counted selection FLOPs as a share of full gradients', in the mean over worlds and targets."""
    whole: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in full:
        whole[row["world"], row["target"]].append(row["selection_flops"])
    shares = [
        r["selection_flops"] / np.mean(whole[r["world"], r["target"]])
        for r in rows
        if (r["world"], r["target"]) in whole
    ]
    return float(np.mean(shares)) if shares else float("nan")


def tables(rows: list[Row], what: str = "score", fraction: float = 0.05) -> None:
    """Print the table of one fraction for each target, all targets together, and the other fractions' differences."""
    methods = finished(rows)
    for target in (*dict.fromkeys(r["target"] for r in rows), None):
        print(f"\n### {target or 'all targets'}, {fraction:.1%} of the pool\n")
        print(
            "| method | selection FLOPs | precision | score | runs | minus gradient | minus random at equal total FLOPs |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")

        def here(name: str, target: str | None = target, at: float | None = fraction) -> list[Row]:
            wanted = methods.get(name, [])
            return [r for r in wanted if at in (None, r["fraction"]) and target in (None, r["target"])]

        for name in methods:
            mine = here(name)
            if not mine:
                continue
            share = cost_share(mine, here("gradient"))
            against = gap(mine, same_run(here("gradient"), what), what) if name != "gradient" else None
            equal = gap(mine, random_at_equal_total(here("random", at=None), what), what) if name != "random" else None
            precision, level = (np.mean([r[k] for r in mine]) for k in ("clean_precision", what))
            print(
                f"| {name} | {share:.1%} | {precision:.2f} | {level:.3f} | {len(mine)} | {against or ''} | {equal or ''} |"
            )
    others = sorted({r["fraction"] for r in rows if "score" in r} - {fraction})
    print("\n### Other fractions, both targets: score, and minus gradient\n")
    print("| method | " + " | ".join(f"{f:.1%}" for f in others) + " |")
    print("| --- |" + " --- |" * len(others))
    for name, all_runs in methods.items():
        cells = []
        for at in others:
            mine = [r for r in all_runs if r["fraction"] == at]
            against = (
                gap(mine, same_run(methods.get("gradient", []), what), what) if mine and name != "gradient" else None
            )
            cells.append(f"{np.mean([r[what] for r in mine]):.3f} {against or ''}" if mine else "")
        if any(cells):
            print(f"| {name} | " + " | ".join(cells) + " |")
    panels(methods, what, fraction)
    refused = dict.fromkeys((r["method"], r["refused"][:110]) for r in rows if "refused" in r)
    for name, why in refused:
        print(f"\nrefused: {name}: {why}")


def panels(methods: dict[str, list[Row]], what: str, fraction: float) -> None:
    """World by world: each cheap method's mean beside the range of full gradients' runs."""
    print("\n### World by world: mean score, and gradient's mean with twice its standard error\n")
    full = [r for r in methods.get("gradient", []) if r["fraction"] == fraction]
    places = list(dict.fromkeys((r["target"], r["world"]) for r in full))
    print("| method | " + " | ".join(f"{t} {w}" for t, w in places) + " |")
    print("| --- |" + " --- |" * len(places))
    for name, all_runs in methods.items():
        cells = []
        for target, world in places:
            mine = [r[what] for r in all_runs if (r["target"], r["world"], r["fraction"]) == (target, world, fraction)]
            theirs = [r[what] for r in full if (r["target"], r["world"]) == (target, world)]
            error = float(np.std(theirs, ddof=1) / np.sqrt(len(theirs))) if len(theirs) > 1 else float("nan")
            if not mine:
                cells.append("")
            elif name == "gradient":
                cells.append(f"{np.mean(mine):.3f} ±{2 * error:.3f}")
            else:
                cells.append(f"{np.mean(mine):.3f}{'' if np.mean(mine) >= np.mean(theirs) - 2 * error else ' below'}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def figure(rows: list[Row], path: Path, fraction: float = 0.05) -> None:
    """Score of the tuned model against selection FLOPs as a share of full gradients', a panel a target."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from utility_methods import entries

    methods, known = finished(rows), entries()
    groups = list(dict.fromkeys(e.group for e in known.values()))
    targets = list(dict.fromkeys(r["target"] for r in rows))
    fig, axes = plt.subplots(1, len(targets), figsize=(6.4 * len(targets), 4.8), sharey=True, squeeze=False)
    for axis, target in zip(axes[0], targets):
        full = [r for r in methods["gradient"] if (r["target"], r["fraction"]) == (target, fraction)]
        drawn: dict[str, list[tuple[float, Gap]]] = defaultdict(list)
        for name, all_runs in methods.items():
            mine = [r for r in all_runs if (r["target"], r["fraction"]) == (target, fraction)]
            if mine and name in known:
                level = gap(mine, lambda row: 0.0)
                assert level is not None
                drawn[known[name].group].append((max(0.3, 100 * cost_share(mine, full)), level))
        for group, points in drawn.items():
            points.sort(key=lambda p: p[0])
            x, y = [p[0] for p in points], [p[1].mean for p in points]
            spread = np.asarray([[p[1].mean - p[1].low, p[1].high - p[1].mean] for p in points]).T
            line = "o-" if group.startswith("cascade") else "o"
            axis.errorbar(
                x, y, spread, fmt=line, ms=5, lw=1, elinewidth=0.8, color=f"C{groups.index(group)}", label=group
            )
        axis.axhline(np.mean([r["score"] for r in full]), color="0.6", lw=0.8, ls="--")
        axis.set(xscale="log", title=f"{target}, {fraction:.0%} of the pool", ylim=(0, 1))
        axis.set(xlabel="selection FLOPs, % of full gradients' (free methods at 0.3)")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("exact match of the tuned model")
    axes[0][-1].legend(fontsize=8, loc="lower right")
    fig.tight_layout()
    fig.savefig(path, dpi=110)
