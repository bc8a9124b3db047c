"""`paydirt score METHOD`: one command for each registered scorer, with flags from its own config."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from paydirt.cli.flags import (
    Address,
    Cache,
    Data,
    Device,
    Execution,
    Force,
    Gpus,
    MaxLength,
    Model,
    NewlineLabel,
    Out,
    Precision,
    References,
    Seed,
    Set,
    TargetForm,
    TargetName,
    Template,
    Workers,
    model_values,
    target_values,
    workspace,
)
from paydirt.cli.groups import CheapToDear
from paydirt.cli.options import options_of, with_options, with_settings
from paydirt.cli.pool import PoolFiles, pool_values, reads_pool
from paydirt.cli.shown import console, say_artifact
from paydirt.core.config import parse
from paydirt.core.units import number

score_app = typer.Typer(
    cls=CheapToDear, no_args_is_help=True, help="Score every pool example for a target: one command a method."
)


def register(app: typer.Typer) -> None:
    """One subcommand for each registered scorer, with its own flags."""
    from paydirt.scoring.base import SCORERS

    app.add_typer(score_app, name="score")
    for name in SCORERS.names():
        scorer = SCORERS.get(name)

        def command(
            pool: PoolFiles,
            reading: dict[str, Any],
            target: TargetName,
            out: Out,
            data: Data = None,
            references: References = None,
            target_form: TargetForm = None,
            model: Model = None,
            template: Template = "tulu",
            max_length: MaxLength = 2048,
            newline_label: NewlineLabel = False,
            seed: Seed = 0,
            dtype: Precision = "auto",
            model_device: Device = "auto",
            cache: Cache = None,
            force: Force = False,
            workers: Workers = None,
            gpus: Gpus = None,
            execution: Execution = None,
            address: Address = None,
            dry_run: Annotated[bool, typer.Option("--dry-run", help="print the predicted cost and stop")] = False,
            settings: Set = None,
            options: dict[str, Any] | None = None,
            name: str = name,
        ) -> None:
            from paydirt.stages import ScoreStage, predict_score, score

            stage = parse(
                ScoreStage,
                {
                    "pool": pool_values(pool, reading),
                    "target": target_values(target, data, references, None, target_form),
                    "method": {"name": name, **with_settings(options, settings)},
                    "model": model_values(model, dtype, model_device),
                    "encoding": {"template": template, "max_length": max_length, "newline_label": newline_label},
                    "seed": seed,
                },
                where="score",
            )
            if dry_run:
                cost = predict_score(stage, workspace(cache))
                console.print(
                    f"{name}: {number(cost.flops, 'FLOPs')} over {number(cost.tokens)} tokens; nothing was run"
                )
                return
            say_artifact(score(stage, out, workspace(cache, force, workers, gpus, execution, address)))

        command.__name__ = name
        command.__doc__ = scorer.__doc__
        _hide(command, "name")
        score_app.command(name)(with_options(reads_pool(command), options_of(scorer)))


def _hide(function: Any, name: str) -> None:
    """Keep a bound default out of the parameters that typer sees."""
    signature = inspect.signature(function, eval_str=True)
    function.__signature__ = signature.replace(parameters=[p for k, p in signature.parameters.items() if k != name])
