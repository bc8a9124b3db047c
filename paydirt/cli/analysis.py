"""Commands that read tables and write tables: cost, fit, figures, advise, and doctor. No model is loaded but by doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from paydirt.cli.flags import Set
from paydirt.cli.shown import console
from paydirt.core.units import UNITS, number

if TYPE_CHECKING:
    import pyarrow as pa

COUNTS = ("examples", "n_examples", "tokens", "items", "runs", "points")  # whole, though a table holds them as floats
ResultFiles = Annotated[
    list[str] | None, typer.Option("--results", help="results table (parquet, csv, jsonl) or study directory; repeat")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the command line."""
    for function in (cost, fit, figures, advise, doctor):
        app.command(function.__name__)(function)


def show(table: pa.Table, title: str, columns: list[str] | None = None) -> None:
    """An Arrow table on the terminal, numbers in three or four digits."""
    out = Table(title=title, title_justify="left")
    names = columns or table.column_names
    for name in names:
        numeric = table.num_rows > 0 and isinstance(table[name][0].as_py(), int | float)
        out.add_column(name, justify="right" if numeric else "left")
    for row in table.to_pylist():
        out.add_row(*(_cell(row[name], name) for name in names))
    console.print(out)


def _cell(value: Any, column: str) -> str:
    """A score is told apart by its fourth digit; what costs, by its third."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if not isinstance(value, float):
        return str(value)
    if column in COUNTS:
        return f"{value:,.0f}"
    return number(value) if column.split("_")[-1] in UNITS else f"{value:.4g}"


def write(table: pa.Table, out: Path) -> None:
    """Parquet or CSV by the file's ending; ValueError for any other."""
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        csv.write_csv(table, out)
    elif out.suffix == ".parquet":
        pq.write_table(table, out)
    else:
        raise ValueError(f"{out}: tables are written as .parquet or .csv; change the ending")


def cost(
    method: Annotated[str, typer.Argument(help="a method's name, such as gradient; see `paydirt methods`")],
    model: Annotated[str, typer.Option(help="directory or config.json of the model to tune")],
    pool_tokens: Annotated[float, typer.Option(help="tokens in the pool")],
    pool_examples: Annotated[float | None, typer.Option(help="examples in the pool; or give --seq-len")] = None,
    selector: Annotated[
        str | None, typer.Option(help="directory or config.json of the selector; default: --model")
    ] = None,
    references: Annotated[int, typer.Option(help="reference examples")] = 0,
    reference_tokens: Annotated[
        float | None, typer.Option(help="tokens in the references; default: as long as the pool's examples")
    ] = None,
    subtasks: Annotated[int, typer.Option(help="subtasks of the target")] = 1,
    answer_tokens: Annotated[float | None, typer.Option(help="of the pool's tokens, the supervised ones (ifd)")] = None,
    encoder_params: Annotated[
        float | None, typer.Option(help="parameters of embed's encoder without its tables; default: read from it")
    ] = None,
    fraction: Annotated[str, typer.Option(help="share of the pool to train on: 0.05 or 5%")] = "5%",
    tasks: Annotated[int, typer.Option(help="targets that share one gradient store")] = 1,
    seq_len: Annotated[float | None, typer.Option(help="mean tokens of an example, instead of --pool-examples")] = None,
    lora: Annotated[bool, typer.Option("--lora/--full", help="train LoRA parameters, or all")] = True,
    convention: Annotated[str, typer.Option(help="architectural, 6NT, matmul")] = "architectural",
    hardware: Annotated[str | None, typer.Option(help="a100, h100, ... for hours and money")] = None,
    devices: Annotated[int, typer.Option(help="how many of them")] = 1,
    utilisation: Annotated[float | None, typer.Option(help="share of the peak that is reached, in (0, 1]")] = None,
    settings: Set = None,
) -> None:
    """What selecting and training would cost, before anything runs: the closed form that --dry-run and a study use."""
    from paydirt.api.budget import cost as quoted
    from paydirt.cli.options import with_settings
    from paydirt.cost.methods import ALIASES

    quote = quoted(
        {"name": ALIASES.get(method.lower(), method), **with_settings(None, settings)},
        model=model,
        selector=selector,
        pool_tokens=pool_tokens,
        pool_examples=pool_examples,
        seq_len=seq_len,
        references=references,
        reference_tokens=reference_tokens,
        subtasks=subtasks,
        answer_tokens=answer_tokens,
        encoder_params=encoder_params,
        tasks=tasks,
        fraction=fraction,
        lora=lora,
        convention=convention,
        hardware=hardware,
        devices=devices,
        utilisation=utilisation,
    )
    out = Table(title=f"{quote.method}, {quote.convention}", title_justify="left")
    for name in ("part", "FLOPs", *(["hours", "USD"] if hardware else [])):
        out.add_column(name, justify="left" if name == "part" else "right")
    for part, flops, wall, price in quote.lines:
        extra = [f"{wall:.3g}", "" if price is None else f"{price:.3g}"] if wall is not None else []
        out.add_row(part, number(float(flops)), *extra)
    console.print(out)


def fit(
    results: Annotated[list[str], typer.Argument(help="results tables, study directories, or the word published")],
    variant: Annotated[str, typer.Option(help="published (selection in the cost) or training")] = "training",
    level: Annotated[float, typer.Option(help="level of the bootstrap intervals")] = 0.9,
    out: Annotated[Path | None, typer.Option(help="write the table as .parquet or .csv")] = None,
    pool_tokens: Annotated[float | None, typer.Option(help="tokens in the pool, where the table does not tell")] = None,
    pool_examples: Annotated[float | None, typer.Option(help="examples in the pool, where it does not tell")] = None,
) -> None:
    """Fit the compute-performance law to every curve: P0 and lambda with bootstrap intervals and residuals."""
    from paydirt.analysis.law import fit as fit_law
    from paydirt.analysis.law import fits_table
    from paydirt.analysis.published import results_of

    in_range(pool_tokens=(pool_tokens, 1.0, 1e18), pool_examples=(pool_examples, 1.0, 1e15))
    loaded = results_of(results, pool_tokens, pool_examples)
    fits = fit_law(loaded, variant, level=level)
    if not fits:
        raise ValueError("no curve has the three fractions that a fit needs; run more fractions")
    table = fits_table(fits)
    columns = [
        "task",
        "model",
        "method",
        "p0",
        "p0_low",
        "p0_high",
        "lambda",
        "lambda_low",
        "lambda_high",
        "pbar",
        "rmse",
    ]
    show(table, f"{variant} law, {level:.0%} intervals", columns)
    _notes(loaded.notes)
    if out:
        write(table, out)
        console.print(f"wrote {out}")


def figures(
    results: Annotated[list[str], typer.Argument(help="results tables, study directories, or the word published")],
    out: Annotated[Path, typer.Option(help="folder for the figures, SVG and PNG")],
    variant: Annotated[str, typer.Option(help="law: published or training")] = "published",
) -> None:
    """Draw the paper's six figures from a results table."""
    from paydirt.analysis.published import results_of
    from paydirt.report.figures import draw

    loaded = results_of(results)
    for drawn in draw(loaded, out, overlaps=overlaps_of(results), variant=variant):
        console.print(f"{drawn.name}: {drawn.png or 'not drawn: ' + drawn.missing}", soft_wrap=True)
    _notes(loaded.notes)


def overlaps_of(paths: list[str]) -> list[Any]:
    """Overlap between the rankings of a study's methods; of the paper, its published table."""
    from paydirt.analysis.loading import load_overlaps
    from paydirt.analysis.overlap import overlaps_from_table
    from paydirt.analysis.published import published_overlap
    from paydirt.study.rankings import study_overlaps

    if paths == ["published"]:
        return overlaps_from_table(published_overlap())
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    return [found for folder in folders for found in load_overlaps(folder) or study_overlaps(folder)]


def advise(
    pool_tokens: Annotated[float, typer.Option(help="tokens in the pool")],
    train_params: Annotated[float | None, typer.Option(help="parameters of the model to tune")] = None,
    model_config: Annotated[str | None, typer.Option(help="its config.json, for exact costs")] = None,
    budget: Annotated[float | None, typer.Option(help="FLOPs for selecting and training, a task")] = None,
    hardware: Annotated[str | None, typer.Option(help="budget as hardware: a100, h100, ...")] = None,
    hours: Annotated[float | None, typer.Option(help="budget as hours on that hardware")] = None,
    devices: Annotated[int, typer.Option(help="how many of them")] = 1,
    references: Annotated[
        float | None, typer.Option(help="reference examples of the target; 0 leaves out methods that need them")
    ] = None,
    pool_examples: Annotated[float | None, typer.Option(help="examples in the pool")] = None,
    tasks: Annotated[int, typer.Option(help="targets that share one gradient store")] = 1,
    task: Annotated[str, typer.Option(help="name of the task in the results, such as MMLU")] = "",
    model: Annotated[str, typer.Option(help="name of the model in the results")] = "",
    selector_params: Annotated[list[float] | None, typer.Option(help="selector sizes to try; repeat")] = None,
    results: ResultFiles = None,
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="learn from the published results")
    ] = True,
    lora: Annotated[bool, typer.Option("--lora/--full", help="what training costs: LoRA or all parameters")] = False,
    metric: Annotated[str | None, typer.Option(help="which metric, where the results hold several")] = None,
    seq_len: Annotated[
        float | None, typer.Option(help="positions attended to; default: the pool's mean length")
    ] = None,
    utilisation: Annotated[float | None, typer.Option(help="share of the hardware's peak that is reached")] = None,
    price: Annotated[float | None, typer.Option(help="US dollars an hour and device")] = None,
    level: Annotated[float, typer.Option(help="level of the intervals")] = 0.8,
    out: Annotated[Path | None, typer.Option(help="folder for the picture and the tables")] = None,
) -> None:
    """Say what a budget should buy: method, selector and share of the pool, with honest uncertainty."""
    import paydirt

    in_range(devices=(devices, 1, 1e6), hours=(hours, 1e-6, 1e9), price=(price, 0.0, 1e6), budget=(budget, 1.0, 1e40))
    advice = paydirt.advise(
        pool_tokens=pool_tokens,
        pool_examples=pool_examples,
        train_params=train_params,
        model_config=model_config,
        budget=budget,
        hardware=hardware,
        hours=hours,
        devices=devices,
        references=references,
        tasks=tasks,
        task=task,
        model=model,
        selector_params=selector_params or (),
        results=results,
        published=published,
        lora=lora,
        metric=metric,
        seq_len=seq_len,
        utilisation=utilisation,
        price=price,
        level=level,
    )
    columns = ["strategy", "fraction", "examples", "expected", "low", "high", "p_best", "gain", "total_flops"]
    columns += ["hours", "usd"] if hardware else []
    show(advice.table(), f"budget {advice.budget:.3g} FLOPs a task, {level:.0%} intervals", columns)
    show(advice.budget_table(), "how the answer changes with the budget", ["budget_flops", *columns[:7]])
    console.print(advice.verdict, soft_wrap=True, markup=False)
    console.print(advice.paragraph, soft_wrap=True, markup=False)
    _notes(advice.notes)
    if out:
        from paydirt.report.figures import draw_advice

        write(advice.table(), out / "advice.csv")
        write(advice.budget_table(), out / "budgets.csv")
        console.print(f"wrote {draw_advice(advice, out).png}", soft_wrap=True)


def doctor(
    model: Annotated[
        str | None, typer.Argument(help="model or adapter directory to check gradients on, or an artifact to verify")
    ] = None,
    lora: Annotated[bool, typer.Option("--lora/--full", help="gradients of LoRA, or of all parameters")] = True,
    dtype: Annotated[list[str] | None, typer.Option(help="precisions to try; repeat")] = None,
    attention: Annotated[list[str] | None, typer.Option(help="attention backends to try; repeat")] = None,
) -> None:
    """Say what this machine has; with a model, compare batched per-example gradients with a plain loop.

    With an artifact, compare every byte with what its stage wrote.
    """
    from paydirt.doctor import check_artifact, check_gradients, machine

    for line in machine():
        console.print(line, soft_wrap=True, markup=False)
    if model and (lines := check_artifact(Path(model))):
        for line in lines:
            console.print(line, soft_wrap=True, markup=False)
    elif model:
        for line in check_gradients(model, lora, dtype or ["float32", "bfloat16"], attention or ["eager", "sdpa"]):
            console.print(line, soft_wrap=True, markup=False)


def in_range(**given: tuple[float | None, float, float]) -> None:
    """ValueError naming option, value and range for the first number outside its range; None was not given."""
    for name, (value, low, high) in given.items():
        if value is not None and not low <= value <= high:
            raise ValueError(f"--{name.replace('_', '-')} lies in [{low:g}, {high:g}], not {value:g}")


def _notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
