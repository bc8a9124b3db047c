"""What may be said of a panel, and no more: who is best at each fraction and for each budget, if the seeds tell at all.

A method is called best where it leads every other by a paired test over at least three seeds (`paydirt.analysis.paired`);
fewer rank nothing (METHODS section 7).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paydirt.analysis.paired import LEAST_SEEDS, LEVEL, leads, step_of
from paydirt.report import page_numbers as show
from paydirt.report.page_study import Cell, Panel


@dataclass(frozen=True)
class Verdict:
    """One sentence on one fraction. `kind` is clear, tied, few-seeds or whole."""

    fraction: float
    kind: str
    text: str


@dataclass(frozen=True)
class Purchase:
    """A step of the front: from `cell.total_flops` on, no cheaper cell has a higher mean."""

    name: str
    cell: Cell
    selecting: float
    note: str


def verdicts(panel: Panel) -> list[Verdict]:
    """A sentence for every fraction of the panel."""
    return [_verdict(panel, f, panel.contest(f)) for f in panel.fractions if panel.contest(f)]


def above(cell: Cell, others: Sequence[Cell]) -> dict[str, bool]:
    """Whether the seeds tell `cell` above each of `others`, by label (`paydirt.analysis.paired`)."""
    cells = [cell, *others]
    items = {r.get("n_items") for c in cells for r in c.rows}
    step = step_of([s for c in cells for s in c.scores], items.pop() if len(items) == 1 else None)
    return {label(other): leads(cell.by_seed, other.by_seed, step) for other in others}


def label(cell: Cell) -> str:
    return f"{cell.method} at {show.percent(cell.fraction)}"


def too_few(cells: Sequence[Cell]) -> bool:
    """Whether any of the cells has fewer seeds than a ranking needs."""
    return any(len(c.by_seed) < LEAST_SEEDS for c in cells)


def tied_with_best(cells: Sequence[Cell]) -> set[str]:
    """The best mean and the methods that it does not lead; empty where any of them has too few seeds."""
    if len(cells) < 2 or too_few(cells):
        return set()
    best = max(cells, key=lambda c: c.mean)
    told = above(best, [c for c in cells if c is not best])
    return {c.method for c in cells if c is best or not told[label(c)]}


def _verdict(panel: Panel, fraction: float, cells: list[Cell]) -> Verdict:
    at = f"At {show.percent(fraction)}"
    best = max(cells, key=lambda c: c.mean)
    said = _score(best, panel.digits)
    if fraction >= 1:
        text = f"The whole pool scores {said}, whatever the method: all choose the same examples."
        return Verdict(fraction, "whole", text)
    if len(cells) == 1:
        return Verdict(fraction, "tied", f"{at}: {best.method} scores {said}; no other method was run.")
    if all(c.scores == best.scores for c in cells):
        return Verdict(fraction, "tied", f"{at}: every method scores {said}.")
    if too_few(cells):
        fewest = min(len(c.by_seed) for c in cells)
        seeds = "no known seed" if fewest == 0 else "one seed" if fewest == 1 else f"{fewest} seeds"
        verb = "rank" if fewest > 1 else "ranks"
        text = f"{at}: {best.method} scored highest, {said}, but {seeds} {verb} nothing; {LEAST_SEEDS} are needed."
        return Verdict(fraction, "few-seeds", text)
    rivals = [c for c in cells if c is not best]
    told = above(best, rivals)
    others = [c.method for c in rivals if not told[label(c)]]
    if others:
        text = (
            f"{at}: {best.method} has the highest mean, {said}, but {_few(others)} within what these seeds tell apart."
        )
        return Verdict(fraction, "tied", text)
    second = max(rivals, key=lambda c: c.mean)
    text = f"{at}: {best.method} is best, {said}; it leads every other by a paired test over seeds"
    rate = f"said of equal methods in at most {LEVEL:.0%} of cases"
    return Verdict(fraction, "clear", f"{text} ({rate}). Next: {second.method}, {_score(second, panel.digits, False)}.")


def _few(methods: list[str]) -> str:
    verb = " lies" if len(methods) == 1 else " lie"
    return (show.words(methods) if len(methods) < 5 else f"{len(methods)} other methods") + verb


def _score(cell: Cell, digits: int, seeds: bool = True) -> str:
    """0.850 (0.830–0.870 over 2 seeds)."""
    text = f"{cell.mean:.{digits}f}"
    if len(cell.rows) == 1:
        return text
    over = f" over {len(cell.rows)} seeds" if seeds else ""
    return f"{text} ({show.spread(cell.scores, digits)}{over})"


def below_zero_shot(panel: Panel) -> tuple[int, int]:
    """Cells whose mean is below zero-shot, and all cells."""
    cells = list(panel.cells.values())
    return sum(panel.zero is not None and c.mean < panel.zero for c in cells), len(cells)


def purchases(panel: Panel) -> list[Purchase]:
    """The front of mean score against total compute (selection + training): what a growing budget buys."""
    cells = [c for f in panel.fractions if f < 1 for c in panel.contest(f)]
    whole = [c for f in panel.fractions if f >= 1 for c in panel.contest(f)]
    cells += sorted(whole, key=lambda c: c.total_flops)[:1]  # to train on everything nobody needs to select
    cells.sort(key=lambda c: (c.total_flops, -c.mean))
    front: list[Purchase] = []
    best = panel.zero if panel.zero is not None else float("-inf")
    for number, cell in enumerate(cells):
        if cell.mean > best:
            best = cell.mean
            front.append(_purchase(cell, cells[:number]))
    return front


def _purchase(cell: Cell, cheaper: list[Cell]) -> Purchase:
    """Note whether the seeds tell this cell from every cell that costs no more."""
    name = "the whole pool" if cell.fraction >= 1 else f"{cell.method} at {show.percent(cell.fraction)}"
    told = above(cell, cheaper)
    rivals = [c for c in cheaper if not told[label(c)]]
    if too_few([cell, *cheaper]):
        note = f"fewer than {LEAST_SEEDS} seeds: no ranking"
    elif rivals:
        rival = max(rivals, key=lambda c: c.mean)
        note = f"not told from {label(rival)}, which costs less"
    else:
        note = "above every cheaper run" if cheaper else "the cheapest run"
    selecting = cell.average("selection_flops") or 0.0
    return Purchase(name, cell, selecting / cell.total_flops if cell.total_flops else 0.0, note)
