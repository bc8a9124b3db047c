"""A budget that spends itself: pilots as long as they are worth their cost, then one selection and one training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from paydirt.analysis.advisor import budget_of
from paydirt.api.calls import PathLike, spoken
from paydirt.api.study import Study, place_of, read_recipe
from paydirt.api.tables import Tabular
from paydirt.core.artifacts import reading, refuse_artifact
from paydirt.core.progress import say
from paydirt.study import recipe as recipes
from paydirt.study.spend import COURSE, open_world, plan_text, run_spend
from paydirt.study.spend_words import Machine
from paydirt.study.spend_world import StudyWorld


class Spending(Tabular):
    """A budget that was spent. `to_arrow` has its steps; `study` the results table and the page of what was run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, COURSE):
            self.course: dict[str, Any] = json.loads((path / COURSE).read_text(encoding="utf-8"))

    @property
    def kept(self) -> str:
        """What was kept, in words."""
        return str(self.course["kept"])

    @property
    def score(self) -> float:
        return float(self.course["score"])

    @property
    def flops(self) -> float:
        """Spent, of `course["budget"]`."""
        return float(self.course["flops"])

    @property
    def paragraph(self) -> str:
        """What happened, in plain words."""
        return str(self.course["paragraph"])

    @property
    def study(self) -> Study:
        return Study(self.path.name, self.path)

    def what_if(self) -> pa.Table:
        """What other budgets would buy by what is known now: one row each, from a tenth to ten times the given one."""
        return pa.Table.from_pylist(self.course["what_if"])

    def to_arrow(self) -> pa.Table:
        return pa.Table.from_pylist(self.course["steps"])

    def __repr__(self) -> str:
        spent = f"{self.flops:.3g} of {self.course['budget']:.3g} FLOPs"
        return f"Spending({self.kept}: {self.score:.4g} for {spent}; {self.path})"


def opened(
    recipe: PathLike | Mapping[str, Any] | recipes.Study,
    budget: float | None,
    hours: float | None,
    machine: Machine,
    target: str | None = None,
    out: PathLike | None = None,
) -> tuple[StudyWorld, float]:
    """The recipe's world on one target, and the budget in FLOPs: as given, or as `hours` of the machine."""
    flops = budget_of(budget, machine.name, hours, machine.devices, machine.utilisation)
    machine.told(flops)  # refuses a device that nobody knows before anything runs
    study = read_recipe(recipe)
    place = (Path(out).expanduser() if out is not None else _beside(study)).absolute()
    refuse_artifact(place)
    return open_world(study, target, place), flops


def _beside(study: recipes.Study) -> Path:
    """Where a spending goes that no `out` was given for: beside the recipe's study."""
    place = place_of(study)
    return place.with_name(f"{place.name}-spend")


@spoken
def spend(
    recipe: PathLike | Mapping[str, Any] | recipes.Study,
    budget: float | None = None,
    *,
    hardware: str | None = None,
    hours: float | None = None,
    devices: int = 1,
    utilisation: float | None = None,
    price: float | None = None,
    target: str | None = None,
    out: PathLike | None = None,
    dry_run: bool = False,
) -> Spending | str:
    """Spend `budget` FLOPs (or `hours` of `hardware`) on one target of a recipe; never more. `dry_run`: the opening plan.

    Goes on where it was stopped. Raises ValueError as `paydirt spend` does.
    """
    from paydirt.report.build import write_report

    machine = Machine(hardware, devices, utilisation, price)
    world, flops = opened(recipe, budget, hours, machine, target, out)
    if dry_run:
        return plan_text(world, flops, machine)
    run_spend(world, flops, say, machine)
    write_report(world.out)
    return Spending(world.out)
