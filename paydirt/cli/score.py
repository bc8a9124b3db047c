"""`paydirt score METHOD`: one command for each registered scorer, with flags from its own config."""

from __future__ import annotations

import inspect
from typing import Any

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
    ReferencesColumns,
    ReferencesSplit,
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
from paydirt.cli.plan import plannable
from paydirt.cli.pool import PoolFiles, pool_values, reads_pool
from paydirt.cli.shown import say_artifact
from paydirt.core.config import parse

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
            out: Out,
            target: TargetName = None,
            data: Data = None,
            references: References = None,
            references_split: ReferencesSplit = "train",
            references_columns: ReferencesColumns = None,
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
            settings: Set = None,
            options: dict[str, Any] | None = None,
            name: str = name,
        ) -> None:
            from paydirt.stages import ScoreStage, score

            stage = parse(
                ScoreStage,
                {
                    "pool": pool_values(pool, reading),
                    "target": _target(target, data, references, target_form, references_split, references_columns),
                    "method": {"name": name, **with_settings(options, settings)},
                    "model": model_values(model, dtype, model_device),
                    "encoding": {"template": template, "max_length": max_length, "newline_label": newline_label},
                    "seed": seed,
                },
                where="score",
            )
            say_artifact(score(stage, out, workspace(cache, force, workers, gpus, execution, address)))

        command.__name__ = name
        command.__doc__ = scorer.__doc__
        _hide(command, "name")
        score_app.command(name)(with_options(plannable(reads_pool(command)), options_of(scorer)))


def _target(
    name: str | None,
    data: str | None,
    references: str | None,
    form: str | None,
    split: str,
    columns: list[str] | None,
) -> dict[str, Any] | None:
    """None where no target is meant; one of references alone is called so."""
    if name is None and references is None:
        if data is not None or form is not None:
            raise ValueError("--data and --target-form are of a target; name it with --target")
        return None
    return target_values(name or "references", data, references, None, form, split, columns)


def _hide(function: Any, name: str) -> None:
    """Keep a bound default out of the parameters that typer sees."""
    signature = inspect.signature(function, eval_str=True)
    function.__signature__ = signature.replace(parameters=[p for k, p in signature.parameters.items() if k != name])
