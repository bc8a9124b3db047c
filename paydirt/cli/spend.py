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
    price: Annotated[float | None, typer.Option(help="US dollars an hour and device")] = None,
    target: Annotated[str | None, typer.Option(help="which target of the recipe")] = None,
    out: Annotated[Path | None, typer.Option(help="directory to write; default: runs/<recipe>-spend")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the opening plan and stop")] = False,
) -> None:
    """Spend a budget: zero-shot, pilots as long as they are worth their cost, then one selection and training."""
    from paydirt.api.spend import opened
    from paydirt.api.study import read_recipe
    from paydirt.report.build import write_report
    from paydirt.study.spend import plan_text, run_spend
    from paydirt.study.spend_words import Machine, paragraph

    in_range(devices=(devices, 1, 1e6), hours=(hours, 1e-6, 1e9), price=(price, 0.0, 1e6), budget=(budget, 1.0, 1e40))
    study = read_recipe(recipe)
    machine = Machine(hardware, devices, utilisation, price)
    world, flops = opened(study, budget, hours, machine, target, out or Path("runs") / f"{study.name}-spend")
    if dry_run:
        console.print(plan_text(world, flops, machine), soft_wrap=True, markup=False)
        return
    done = run_spend(world, flops, lambda line: console.print(line, soft_wrap=True, markup=False), machine)
    console.print(paragraph(world, done, machine), soft_wrap=True, markup=False)
    kept = f"kept {world.describe(done.kept)}: score {world.unit.back(done.score):.4g}"
    spent = f"{done.flops:.4g} of {flops:.4g} FLOPs spent; report in {write_report(world.out)}"
    console.print(f"{kept}, {spent}", soft_wrap=True, markup=False)
