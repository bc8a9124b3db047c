"""Commands that run whole studies: run (or replay any artifact), report, world and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paydirt.cli.flags import Address, Cache, Execution, Force, Gpus, Workers, workspace
from paydirt.cli.plan import DryRun, measures, planned, show_plan
from paydirt.cli.shown import console, say_artifact
from paydirt.core.config import parse
from paydirt.core.progress import say
from paydirt.training.launcher import refuse_launcher


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for function in (run, report, world, demo):
        app.command(function.__name__)(function)


def run(
    recipe: Annotated[Path, typer.Argument(help="recipe of a study, or the config.yaml of any artifact")],
    out: Annotated[Path | None, typer.Option(help="directory to write; default: runs/<name of the recipe>")] = None,
    dry_run: DryRun = False,
    cache: Cache = None,
    force: Force = False,
    workers: Workers = None,
    gpus: Gpus = None,
    execution: Execution = None,
    address: Address = None,
) -> None:
    """Run a study recipe: methods x fractions x seeds; or replay any artifact from its config.yaml.

    Relative paths in a recipe are relative to the current directory; a config.yaml holds absolute ones.
    """
    from paydirt.core.artifacts import MANIFEST, place_of, refuse_artifact
    from paydirt.core.config import moved, read_yaml
    from paydirt.core.registry import did_you_mean
    from paydirt.replay import STAGES
    from paydirt.study.recipe import Study
    from paydirt.study.run import run_study

    values = read_yaml(recipe)
    if (recipe.parent / MANIFEST).is_file():  # an artifact's own, which may have been moved with what it names
        values = moved(values, place_of(recipe.parent), str(recipe.parent.absolute()))
    stage = values.pop("stage", "study")
    if not isinstance(stage, str):
        raise ValueError(f"{recipe}: stage: expected the name of a stage, found {type(stage).__name__}; 'study' is one")
    if stage == "study":
        asked = {"workers": workers, "gpus": gpus, "execution": execution, "address": address}
        study = parse(Study, values | {k: v for k, v in asked.items() if v is not None}, where=str(recipe))
        place = out or Path("runs") / study.name
        refuse_artifact(place)
        if dry_run:
            from paydirt.planning.study import study_plan

            show_plan(study_plan(study, place, measures()))
            return
        results = run_study(study, place)
        _finish_study(results)
    elif stage in STAGES:
        if stage != "train":
            refuse_launcher(f"a {stage} stage")
        cls, function = STAGES[stage]
        folder = recipe.absolute().parent
        place = out or folder.with_name(folder.name + "-replayed")
        made_by = workspace(cache, force, workers, gpus, execution, address)
        config = parse(cls, values, where=str(recipe))
        planned(lambda: say_artifact(function(config, place, made_by)), cache, dry_run)
    else:
        raise ValueError(f"{recipe}: unknown stage {stage!r}; {did_you_mean(stage, [*STAGES, 'study'])}")


def _finish_study(results: Path) -> None:
    from paydirt.report.build import write_report
    from paydirt.study.table import results_tables

    for table in results_tables(results):
        console.print(table)
    say(f"report: {write_report(results.parent)}")


def report(study: Annotated[Path, typer.Argument(help="directory of a study that has run")]) -> None:
    """Write the one-page HTML report of a study."""
    from paydirt.report.build import write_report

    console.print(f"wrote {write_report(study)}", markup=False, soft_wrap=True)


def world(
    out: Annotated[Path, typer.Option(help="directory to write")],
    seed: Annotated[int, typer.Option(help="seed of the world")] = 0,
) -> None:
    """Write the built-in world: pool, two targets, true labels, base model and a study recipe."""
    from paydirt.demo import prepare_world

    console.print(f"wrote {prepare_world(out, seed)}", markup=False, soft_wrap=True)


def demo(
    out: Annotated[Path, typer.Option(help="directory to write")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="seed of the world")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="two fractions and one seed: a minute instead of ten")] = False,
) -> None:
    """Run every method on the built-in world and write a report."""
    from paydirt.demo import run_demo

    _finish_study(run_demo(out, seed, quick))
