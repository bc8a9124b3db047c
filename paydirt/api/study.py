"""A study from a recipe: methods x fractions x seeds, its table of results and its page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from paydirt.api.calls import PathLike, checked, spoken
from paydirt.api.tables import Tabular
from paydirt.core.artifacts import cache_root, fingerprint, reading, refuse_artifact
from paydirt.core.config import parse, read_yaml
from paydirt.execution import Executor
from paydirt.study import recipe as recipes
from paydirt.study.results import RESULTS


class Results(Tabular):
    """The results table of a study: one row for each run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path.parent, path.name):
            self._table = pq.read_table(path)

    def to_arrow(self) -> pa.Table:
        return self._table

    def __len__(self) -> int:
        return self._table.num_rows

    def __repr__(self) -> str:
        methods = len(set(self._table["method"].to_pylist()))
        return f"Results({len(self)} rows, {methods} methods; {self.path})"


class Study:
    """A finished study. `path` is its folder, `report` its page."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.results = Results(path / RESULTS)

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def __repr__(self) -> str:
        return f"Study({self.name}: {len(self.results)} rows; {self.path})"


@spoken
def study(
    recipe: PathLike | Mapping[str, Any] | recipes.Study,
    *,
    execution: Executor | None = None,
    out: PathLike | None = None,
) -> Study:
    """Run a recipe (a file, its values, or a config), or go on with it where it stopped, and write its page.

    `execution` is for scoring and for trainings, in place of what the recipe says.
    Raises ValueError as `paydirt run` does.
    """
    from paydirt.report.build import write_report
    from paydirt.study.run import run_study

    config = read_recipe(recipe)
    place = Path(out).expanduser() if out is not None else place_of(config)
    refuse_artifact(place)
    results = run_study(config, place, checked(execution))
    write_report(results.parent)
    return Study(config.name, results.parent)


def place_of(config: recipes.Study) -> Path:
    """Where a study goes that no `out` was given for."""
    return cache_root() / "studies" / f"{config.name.replace(os.sep, '_')}-{fingerprint(config.to_dict())}"


def read_recipe(recipe: PathLike | Mapping[str, Any] | recipes.Study) -> recipes.Study:
    """A recipe in any of its shapes; ValueError for the config of another stage."""
    if isinstance(recipe, recipes.Study):
        return recipe
    given = isinstance(recipe, Mapping)
    values = dict(recipe) if isinstance(recipe, Mapping) else read_yaml(Path(recipe))
    where = "study" if given else str(recipe)
    if (stage := values.pop("stage", "study")) != "study":
        raise ValueError(f"{where}: the config of a {stage} stage, not of a study; `paydirt run` makes it again")
    return parse(recipes.Study, values, where=where)
