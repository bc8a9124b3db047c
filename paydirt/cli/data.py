"""Commands that make data sets of data sets: decontaminate, dedup, split, export, imports; and a tiny model to try with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from paydirt.cli.flags import (
    Address,
    Cache,
    Execution,
    Force,
    Out,
    ReferencesColumns,
    ReferencesSplit,
    Seed,
    Workers,
    workspace,
)
from paydirt.cli.flags import references_columns as named
from paydirt.cli.plan import plannable
from paydirt.cli.pool import PoolFiles, pool_config, reads_pool
from paydirt.cli.shown import console, say_artifact
from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("decontaminate")(plannable(reads_pool(decontaminate)))
    app.command("dedup")(plannable(reads_pool(dedup)))
    app.command("split")(plannable(reads_pool(split)))
    app.command("export")(plannable(export))
    app.command("import-scores")(plannable(reads_pool(import_scores)))
    app.command("import-gradients")(plannable(reads_pool(import_gradients)))
    app.command("tiny")(plannable(reads_pool(tiny)))


def decontaminate(
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    against: Annotated[str, typer.Option(help="benchmarks whose items and references to look for: a,b")] = (
        "mmlu,bbh,tydiqa,ifeval"
    ),
    data: Annotated[str | None, typer.Option(help="folder in the LESS layout that holds their files")] = None,
    references: Annotated[list[str] | None, typer.Option(help="file of further examples to look for; repeat")] = None,
    references_split: ReferencesSplit = "train",
    references_columns: ReferencesColumns = None,
    ngram: Annotated[int, typer.Option(help="words in a row that make an overlap")] = 13,
    near: Annotated[float, typer.Option(help="Jaccard similarity that makes a near-duplicate")] = 0.8,
    common: Annotated[int, typer.Option(help="a run in more items than this is boilerplate")] = 5,
    shown: Annotated[int, typer.Option(help="matches to print")] = 5,
    cache: Cache = None,
    force: Force = False,
    workers: Workers = None,
    execution: Execution = None,
    address: Address = None,
) -> None:
    """Leave out of a pool what holds benchmark items or references; write the clean pool and every match."""
    from paydirt.stages_data import DecontaminateStage, run_decontaminate

    names = [name.strip() for name in against.split(",") if name.strip()] if data or not references else []
    values = {
        "pool": pool_config(pool, reading).to_dict(),
        "settings": {"ngram": ngram, "near": near, "common": common},
        "against": names,
        "data": data,
        "references": references or [],
        "references_split": references_split,
        "references_columns": named(references_columns),
    }
    stage = parse(DecontaminateStage, values, where="decontaminate")
    made = run_decontaminate(stage, out, workspace(cache, force, workers, None, execution, address))
    say_artifact(made)
    show_matches(made, shown)


def show_matches(artifact: Artifact, shown: int) -> None:
    """The counts as a table, and the first matches with both texts."""
    table = Table(title="left out", title_justify="left")
    table.add_column("items in source")
    table.add_column("examples", justify="right")
    for name, count in artifact.notes["by_benchmark_and_source"].items():
        table.add_row(name, str(count))
    console.print(table)
    with open(artifact.path / "matches.jsonl", encoding="utf-8") as handle:
        for line, _ in zip(handle, range(shown)):
            match = json.loads(line)
            how = match["shared"] or f"similarity {match['similarity']}"
            console.print(f"{match['kind']}: {match['id']} and {match['item']}: {how}", markup=False, soft_wrap=True)
            for side in ("example_text", "item_text"):
                console.print(f"    {' '.join(match[side].split())[:300]}", markup=False, soft_wrap=True)


def dedup(
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    threshold: Annotated[float, typer.Option(help="Jaccard similarity that makes a near-duplicate")] = 0.8,
    ngram: Annotated[int, typer.Option(help="words in an n-gram")] = 5,
    part: Annotated[str, typer.Option(help="compare full conversations, or prompts")] = "full",
    cache: Cache = None,
    force: Force = False,
    workers: Workers = None,
    execution: Execution = None,
    address: Address = None,
) -> None:
    """Leave near-duplicates out of a pool; write the pool that stays and what was removed for what."""
    from paydirt.stages_data import DedupStage, run_dedup

    values = {"pool": pool_config(pool, reading).to_dict(), "threshold": threshold, "ngram": ngram, "part": part}
    stage = parse(DedupStage, values, where="dedup")
    say_artifact(run_dedup(stage, out, workspace(cache, force, workers, None, execution, address)))


def split(
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    points: Annotated[float, typer.Option(help="training points: a count, or a share below 1")] = 0.5,
    source: Annotated[str | None, typer.Option(help="the source to split; default: all together")] = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Split a source into training points for a predictor and the pool to select from."""
    from paydirt.stages_data import SplitStage, run_split

    values = {"pool": pool_config(pool, reading).to_dict(), "points": points, "source": source, "seed": seed}
    say_artifact(run_split(parse(SplitStage, values, where="split"), out, workspace(cache, force)))


def export(
    selection: Annotated[Path, typer.Argument(help="directory of a finished selection")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="file name; default: as the seeds name it")] = None,
    weight: Annotated[
        float | None, typer.Option(help="share in a mixture with the other exports there, relative to theirs (1)")
    ] = None,
    turns: Annotated[
        str, typer.Option(help="turns in an order that trainers refuse: repair (counted), refuse")
    ] = "repair",
    study: Annotated[
        Path | None, typer.Option(help="study that says what was gained over random data; default: the selection's own")
    ] = None,
    to_hub: Annotated[str | None, typer.Option(help="upload it as this data set, ORG/NAME, private")] = None,
    public: Annotated[bool, typer.Option("--public", help="with --to-hub: for everybody to see")] = False,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Add a selection to a folder for TRL, axolotl, LLaMA-Factory and open-instruct, with a receipt of what it is."""
    from paydirt.interop.export import export as run

    if public and to_hub is None:
        raise ValueError("--public says who may see an upload; give --to-hub ORG/NAME, or leave it out")
    if turns not in ("repair", "refuse"):
        raise ValueError(f"--turns {turns}: expected repair or refuse")
    how: Literal["repair", "refuse"] = "refuse" if turns == "refuse" else "repair"
    made = run(selection, out, name, cache, "anything" if force else "nothing", weight, how, study)
    say_artifact(made)
    console.print(f"  receipt: {made.path / 'README.md'}", markup=False, soft_wrap=True)
    if to_hub:
        from paydirt.interop.hub import push

        console.print(f"uploaded to {push(made.path, to_hub, public)}", markup=False, soft_wrap=True)


def import_scores(
    folder: Annotated[
        Path, typer.Argument(help="folder with <source>_<kind>_score.pt, or CCDS's one file for all sources")
    ],
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    task: Annotated[str, typer.Option(help="what the scores were made for: names the target")] = "published",
    kind: Annotated[str | None, typer.Option(help="influence, bm25, ...: where the folder holds several")] = None,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Turn published score files into scores of ours, for `paydirt select`."""
    from paydirt.interop.published import ImportStage, run_import

    values = {"pool": pool_config(pool, reading).to_dict(), "folder": str(folder), "task": task, "kind": kind}
    say_artifact(run_import(parse(ImportStage, values, where="import-scores"), out, workspace(cache, force)))


def import_gradients(
    folder: Annotated[Path, typer.Argument(help="published folder dim<k> with all_orig.pt")],
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    checkpoint: Annotated[str, typer.Option(help="which checkpoint the gradients are of")],
    direction: Annotated[str, typer.Option(help="adam or sgd")] = "adam",
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, float32, int8")] = "float16",
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Turn a published gradient folder into a gradient store of ours; the pool is the one source it was made of."""
    from paydirt.interop.gradient_folders import GradientsStage, run_gradients

    values = {"folder": str(folder), "checkpoint": checkpoint, "direction": direction, "dtype": dtype}
    stage = parse(GradientsStage, {"pool": pool_config(pool, reading).to_dict(), **values}, where="import-gradients")
    say_artifact(run_gradients(stage, out, workspace(cache, force)))


def tiny(
    pool: PoolFiles,
    out: Out,
    reading: dict[str, Any],
    seed: Seed = 0,
    layers: Annotated[int, typer.Option(help="layers")] = 2,
    hidden: Annotated[int, typer.Option(help="width")] = 32,
    vocabulary: Annotated[int, typer.Option(help="tokens that the tokenizer knows")] = 2048,
    steps: Annotated[int, typer.Option(help="of pre-training on the pool, 4,096 tokens each; 0: random weights")] = 0,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Write a tiny Llama with a tokenizer learnt on the pool, to try a recipe without any download."""
    from paydirt.stages_data import TinyStage, run_tiny

    values = {"layers": layers, "hidden": hidden, "vocabulary": vocabulary, "steps": steps, "seed": seed}
    stage = parse(TinyStage, {"pool": pool_config(pool, reading).to_dict(), **values}, where="tiny")
    say_artifact(run_tiny(stage, out, workspace(cache, force)))
