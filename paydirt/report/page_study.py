"""A study directory as the page reads it: result rows in panels and cells, and the artifacts behind each row.

Everything is found through the results table and manifests, under the study directory itself, so a study that was moved or
copied to another machine still makes its page. What has been deleted since (tuned models, scores) is `None` here and is
named as missing on the page; only the results table must be there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from paydirt.core.artifacts import MANIFEST, Artifact, open_artifact
from paydirt.core.config import parse, read_yaml
from paydirt.core.types import Target
from paydirt.cost.ledger import Entry, Ledger
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.study.schema import ZERO_SHOT, Group, Row, grouped, model_name, names_of, read_rows
from paydirt.tasks import TargetConfig, load_target

T = TypeVar("T")
CEILING = "oracle"  # the scorer that reads the true labels: shown, but never named as the best method
CONTROL = "random"


def run_name(row: Row) -> str:
    """seed 3; runs of tables without seeds are not told apart."""
    return "a run" if row.get("seed") is None else f"seed {row['seed']}"


@dataclass(frozen=True)
class Cell:
    """The runs of one method at one fraction, one row a seed. Scores in the metric's unit, costs in FLOPs."""

    method: str
    fraction: float
    rows: tuple[Row, ...]

    @property
    def scores(self) -> list[float]:
        return [r["score"] for r in self.rows]

    @property
    def mean(self) -> float:
        return self.average("score") or 0.0

    @property
    def low(self) -> float:
        return min(self.scores)

    @property
    def high(self) -> float:
        return max(self.scores)

    @property
    def total_flops(self) -> float:
        return self.average("total_flops") or 0.0

    def average(self, column: str) -> float | None:
        """Mean over seeds of a numeric column; None where no run has it."""
        known = [r[column] for r in self.rows if r.get(column) is not None]
        return sum(known) / len(known) if known else None

    @property
    def by_seed(self) -> dict[int, float]:
        """Score of each known seed."""
        return {r["seed"]: r["score"] for r in self.rows if r.get("seed") is not None}


@dataclass(frozen=True)
class Panel:
    """One task, train model and metric: its zero-shot score and its cells by (method, fraction)."""

    task: str
    model: str
    metric: str
    zero: float | None
    methods: tuple[str, ...]
    fractions: tuple[float, ...]
    cells: dict[tuple[str, float], Cell]
    ceilings: frozenset[str] = frozenset()
    title: str = ""

    def at(self, fraction: float) -> list[Cell]:
        """The cells of a fraction, in the order of methods."""
        return [self.cells[m, fraction] for m in self.methods if (m, fraction) in self.cells]

    def of(self, method: str) -> list[Cell]:
        """The cells of a method, by rising fraction."""
        return [self.cells[method, f] for f in self.fractions if (method, f) in self.cells]

    def contest(self, fraction: float) -> list[Cell]:
        """The cells that compete at a fraction: all but the ceiling."""
        return [cell for cell in self.at(fraction) if cell.method not in self.ceilings]

    @property
    def digits(self) -> int:
        """Decimals to print: three for shares in [0, 1], two for percentages and the like."""
        return 3 if all(abs(s) <= 1 for cell in self.cells.values() for s in cell.scores) else 2

    @property
    def nearest_five_percent(self) -> float | None:
        """The fraction at which selections are looked into."""
        return min(self.fractions, key=lambda f: abs(f - 0.05), default=None)


@dataclass
class StudyFiles:
    """The study directory `root`: rows of its results, its recipe, and whatever artifacts are still there."""

    root: Path
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def rows(self) -> list[Row]:
        return read_rows(self.root / "results.parquet")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The recipe as plain values; empty where there is none."""
        path = self.root / "config.yaml"
        return read_yaml(path) if path.is_file() else {}

    @cached_property
    def methods(self) -> list[str]:
        """Labels in the order of the results; colours go by this order everywhere on the page."""
        return [m for m in dict.fromkeys(r["method"] for r in self.rows) if m != ZERO_SHOT]

    @cached_property
    def panels(self) -> list[Panel]:
        groups = grouped(self.rows)
        names = names_of(list(groups))
        return [self._panel(group, rows, list(groups), name) for (group, rows), name in zip(groups.items(), names)]

    def _panel(self, group: Group, mine: list[Row], groups: list[Group], title: str) -> Panel:
        runs = [r for r in mine if r["method"] != ZERO_SHOT]
        zero = [r["score"] for r in mine if r["method"] == ZERO_SHOT]
        cells_of: dict[tuple[str, float], list[Row]] = {}
        for row in runs:
            cells_of.setdefault((row["method"], row["fraction"]), []).append(row)
        cells = {key: Cell(*key, tuple(rows)) for key, rows in cells_of.items()}
        methods = tuple(dict.fromkeys(r["method"] for r in runs))
        return Panel(
            group.task,
            model_name(group, groups),
            group.metric,
            zero[0] if zero else None,
            methods,
            tuple(sorted({r["fraction"] for r in runs})),
            cells,
            frozenset(m for m in methods if self.scorer_of(m) == CEILING),
            title,
        )

    def scorer_of(self, method: str) -> str:
        """The scorer behind a label, as its manifest or ledger names it; the label itself where both are gone."""
        for row in self.rows:
            if row["method"] == method and (scores := self.scores(row)):
                named = scores.manifest["config"].get("method", {}).get("name")
                return str(named or next((e.what for e in self.ledger(scores)), method))
        return method

    # ---- the artifacts of a row; None where they are gone ---------------------------------------------------------
    def selection(self, row: Row) -> Artifact | None:
        return self._open(row.get("selection"), "select")

    def model(self, row: Row) -> Artifact | None:
        return self._open(row.get("tuned_model"), "train")

    def evaluation(self, row: Row) -> Artifact | None:
        name = ZERO_SHOT if row["method"] == ZERO_SHOT else Path(row.get("tuned_model") or "").name
        return self._open(f"evaluations/{name}-{row['task']}", "evaluate")

    def scores(self, row: Row) -> Artifact | None:
        """The scores a selection was made from: under this study first, else where its manifest says."""
        if not (selection := self.selection(row)):
            return None
        told = Path(selection.manifest["config"]["scores"])
        return self._open("/".join(("scores", *told.parts[-2:])), "score") or self._open(str(told), "score")

    def _open(self, place: str | None, stage: str) -> Artifact | None:
        if not place:
            return None
        path = self.root / place
        return self._once(path, lambda: open_artifact(path, stage) if (path / MANIFEST).is_file() else None)

    def ledger(self, artifact: Artifact | None) -> list[Entry]:
        """Ledger lines of an artifact; none where it is gone."""
        if artifact is None:
            return []
        return self._once(("ledger", artifact.path), lambda: Ledger(artifact.path).entries())

    # ---- texts ----------------------------------------------------------------------------------------------------
    @cached_property
    def pool(self) -> Pool | None:
        """The imported pool, found in the study by its fingerprint; else opened from its files; else None."""
        wanted = next((s.manifest["inputs"]["pool"] for r in self.rows if (s := self.selection(r))), None)
        for manifest in sorted(self.root.glob(f"shared/pools/*/{MANIFEST}")):
            artifact = Artifact(manifest.parent)
            if artifact.notes.get("fingerprint") == wanted or wanted is None:
                return Pool(artifact)
        try:
            opened = open_pool(parse(PoolConfig, self.config.get("pool") or {}), self.root / "shared")
        except ValueError:  # the files are gone: the page says that texts cannot be shown
            return None
        return opened if opened.fingerprint == wanted else None

    def target(self, name: str) -> Target | None:
        """A target by name; None where its files are gone."""
        values = next((t for t in self.config.get("targets") or [] if t.get("name") == name), None)
        return self._once(("target", name), lambda: _target(values))

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def _target(values: dict[str, Any] | None) -> Target | None:
    try:
        return load_target(parse(TargetConfig, values)) if values else None
    except ValueError:
        return None
