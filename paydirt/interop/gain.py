"""What a selection bought: its score less that of random data at the same total compute, seed by seed, in one study.

What enters: a study's results table, a task, a method and a fraction. What leaves: the difference for each seed that both
have, its mean and a 95 % interval (paired t, three seeds at least). Random's score at that cost is read off the line
between the two random runs of the same seed whose totals lie on both sides (linear in log FLOPs; from zero-shot to the
cheapest run linear in FLOPs); beyond the dearest random run (the whole pool, where the study has it) that run stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from paydirt.analysis.paired import LEAST_SEEDS
from paydirt.study.schema import ZERO_SHOT, Row, read_rows

CONTROL = "random"


def study_of(selection: Path) -> Path | None:
    """The study in whose folder a selection lies: <study>/selections/<target>/<selection>; None for any other."""
    rooms = Path(selection).absolute().parents
    inside = len(rooms) > 2 and rooms[1].name == "selections"
    return rooms[2] if inside and (rooms[2] / "results.parquet").is_file() else None


def gain(study: Path, selection: Path) -> dict[str, Any]:
    """The paired estimate for the runs that trained on `selection`; ValueError where the study has no such runs."""
    rows = read_rows(Path(study) / "results.parquet")
    place = Path(selection).resolve()
    mine = [r for r in rows if r["selection"] and (Path(study) / r["selection"]).resolve() == place]
    if not mine:
        raise ValueError(f"{study}: none of its runs trained on {selection}; give the study that the selection is of")
    task, method, fraction = mine[0]["task"], mine[0]["method"], mine[0]["fraction"]
    cell = [r for r in rows if (r["task"], r["method"], r["fraction"]) == (task, method, fraction)]
    zero = next((r["score"] for r in rows if r["task"] == task and r["method"] == ZERO_SHOT), None)
    found = []
    for row in cell:
        control = [r for r in rows if r["task"] == task and r["method"] == CONTROL and r["seed"] == row["seed"]]
        if row["seed"] is not None and row["total_flops"] and (there := at_cost(control, row["total_flops"], zero)):
            found.append({"seed": row["seed"], "score": row["score"], "random": there[0], "beyond": there[1]})
    said: dict[str, Any] = {
        "study": str(study),
        "task": task,
        "method": method,
        "fraction": fraction,
        "metric": cell[0]["metric"],
        "zero_shot": zero,
        "total_flops": _mean([r["total_flops"] for r in cell if r["total_flops"] is not None]),
        "runs": found,
    }
    if not found:
        return said | {"why_not": f"no run of {CONTROL} with the same seed and a known cost to compare with"}
    gaps = [run["score"] - run["random"] for run in found]
    low, high = interval(gaps)
    return said | {"gain": _mean(gaps), "low": low, "high": high, "beyond_random": any(run["beyond"] for run in found)}


def at_cost(control: Sequence[Row], flops: float, zero: float | None) -> tuple[float, bool] | None:
    """Random's score at a total of `flops`, and whether that is beyond its dearest run; None where it has no run."""
    points = sorted((float(r["total_flops"]), float(r["score"])) for r in control if r["total_flops"])
    if not points:
        return None
    if flops >= points[-1][0]:
        return points[-1][1], flops > points[-1][0] * 1.001
    if flops < points[0][0]:
        start = points[0][1] if zero is None else zero
        return start + (points[0][1] - start) * flops / points[0][0], False
    (x0, y0), (x1, y1) = next((a, b) for a, b in pairwise(points) if a[0] <= flops < b[0])
    return y0 + (y1 - y0) * math.log(flops / x0) / math.log(x1 / x0), False


def interval(gaps: Sequence[float], level: float = 0.95) -> tuple[float | None, float | None]:
    """The t interval of the mean; (None, None) below three seeds."""
    from scipy.stats import t

    if len(gaps) < LEAST_SEEDS:
        return None, None
    mean = _mean(gaps)
    half = math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    half *= float(t.ppf(0.5 + level / 2, len(gaps) - 1))
    return mean - half, mean + half


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
