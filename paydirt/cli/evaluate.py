"""`paydirt evaluate`: a model, or answers given elsewhere, on one or several benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from paydirt.cli.flags import (
    Cache,
    Device,
    Force,
    MaxLength,
    Precision,
    ReferencesColumns,
    ReferencesSplit,
    Template,
    target_values,
    workspace,
)
from paydirt.cli.plan import each_planned, plannable
from paydirt.cli.shown import console, say_artifact
from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse
from paydirt.core.units import lines_of_notes


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate")(plannable(evaluate))


def evaluate(
    out: Annotated[Path, typer.Option(help="directory to write; with several benchmarks one folder each inside")],
    model: Annotated[str | None, typer.Argument(help="model or adapter directory, or hub id")] = None,
    benchmark: Annotated[
        str,
        typer.Option(help="exact_match, likelihood, mmlu, bbh, tydiqa, ifeval, or an lm-eval task; or several: a,b"),
    ] = "exact_match",
    data: Annotated[str | None, typer.Option(help="folder in the LESS layout that holds the benchmarks' files")] = None,
    responses: Annotated[Path | None, typer.Option(help="grade this JSONL of prompt and response, not a model")] = None,
    target: Annotated[str | None, typer.Option(help="target whose test examples, or whose benchmark, is meant")] = None,
    references: Annotated[str | None, typer.Option(help="file of the target's reference examples")] = None,
    references_split: ReferencesSplit = "train",
    references_columns: ReferencesColumns = None,
    target_form: Annotated[
        str | None, typer.Option(help="form of mmlu, bbh, tydiqa that prompts follow: published (default), turn")
    ] = None,
    test: Annotated[str | None, typer.Option(help="file of the target's test examples")] = None,
    limit: Annotated[int | None, typer.Option(help="items of each subtask to use")] = None,
    batch_size: Annotated[str | None, typer.Option(help="sequences a pass, or auto")] = None,
    chat_template: Annotated[
        bool | None,
        typer.Option("--chat-template/--no-chat-template", help="prompt in the chat form, or as plain text"),
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="wording of the prompts: references, lm_eval")] = None,
    max_gen_tokens: Annotated[int | None, typer.Option(help="tokens to generate at most")] = None,
    include_references: Annotated[
        bool, typer.Option(help="ifeval: test on prompts that are references too (of --target, else of ifeval's own)")
    ] = False,
    backend: Annotated[str | None, typer.Option(help="hf, or vllm where it is installed")] = None,
    template: Template = "tulu",
    max_length: MaxLength = 2048,
    dtype: Precision = "auto",
    device: Device = "auto",
    quantization: Annotated[str, typer.Option(help="none, 8bit, 4bit (bitsandbytes, CUDA only)")] = "none",
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Measure a model, or recorded responses, on one or several benchmarks."""
    options = {
        "data": data,
        "limit": limit,
        "batch_size": int(batch_size) if batch_size and batch_size.lstrip("+-").isdecimal() else batch_size,
        "chat_template": chat_template,
        "prompts": prompts,
        "max_gen_tokens": max_gen_tokens,
        "backend": backend,
        "include_references": include_references or None,
        "form": target_form if target is None else None,
    }
    given = {key: value for key, value in options.items() if value is not None}
    names = [name.strip() for name in benchmark.split(",") if name.strip()]
    if target is None and references is not None:
        target = "references"
    if target is None and test is not None:
        raise ValueError("--test is of a target; give its --references, and a name by --target")
    if (responses is None) == (model is None):
        both = f"not both: {model} would not be asked" if model else "to grade"
        raise ValueError(f"give a model directory or --responses FILE, {both}")
    for name in names:
        place = out / name if len(names) > 1 else out
        if responses is not None:
            with each_planned():
                show(_grade(responses, name, given, place, force))
            continue
        stage: dict[str, Any] = {
            "model": {"path": model, "dtype": dtype, "device": device, "quantization": quantization},
            "encoding": {"template": template, "max_length": max_length},
            "benchmark": benchmark_values(name, given),
        }
        if target is not None:
            stage["target"] = target_values(
                target, data, references, test, target_form, references_split, references_columns
            )
        with each_planned():
            show(_evaluate(stage, place, cache, force))


def benchmark_values(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """A benchmark by its name, else a task of lm-eval; options that it does not have are left out unless given for it."""
    from paydirt.tasks.benchmark import BENCHMARKS

    known = name in BENCHMARKS.names()
    fields = BENCHMARKS.get(name if known else "lm_eval").model_fields
    unknown = sorted(set(given) - set(fields) - {"data"})
    if unknown:
        flags = ", ".join("--" + ("target-form" if key == "form" else key.replace("_", "-")) for key in unknown)
        raise ValueError(f"benchmark {name!r} does not take {flags}")
    values = {key: value for key, value in given.items() if key in fields}
    return {"name": name, **values} if known else {"name": "lm_eval", "task": name, **values}


def _evaluate(stage: dict[str, Any], out: Path, cache: Path | None, force: bool) -> Artifact:
    from paydirt.stages import EvaluateStage
    from paydirt.stages import evaluate as run

    return run(parse(EvaluateStage, stage, where="evaluate"), out, workspace(cache, force))


def _grade(responses: Path, name: str, given: dict[str, Any], out: Path, force: bool) -> Artifact:
    from paydirt.tasks.responses import GradeStage, grade

    values = {"responses": str(responses), "benchmark": benchmark_values(name, given)}
    return grade(parse(GradeStage, values, where="evaluate"), out, "anything" if force else "nothing")


def show(artifact: Artifact) -> None:
    """The numbers with their standard errors, the subtasks, and what one should know of how they came about."""
    import json

    from paydirt.stages import read_result

    result = read_result(artifact.path)
    say_artifact(artifact, notes={})
    table = Table(title=f"{result.target}: {result.n} items", title_justify="left")
    for column in ("metric", "value", "± standard error"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value in result.metrics.items():
        if not name.endswith("_stderr"):
            error = result.metrics.get(f"{name}_stderr")
            table.add_row(name, f"{value:.4f}", "" if error is None else f"{error:.4f}")
    console.print(table)
    if len(result.by_subtask) > 1:
        details = artifact.path / "subtasks.json"
        console.print(_subtask_table(json.loads(details.read_text()) if details.exists() else {}, result.by_subtask))
    for line in lines_of_notes({name: setting for name, setting in result.settings.items() if setting != 0}):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _subtask_table(details: dict[str, dict[str, float]], shown: dict[str, float]) -> Table:
    """Every metric of every subtask; of those that have only one number, that."""
    table = Table()
    names = [n for n in next(iter(details.values()), {}) if n != "n" and not n.endswith("_stderr")]
    if set(details) != set(shown):
        details, names = {k: {"share": v} for k, v in shown.items()}, ["share"]
    table.add_column("subtask")
    for name in (*names, "items"):
        table.add_column(name, justify="right")
    for subtask, row in details.items():
        cells = [f"{row[n]:.3f}" + (f" ±{row[f'{n}_stderr']:.3f}" if f"{n}_stderr" in row else "") for n in names]
        table.add_row(subtask, *cells, str(row.get("n", "")))
    return table
