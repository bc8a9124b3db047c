"""The verb that spends a budget: recipe and budget in, pilots, one selection and one training out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paydirt.cli.analysis import in_range
from paydirt.cli.shown import console


def register(app: typer.Typer) -> None:
    """Add this module's command to the command line."""
    app.command("spend")(spend)


def spend(
    recipe: Annotated[Path, typer.Argument(help="recipe of a study: pool, target, model, methods")],
    budget: Annotated[float | None, typer.Option(help="FLOPs for selecting and training, pilots included")] = None,
    hardware: Annotated[str | None, typer.Option(help="budget as hardware: a100, h100, ...")] = None,
    hours: Annotated[float | None, typer.Option(help="budget as hours on that hardware")] = None,
    devices: Annotated[int, typer.Option(help="how many of them")] = 1,
    utilisation: Annotated[float | None, typer.Option(help="share of the hardware's peak that is reached")] = None,
    target: Annotated[str | None, typer.Option(help="which target of the recipe")] = None,
    out: Annotated[Path | None, typer.Option(help="directory to write; default: runs/<recipe>-spend")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the opening plan and stop")] = False,
) -> None:
    """Spend a budget: zero-shot, pilots as long as they are worth their cost, then one selection and training."""
    from paydirt.analysis.advisor import budget_of
    from paydirt.core.artifacts import refuse_artifact
    from paydirt.core.config import parse, read_yaml
    from paydirt.study.recipe import Study
    from paydirt.study.spend import open_world, plan_text, run_spend

    in_range(devices=(devices, 1, 1e6), hours=(hours, 1e-6, 1e9), budget=(budget, 1.0, 1e40))
    flops = budget_of(budget, hardware, hours, devices, utilisation)
    values = read_yaml(recipe)
    if (stage := str(values.pop("stage", "study"))) != "study":
        raise ValueError(f"{recipe}: a budget is spent on a study's recipe, not on one of the stage {stage!r}")
    study = parse(Study, values, where=str(recipe))
    place = (out or Path("runs") / f"{study.name}-spend").absolute()
    refuse_artifact(place)
    world = open_world(study, target, place)
    if dry_run:
        console.print(plan_text(world, flops), soft_wrap=True, markup=False)
        return
    done = run_spend(world, flops, lambda line: console.print(line, soft_wrap=True, markup=False))
    console.print(f"kept {world.describe(done.kept)}: score {done.score / world.unit:.4g}, {done.flops:.4g} of {flops:.4g} "
                  f"FLOPs spent; report in {place / 'spend.md'}", soft_wrap=True, markup=False)  # fmt: skip
