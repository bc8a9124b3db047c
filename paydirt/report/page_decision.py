"""The first screen: what to do for each task, how sure that is, and the command that does it.

The rule: of all runs that compete, those whose mean lies within the seeds' spread of the best one's (half the range of
both; with a single seed two standard errors of a share of the test items), and that no paired test tells below it; of
these the cheapest in total FLOPs. Where the best is not above the untuned model, nothing is to be trained.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from paydirt.analysis.paired import LEAST_SEEDS
from paydirt.report import page_numbers as show
from paydirt.report.page_study import Cell, Panel, StudyFiles
from paydirt.report.page_verdict import above, label, too_few


@dataclass(frozen=True)
class Decision:
    """What to do for a task; `cell` is None where that is nothing. `sure` is "tested" or "few seeds"."""

    action: str
    score: str
    cost: str
    reasons: list[str]
    sure: str
    cell: Cell | None
    commands: list[str]
    model: str = ""


def decide(study: StudyFiles, panel: Panel) -> Decision | None:
    """The decision for a panel; None where nothing competes."""
    cells = contestants(panel)
    if not cells:
        return None
    best = max(cells, key=lambda c: (c.mean, -c.total_flops))
    sure = "few seeds" if too_few(cells) else "tested"
    if panel.zero is not None and best.mean <= panel.zero:
        said = f"No run is above the untuned model ({panel.zero:.{panel.digits}f}); the best is {_name(best)}."
        return Decision("Train nothing", f"{panel.zero:.{panel.digits}f}", "0", [said], sure, None, [])
    cell = min(as_good(best, cells), key=lambda c: (c.total_flops, -c.mean))
    return Decision(
        f"Train on {_what(cell)}",
        f"{cell.mean:.{panel.digits}f}",
        f"{show.flops(cell.total_flops)} FLOPs",
        _reasons(panel, cell, best, cells),
        sure,
        cell,
        commands(study, cell),
        tuned(study, cell),
    )


def contestants(panel: Panel) -> list[Cell]:
    """Every cell that may be recommended: no ceiling, and the whole pool once."""
    whole = sorted((c for f in panel.fractions if f >= 1 for c in panel.contest(f)), key=lambda c: c.total_flops)
    return [c for f in panel.fractions if f < 1 for c in panel.contest(f)] + whole[:1]


def as_good(best: Cell, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that nothing tells from the best one."""
    near = [c for c in cells if best.mean - c.mean <= _slack(best) + _slack(c)]
    told = above(best, [c for c in near if c is not best])
    return [c for c in near if c is best or not told[label(c)]]


def _slack(cell: Cell) -> float:
    """How far from its mean a cell's next seed may be expected, roughly."""
    if len(cell.rows) > 1:
        return (cell.high - cell.low) / 2
    items = cell.rows[0].get("n_items")
    if not items or not 0 <= cell.mean <= 1:
        return 0.0
    return math.sqrt(max(cell.mean * (1 - cell.mean), 1 / items) / items)


def _what(cell: Cell) -> str:
    count = f"{show.count(cell.average('n_examples'))} examples"
    if cell.fraction >= 1:
        return f"the whole pool ({count})"
    return f"{show.percent(cell.fraction)} chosen by {cell.method} ({count})"


def _name(cell: Cell) -> str:
    return "the whole pool" if cell.fraction >= 1 else f"{cell.method} at {show.percent(cell.fraction)}"


def _reasons(panel: Panel, cell: Cell, best: Cell, cells: Sequence[Cell]) -> list[str]:
    digits, out = panel.digits, []
    if cell is best:
        out.append("It has the highest mean of all runs.")
    else:
        share = show.share(cell.total_flops / best.total_flops) if best.total_flops else show.NOTHING
        out.append(
            f"The highest mean is {best.mean:.{digits}f} ({_name(best)}); this lies within the spread of the seeds and "
            f"costs {share} of it."
        )
    control = [c for c in cells if c.method == "random" and c.fraction < 1]
    if control and cell.method != "random":
        near = min(control, key=lambda c: abs(math.log((c.total_flops or 1) / (cell.total_flops or 1))))
        out.append(
            f"Random data nearest in cost ({show.percent(near.fraction)}, {show.flops(near.total_flops)} FLOPs) scores "
            f"{near.mean:.{digits}f}."
        )
    if panel.zero is not None:
        out.append(f"The untuned model scores {panel.zero:.{digits}f}.")
    seeds = min(len(c.by_seed) for c in cells)
    if too_few(cells):
        many = "a single seed" if seeds <= 1 else f"{seeds} seeds"
        out.append(f"{many[:1].upper()}{many[1:]}: a suggestion, not a finding; {LEAST_SEEDS} seeds rank methods.")
    return out


def tuned(study: StudyFiles, cell: Cell) -> str:
    """Where the model of the cell's first seed is, if the study still has it; else empty."""
    place = study.root.absolute() / str(cell.rows[0].get("tuned_model") or "none") / "model"
    return str(place) if place.is_dir() else ""


def commands(study: StudyFiles, cell: Cell) -> list[str]:
    """What to type to hand the selection on."""
    row = cell.rows[0]
    out = []
    root = study.root.absolute()
    if row.get("selection") and (root / row["selection"]).is_dir():
        out.append(
            f"paydirt export {shlex.quote(str(root / row['selection']))} --study {shlex.quote(str(root))} --out export"
        )
    return out
