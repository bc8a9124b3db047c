"""The command line: parse, call a stage, print what came out.

Flags come from the configs themselves (`cli_options`), so a new method or field needs no change here. Mistakes that a user
can make are printed without a traceback, and exit with status 2 (`boundary`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt import __version__, cli_analysis, cli_data, cli_evaluate
from paydirt.artifacts import VERIFY, Artifact, cache_root
from paydirt.boundary import guarded
from paydirt.cli_options import options_of, with_options, with_settings
from paydirt.cli_pool import PoolFiles, pool_values, reads_pool, say_pools
from paydirt.config import parse
from paydirt.data.tally import opened
from paydirt.progress import results_console, say
from paydirt.training.launcher import refuse_launcher

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
score_app = typer.Typer(no_args_is_help=True, help="Score every pool example for a target: one command a method.")
app.add_typer(score_app, name="score")
out_console = results_console()

TargetName = Annotated[str, typer.Option("--target", help="mmlu, bbh, tydiqa, ifeval, or any name with --references")]
Data = Annotated[str | None, typer.Option(help="folder in the LESS layout that holds the target's files")]
References = Annotated[str | None, typer.Option(help="file of reference examples")]
TargetForm = Annotated[str | None, typer.Option(help="references of mmlu, bbh, tydiqa: published (default), turn")]
Test = Annotated[str | None, typer.Option(help="file of test examples")]
Model = Annotated[str | None, typer.Option(help="model or adapter directory, or hub id")]
Template = Annotated[str, typer.Option(help="chat form: tulu, llama2, tokenizer")]
MaxLength = Annotated[int, typer.Option(help="tokens kept of each example")]
NewlineLabel = Annotated[bool, typer.Option("--newline-label", help="learn the newline after an answer's end, as LESS")]
Out = Annotated[Path, typer.Option(help="directory to write")]
Seed = Annotated[int, typer.Option(help="random seed")]
Cache = Annotated[Path | None, typer.Option(help="where imported pools and tokens live; default $PAYDIRT_CACHE")]
Precision = Annotated[str, typer.Option(help="dtype of the model weights: float32, bfloat16, float16")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
Workers = Annotated[int | None, typer.Option(help="processes on the CPU that share the work; no result depends on it")]
Gpus = Annotated[str | None, typer.Option(help="one process for each of these GPUs, as 0,2; default all")]
Force = Annotated[bool, typer.Option("--force", help="replace what another stage or config left in --out")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="any option by its YAML key, such as lora.r=16 or gradient.k=4096; repeat"),
]


def _target(
    name: str, data: str | None, references: str | None, test: str | None, form: str | None = None
) -> dict[str, Any]:
    return {"name": name, "data": data, "references": references, "test": test, "form": form}


def _model(path: str | None, dtype: str = "float32", device: str = "auto") -> dict[str, Any] | None:
    return {"path": path, "dtype": dtype, "device": device} if path else None


def _report(artifact: Artifact) -> None:
    """Say what a stage left, or that there was nothing to do."""
    if artifact.fresh:
        out_console.print(f"wrote {artifact.path}", markup=False, soft_wrap=True)
    else:
        out_console.print(f"{artifact.path} is up to date; nothing was done", markup=False, soft_wrap=True)
    for key, value in artifact.notes.items():
        if key != "pool" and (not isinstance(value, dict | list) or len(str(value)) < 200):
            out_console.print(f"  {key}: {value}", markup=False, soft_wrap=True)


def _workspace(cache: Path | None, force: bool = False, workers: int | None = None, gpus: str | None = None) -> Any:
    from paydirt.execution.local import local
    from paydirt.stages import Workspace

    return Workspace(cache or cache_root(), replace="anything" if force else "nothing", executor=local(workers, gpus))


def _add_score_commands() -> None:
    """One subcommand for each registered scorer, with its own flags."""
    from paydirt.scorers.base import SCORERS

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
            dtype: Precision = "float32",
            model_device: Device = "auto",
            cache: Cache = None,
            force: Force = False,
            workers: Workers = None,
            gpus: Gpus = None,
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
                    "target": _target(target, data, references, None, target_form),
                    "method": {"name": name, **with_settings(options, settings)},
                    "model": _model(model, dtype, model_device),
                    "encoding": {"template": template, "max_length": max_length, "newline_label": newline_label},
                    "seed": seed,
                },
                where="score",
            )
            if dry_run:
                cost = predict_score(stage, _workspace(cache))
                out_console.print(f"{name}: {cost.flops:.4g} FLOPs over {cost.tokens} tokens; nothing was run")
                return
            _report(score(stage, out, _workspace(cache, force, workers, gpus)))

        command.__name__ = name
        command.__doc__ = scorer.__doc__
        _hide(command, "name")
        score_app.command(name)(with_options(reads_pool(command), options_of(scorer)))


def _hide(function: Any, name: str) -> None:
    """Keep a bound default out of the parameters that typer sees."""
    import inspect

    signature = inspect.signature(function, eval_str=True)
    function.__signature__ = signature.replace(parameters=[p for k, p in signature.parameters.items() if k != name])


def _select(
    scores: Annotated[Path, typer.Argument(help="directory of finished scores")],
    out: Out,
    policy: Annotated[
        str | None, typer.Option(help="top, mid, low, round_robin, quota, random; default: the method's own")
    ] = None,
    over: Annotated[str | None, typer.Option(help="round_robin: subtask or reference")] = None,
    share: Annotated[list[str] | None, typer.Option(help="quota: SOURCE=WEIGHT; repeat")] = None,
    within: Annotated[str | None, typer.Option(help="statistic over the references of a subtask")] = None,
    across: Annotated[str | None, typer.Option(help="statistic over subtasks, or pooled")] = None,
    fraction: Annotated[str | None, typer.Option(help="share of the pool: 0.05 or 5%")] = None,
    count: Annotated[int | None, typer.Option(help="examples")] = None,
    tokens: Annotated[int | None, typer.Option(help="tokens")] = None,
    words: Annotated[int | None, typer.Option(help="words, where scores were made without a model")] = None,
    flops: Annotated[float | None, typer.Option(help="training FLOPs; needs --flops-per-token")] = None,
    flops_per_token: Annotated[float | None, typer.Option(help="training FLOPs of one token")] = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Choose a subset by finished scores; writes JSONL in the pool's own form, best first."""
    from paydirt.artifacts import open_artifact
    from paydirt.selection.policies.base import POLICIES
    from paydirt.stages import SelectStage, select

    given: dict[str, Any] = {"over": over} if over else {}
    given |= {"shares": _shares(share)} if share else {}
    if idle := set(given) - set(POLICIES.get(policy).model_fields if policy else ()):
        owner = {"over": "--over is an option of round_robin", "shares": "--share is an option of quota"}
        raise ValueError(f"{owner[min(idle)]}; give --policy {owner[min(idle)].split()[-1]}, or leave it out")
    options = {"name": policy, **given} if policy else None
    reduction = {k: v for k, v in (("within", within), ("across", across)) if v}
    budget = {"fraction": fraction, "count": count, "tokens": tokens, "words": words, "flops": flops}
    stage = parse(
        SelectStage,
        {
            "pool": open_artifact(scores, "score").manifest["config"]["pool"],
            "scores": str(scores.absolute()),
            "selection": {"policy": options, "reduction": reduction or None},
            "budget": {k: v for k, v in budget.items() if v is not None},
            "seed": seed,
            "flops_per_token": flops_per_token,
        },
        where="select",
    )
    _report(select(stage, out, _workspace(cache, force)))


app.command("select")(_select)


def _shares(given: list[str]) -> dict[str, float]:
    """`--share SOURCE=WEIGHT` values; ValueError names one that is not."""
    shares = {}
    for text in given:
        source, equals, weight = text.rpartition("=")
        try:
            shares[source] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--share {text}: expected SOURCE=WEIGHT, such as dolly=0.5")
    return shares


def _train(
    data: Annotated[list[str], typer.Option("--data", help="file to train on, such as a selection.jsonl; repeat")],
    model: Annotated[str, typer.Option(help="model directory or hub id")],
    out: Out,
    reading: dict[str, Any],
    template: Template = "tulu",
    max_length: MaxLength = 2048,
    newline_label: NewlineLabel = False,
    seed: Seed = 0,
    dtype: Precision = "float32",
    device: Device = "auto",
    cache: Cache = None,
    force: Force = False,
    settings: Set = None,
    options: dict[str, Any] | None = None,
) -> None:
    """Fine-tune a model (LoRA or full) on a file of examples."""
    from paydirt.stages import TrainStage, train

    stage = parse(
        TrainStage,
        {
            "pool": pool_values(data, reading, "--data"),
            "model": _model(model, dtype, device),
            "encoding": {"template": template, "max_length": max_length, "newline_label": newline_label},
            "training": with_settings(options, settings),
            "fraction": _chosen_as(data),
            "seed": seed,
        },
        where="train",
    )
    _report(train(stage, out, _workspace(cache, force)))


def _chosen_as(data: list[str]) -> float | None:
    """The share of its pool that a selection's file was chosen as, which its manifest beside it says; None without."""
    from paydirt.selection.select import fraction_beside

    known = {file: fraction for file in data if (fraction := fraction_beside(Path(file.split("=", 1)[-1]))) is not None}
    if len(data) == 1:
        return next(iter(known.values()), None)
    for file, fraction in known.items():
        say(f"{file}: a selection of {fraction:.3g} of its pool; with several files the rate is a whole pool's")
    return None


def _add_train_command() -> None:
    from paydirt.training.config import TrainConfig

    parameters = [p.replace(default=None) for p in options_of(TrainConfig)]  # unset flags leave room for the recipe
    _train.__name__ = "train"
    app.command("train")(with_options(reads_pool(_train), parameters))


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="recipe of a study, or the config.yaml of any artifact")],
    out: Annotated[Path | None, typer.Option(help="directory to write; default: runs/<name of the recipe>")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the predicted cost and stop")] = False,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Run a study recipe: methods x fractions x seeds; or replay any artifact from its config.yaml.

    Relative paths in a recipe are relative to the current directory; a config.yaml holds absolute ones.
    """
    from paydirt.artifacts import refuse_artifact
    from paydirt.config import read_yaml
    from paydirt.registry import did_you_mean
    from paydirt.replay import STAGES
    from paydirt.study.recipe import Study
    from paydirt.study.run import plan_study, run_study

    values = read_yaml(recipe)
    stage = values.pop("stage", "study")
    if not isinstance(stage, str):
        raise ValueError(f"{recipe}: stage: expected the name of a stage, found {type(stage).__name__}; 'study' is one")
    if stage == "study":
        study = parse(Study, values, where=str(recipe))
        place = out or Path("runs") / study.name
        refuse_artifact(place)
        if dry_run:
            out_console.print(plan_study(study, place))
            return
        results = run_study(study, place)
        _finish_study(results)
    elif stage in STAGES:
        if stage != "train":
            refuse_launcher(f"a {stage} stage")
        cls, function = STAGES[stage]
        folder = recipe.absolute().parent
        place = out or folder.with_name(folder.name + "-replayed")
        _report(function(parse(cls, values, where=str(recipe)), place, _workspace(cache, force)))
    else:
        raise ValueError(f"{recipe}: unknown stage {stage!r}; {did_you_mean(stage, [*STAGES, 'study'])}")


def _finish_study(results: Path) -> None:
    from paydirt.report.build import write_report
    from paydirt.study.table import results_tables

    for table in results_tables(results):
        out_console.print(table)
    say(f"report: {write_report(results.parent)}")


@app.command()
def report(study: Annotated[Path, typer.Argument(help="directory of a study that has run")]) -> None:
    """Write the one-page HTML report of a study."""
    from paydirt.report.build import write_report

    out_console.print(f"wrote {write_report(study)}", markup=False, soft_wrap=True)


@app.command()
@reads_pool
def inspect(
    path: Annotated[Path, typer.Argument(help="an artifact or study directory, or a data file")],
    reading: dict[str, Any],
    cache: Cache = None,
    verify: Annotated[bool, typer.Option("--verify", help="check every byte of an artifact")] = False,
) -> None:
    """Say what an artifact holds, or what a data file would be read as."""
    from paydirt.inspect import describe

    for line in describe(path, reading, cache, verify):
        out_console.print(line, markup=False, soft_wrap=True)
    opened.clear()  # a data file's table is among the lines


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="directory to write")],
    seed: Annotated[int, typer.Option(help="seed of the world")] = 0,
) -> None:
    """Write the built-in world: pool, two targets, true labels, base model and a study recipe."""
    from paydirt.demo import prepare_world

    out_console.print(f"wrote {prepare_world(out, seed)}", markup=False, soft_wrap=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="directory to write")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="seed of the world")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="two fractions and one seed: a minute instead of ten")] = False,
) -> None:
    """Run every method on the built-in world and write a report."""
    from paydirt.demo import run_demo

    _finish_study(run_demo(out, seed, quick))


@app.command()
def methods() -> None:
    """Every scoring method: what it is, what it costs, when to use it. P parameters, T pool tokens."""
    from paydirt.scorers.base import methods_markdown

    out_console.print(methods_markdown(), markup=False, soft_wrap=True)


def _verify(wanted: bool) -> None:
    if wanted:
        os.environ[VERIFY] = "1"  # workers read it too


def _version(show: bool) -> None:
    if show:
        typer.echo(f"paydirt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of a failure; goes with any verb")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", callback=_verify, help="before the verb: check every byte of the artifacts it opens"),
    ] = False,
) -> None:
    """Choose fine-tuning data under one budget for selecting and training together."""
    if context.invoked_subcommand not in ("train", "run"):
        refuse_launcher(f"paydirt {context.invoked_subcommand}")


def main() -> None:
    """Entry point of the `paydirt` command."""
    _quiet_libraries()
    os.environ.pop(VERIFY, None)
    guarded(_register)
    debug = "--debug" in sys.argv  # before or after the verb, as it comes to mind
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        guarded(app, debug)
    finally:
        say_pools()


def _register() -> None:
    _add_score_commands()
    _add_train_command()
    cli_analysis.register(app)
    cli_data.register(app)
    cli_evaluate.register(app)


def _quiet_libraries() -> None:
    """Keep other libraries' bars and notices out of our output; our own are shown."""
    import os
    import warnings

    warnings.simplefilter("ignore", FutureWarning)  # notices of libraries to their callers' authors
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")  # the same in workers
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


if __name__ == "__main__":
    main()
