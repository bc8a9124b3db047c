"""`paydirt train`: fine-tune a model on a file of examples, with flags from the training config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt.cli.flags import (
    Address,
    Cache,
    Device,
    Execution,
    Force,
    MaxLength,
    NewlineLabel,
    Out,
    Precision,
    ReferencesColumns,
    ReferencesSplit,
    Seed,
    Set,
    Template,
    Workers,
    model_values,
    workspace,
)
from paydirt.cli.flags import references_columns as named
from paydirt.cli.options import options_of, with_options, with_settings
from paydirt.cli.plan import plannable
from paydirt.cli.pool import pool_values, reads_pool
from paydirt.cli.shown import say_artifact
from paydirt.core.artifacts import open_artifact
from paydirt.core.config import parse
from paydirt.core.progress import say


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    from paydirt.training.config import TrainConfig

    parameters = [p.replace(default=None) for p in options_of(TrainConfig)]  # unset flags leave room for the recipe
    app.command("train")(with_options(plannable(reads_pool(train)), parameters))


def train(
    data: Annotated[
        list[str], typer.Option("--data", help="file to train on, such as a selection.jsonl, or a selection; repeat")
    ],
    model: Annotated[str, typer.Option(help="model directory or hub id")],
    out: Out,
    reading: dict[str, Any],
    references: Annotated[
        str | None,
        typer.Option(help="file of examples whose loss is measured while training (--watch-every, --early-stop)"),
    ] = None,
    references_split: ReferencesSplit = "train",
    references_columns: ReferencesColumns = None,
    template: Template = "tulu",
    max_length: MaxLength = 2048,
    newline_label: NewlineLabel = False,
    seed: Seed = 0,
    dtype: Precision = "auto",
    device: Device = "auto",
    cache: Cache = None,
    force: Force = False,
    settings: Set = None,
    workers: Workers = None,
    execution: Execution = None,
    address: Address = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Fine-tune a model (LoRA or full) on a file of examples; with `--execution ray`, on all GPUs of a cluster at once."""
    from paydirt.stages import TrainStage
    from paydirt.stages import train as run

    selection = _selection(data)
    stage = parse(
        TrainStage,
        {
            "pool": open_artifact(selection).config["pool"] if selection else pool_values(data, reading, "--data"),
            "selection": str(selection) if selection else None,
            "model": model_values(model, dtype, device),
            "encoding": {"template": template, "max_length": max_length, "newline_label": newline_label},
            "training": with_settings(options, settings),
            "fraction": None if selection else _chosen_as(data),
            "references": references,
            "references_split": references_split,
            "references_columns": named(references_columns),
            "seed": seed,
        },
        where="train",
    )
    say_artifact(run(stage, out, workspace(cache, force, workers, None, execution, address)))


def _selection(data: list[str]) -> Path | None:
    """The selection that is to be trained on as such: given as a directory, or by its file where examples come more than
    once, which the file cannot say. ValueError where it is one of several files.
    """
    from paydirt.selection.select import selection_of

    for text in data:
        place = Path(text.split("=", 1)[-1])
        chosen = selection_of(place)
        if chosen is None or (place.is_file() and "taken" not in chosen.notes):
            continue
        if len(data) > 1:
            raise ValueError(
                f"--data {text}: a selection whose examples come more than once, or as a directory, is trained on alone; "
                "give its selection.jsonl where each comes once, or `paydirt export` it and give that file"
            )
        times = f", taken {chosen.notes['taken']} times in all" if "taken" in chosen.notes else ""
        say(f"{chosen.path}: a selection of {chosen.notes['examples']} examples{times}")
        return chosen.path
    return None


def _chosen_as(data: list[str]) -> float | None:
    """The share of its pool that a selection's file was chosen as, which its manifest beside it says; None without."""
    from paydirt.selection.select import fraction_beside

    known = {file: fraction for file in data if (fraction := fraction_beside(Path(file.split("=", 1)[-1]))) is not None}
    if len(data) == 1:
        return next(iter(known.values()), None)
    for file, fraction in known.items():
        say(f"{file}: a selection of {fraction:.3g} of its pool; with several files the rate is a whole pool's")
    return None
