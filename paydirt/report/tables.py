"""Score and cost tables of the page, as plain records that the template lays out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paydirt.core.artifacts import Artifact
from paydirt.cost.ledger import Entry, Ledger, spent
from paydirt.report import page_numbers as show
from paydirt.report.page_study import Cell, Panel, StudyFiles, run_name
from paydirt.report.page_verdict import tied_with_best
from paydirt.study.schema import Row


@dataclass(frozen=True)
class ScoreCell:
    """Mean and range of one cell; `best` where no other method is told apart above it, `below` zero-shot."""

    mean: str
    range: str
    title: str
    best: bool = False
    below: bool = False


@dataclass(frozen=True)
class ScoreTable:
    """Methods by fractions of one column of the results."""

    caption: str
    fractions: list[str]
    rows: list[tuple[str, list[ScoreCell | None]]]


def score_table(panel: Panel) -> ScoreTable:
    """Mean and range of the score over seeds; marks need at least two seeds in every method of the fraction."""
    best = {f: tied_with_best(panel.contest(f)) if f < 1 else set() for f in panel.fractions}

    def make(cell: Cell) -> ScoreCell:
        seeds = ", ".join(f"{run_name(r)}: {r['score']:.{panel.digits}f}" for r in cell.rows)
        below = panel.zero is not None and cell.mean < panel.zero
        return _score_cell(cell.scores, panel.digits, seeds, cell.method in best[cell.fraction], below)

    return _table(panel, panel.metric, make)


def column_table(panel: Panel, column: str, caption: str, digits: int) -> ScoreTable | None:
    """The same table of another column, such as precision; None where no run has it."""
    if all(cell.average(column) is None for cell in panel.cells.values()):
        return None

    def make(cell: Cell) -> ScoreCell | None:
        values = [r[column] for r in cell.rows if r.get(column) is not None]
        seeds = ", ".join(f"{run_name(r)}: {r[column]:.{digits}f}" for r in cell.rows if r.get(column) is not None)
        return _score_cell(values, digits, seeds) if values else None

    return _table(panel, caption, make)


def _table(panel: Panel, caption: str, make: Callable[[Cell], ScoreCell | None]) -> ScoreTable:
    rows = []
    for method in panel.methods:
        cells = [panel.cells.get((method, f)) for f in panel.fractions]
        rows.append((method, [make(cell) if cell else None for cell in cells]))
    return ScoreTable(caption, [show.percent(f) for f in panel.fractions], rows)


def _score_cell(values: list[float], digits: int, seeds: str, best: bool = False, below: bool = False) -> ScoreCell:
    spread = show.spread(values, digits) if len(set(values)) > 1 else ""
    return ScoreCell(f"{sum(values) / len(values):.{digits}f}", spread, seeds, best, below)


# ---- cost -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What one or more artifacts cost by their ledgers. `measured` is None where nothing was counted."""

    predicted: float
    measured: float | None
    seconds: float
    peak: int
    devices: str

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Spent | None:
        """Sum of ledger lines (a resumed run has several); None without any."""
        lines = list(entries)
        if not lines:
            return None
        counted = [e.measured_flops for e in lines if e.measured_flops is not None]
        return cls(
            sum(e.predicted_flops for e in lines),
            sum(counted) if counted else None,
            sum(e.seconds for e in lines),
            max(e.peak_bytes for e in lines),
            ", ".join(dict.fromkeys(e.device for e in lines)),
        )


@dataclass(frozen=True)
class SelectionCost:
    """Selecting by one method for one or more tasks: one line for each score artifact."""

    method: str
    tasks: str
    runs: int
    cost: Spent | None
    predicted: float


@dataclass(frozen=True)
class TrainingCost:
    """Training and testing one model, averaged over the seeds of a cell."""

    method: str
    fraction: str
    examples: float | None
    tokens: float | None
    predicted: float | None
    measured: float | None
    seconds: float | None
    peak: int
    testing: float | None


def selection_costs(study: StudyFiles) -> list[SelectionCost]:
    """One line a method and set of tasks; scores that serve every task are one piece of work."""
    found: dict[str, dict[str, tuple[list[str], Artifact]]] = {}
    for row in study.rows:
        if scores := study.scores(row):
            tasks, _ = found.setdefault(row["method"], {}).setdefault(str(scores.path), ([], scores))
            if row["task"] not in tasks:
                tasks.append(row["task"])
    out = []
    for method, artifacts in found.items():
        groups: dict[str, list[Artifact]] = {}
        for tasks, scores in artifacts.values():
            groups.setdefault(", ".join(tasks), []).append(scores)
        for tasks_named, group in groups.items():
            cost = Spent.of(e for a in group for e in study.ledger(a))
            predicted = sum(float(a.notes.get("predicted_flops", 0.0)) for a in group)
            out.append(SelectionCost(method, tasks_named, len(group), cost, predicted))
    return out


def training_costs(study: StudyFiles, panel: Panel) -> list[TrainingCost]:
    """One line a cell: closed form beside count, from the results and the ledgers of the tuned models."""
    return [_training_cost(study, cell) for m in panel.methods for cell in panel.of(m)]


def _training_cost(study: StudyFiles, cell: Cell) -> TrainingCost:
    tests = [Spent.of(study.ledger(study.evaluation(r))) for r in cell.rows]
    seconds = [t.seconds for t in tests if t]
    models = [Spent.of(study.ledger(study.model(r))) for r in cell.rows]
    return TrainingCost(
        cell.method,
        show.percent(cell.fraction),
        cell.average("n_examples"),
        cell.average("tokens"),
        cell.average("training_flops"),
        cell.average("measured_training_flops"),
        cell.average("training_seconds"),
        max((m.peak for m in models if m), default=0),
        sum(seconds) / len(seconds) if seconds else None,
    )


@dataclass(frozen=True)
class Total:
    """All that the ledgers of a study's artifacts hold."""

    flops: float
    seconds: float
    models: int
    devices: str


def shared_costs(study: StudyFiles) -> list[tuple[str, Spent]]:
    """Work that methods or tasks share (embeddings, gradient stores), by its place under `shared/`."""
    out = []
    for path in sorted((study.root / "shared").glob("*/*/ledger.jsonl")):
        if cost := Spent.of(Ledger(path.parent).entries()):
            out.append((f"{path.parent.parent.name}/{path.parent.name}", cost))
    return out


def total_cost(study: StudyFiles) -> Total:
    """What the methods of this study were charged; work under `shared/` is in the lines of those that use it."""
    artifacts: dict[str, Artifact] = {}
    for row in study.rows:
        artifacts |= {str(a.path): a for a in _artifacts(study, row) if a}
    lines = [e for a in artifacts.values() for e in study.ledger(a)]
    models = len({str(m.path) for r in study.rows if (m := study.model(r))})
    devices = ", ".join(dict.fromkeys(e.device for e in lines))
    return Total(spent(lines), sum(e.seconds for e in lines), models, devices)


def _artifacts(study: StudyFiles, row: Row) -> list[Artifact | None]:
    return [study.scores(row), study.selection(row), study.model(row), study.evaluation(row)]
