"""Commands that make data sets of data sets: decontaminate, dedup, split, export, imports; and a tiny model to try with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from paydirt.artifacts import Artifact, cache_root
from paydirt.config import parse
from paydirt.data.pool import Pool, PoolConfig
from paydirt.progress import results_console

console = results_console()

PoolFiles = Annotated[list[str], typer.Option("--pool", help="pool file or NAME=FILE; repeat for several sources")]
Out = Annotated[Path, typer.Option(help="directory to write")]
Seed = Annotated[int, typer.Option(help="random seed")]
Cache = Annotated[Path | None, typer.Option(help="where imported pools live; default $PAYDIRT_CACHE")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("decontaminate")(decontaminate)
    app.command("dedup")(dedup)
    app.command("split")(split)
    app.command("export")(export)
    app.command("import-scores")(import_scores)
    app.command("import-gradients")(import_gradients)
    app.command("tiny")(tiny)


def pool_config(files: list[str]) -> PoolConfig:
    """`--pool` values as a pool: all named (NAME=FILE) or none."""
    named = dict(f.split("=", 1) for f in files if "=" in f and not Path(f).exists())
    if named and len(named) < len(files):
        raise ValueError(f"--pool: name all of the files (NAME=FILE) or none; got {', '.join(files)}")
    return PoolConfig(files=named or list(files))


def open_files(files: list[str], cache: Path | None) -> Pool:
    from paydirt.data.pool import open_pool

    return open_pool(pool_config(files), cache or cache_root())


def report(artifact: Artifact) -> None:
    """Say what a command left, or that there was nothing to do."""
    state = "wrote {}" if artifact.fresh else "{} is up to date; nothing was done"
    console.print(state.format(artifact.path), markup=False, soft_wrap=True)
    for key, value in artifact.notes.items():
        if not isinstance(value, dict | list) or len(str(value)) < 200:
            console.print(f"  {key}: {value}", markup=False, soft_wrap=True)


def decontaminate(
    pool: PoolFiles,
    out: Out,
    against: Annotated[str, typer.Option(help="benchmarks whose items and references to look for: a,b")] = (
        "mmlu,bbh,tydiqa,ifeval"
    ),
    data: Annotated[str | None, typer.Option(help="folder in the LESS layout that holds their files")] = None,
    references: Annotated[list[str] | None, typer.Option(help="file of further examples to look for; repeat")] = None,
    ngram: Annotated[int, typer.Option(help="words in a row that make an overlap")] = 13,
    near: Annotated[float, typer.Option(help="Jaccard similarity that makes a near-duplicate")] = 0.8,
    common: Annotated[int, typer.Option(help="a run in more items than this is boilerplate")] = 5,
    shown: Annotated[int, typer.Option(help="matches to print")] = 5,
    cache: Cache = None,
) -> None:
    """Leave out of a pool what holds benchmark items or references; write the clean pool and every match."""
    from paydirt.data.decontaminate import DecontaminationConfig
    from paydirt.data.decontaminate import decontaminate as run
    from paydirt.evaluation.contamination import items_against

    names = [name.strip() for name in against.split(",") if name.strip()] if data or not references else []
    items = items_against(names, data, references or [])
    config = DecontaminationConfig(ngram=ngram, near=near, common=common)
    made = run(open_files(pool, cache), pool_config(pool), items, config, out)
    report(made)
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
    threshold: Annotated[float, typer.Option(help="Jaccard similarity that makes a near-duplicate")] = 0.8,
    ngram: Annotated[int, typer.Option(help="words in an n-gram")] = 5,
    part: Annotated[str, typer.Option(help="compare full conversations, or prompts")] = "full",
    cache: Cache = None,
) -> None:
    """Leave near-duplicates out of a pool; write the pool that stays and what was removed for what."""
    from paydirt.data.dedup import DedupConfig
    from paydirt.data.dedup import dedup as run

    config = parse(DedupConfig, {"threshold": threshold, "ngram": ngram, "part": part}, where="dedup")
    report(run(open_files(pool, cache), pool_config(pool), config, out))


def split(
    pool: PoolFiles,
    out: Out,
    points: Annotated[float, typer.Option(help="training points: a count, or a share below 1")] = 0.5,
    source: Annotated[str | None, typer.Option(help="the source to split; default: all together")] = None,
    seed: Seed = 0,
    cache: Cache = None,
) -> None:
    """Split a source into training points for a predictor and the pool to select from."""
    from paydirt.data.split import SplitConfig
    from paydirt.data.split import split as run

    config = parse(SplitConfig, {"points": points, "source": source, "seed": seed}, where="split")
    report(run(open_files(pool, cache), config, out))


def export(
    selection: Annotated[Path, typer.Argument(help="directory of a finished selection")],
    out: Out,
    name: Annotated[str | None, typer.Option(help="file name; default: as the seeds name it")] = None,
    cache: Cache = None,
) -> None:
    """Write a selection as messages, with entries for LLaMA-Factory and axolotl; TRL takes the file as it is."""
    from paydirt.interop.export import export as run

    report(run(selection, out, name, cache))


def import_scores(
    folder: Annotated[
        Path, typer.Argument(help="folder with <source>_<kind>_score.pt, or CCDS's one file for all sources")
    ],
    pool: PoolFiles,
    out: Out,
    task: Annotated[str, typer.Option(help="what the scores were made for: names the target")] = "published",
    kind: Annotated[str | None, typer.Option(help="influence, bm25, ...: where the folder holds several")] = None,
    cache: Cache = None,
) -> None:
    """Turn published score files into scores of ours, for `paydirt select`."""
    from paydirt.interop import published
    from paydirt.types import Example, Message, Target

    opened = open_files(pool, cache)
    files = published.score_files(folder, list(opened.source_counts()), kind, task)
    # The scores stand for references that are not here; the target only lends its name.
    stand_in = Example(task, (Message("user", task), Message("assistant", task)))
    target = Target(task, (stand_in,), (task,))
    report(published.import_scores(opened, pool_config(pool), files, target, out, cache or cache_root()))


def import_gradients(
    folder: Annotated[Path, typer.Argument(help="published folder dim<k> with all_orig.pt")],
    pool: PoolFiles,
    out: Out,
    checkpoint: Annotated[str, typer.Option(help="which checkpoint the gradients are of")],
    direction: Annotated[str, typer.Option(help="adam or sgd")] = "adam",
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, float32, int8")] = "float16",
    cache: Cache = None,
) -> None:
    """Turn a published gradient folder into a gradient store of ours; the pool is the one source it was made of."""
    from paydirt.interop.published import import_gradients as run

    ids = open_files(pool, cache).ids()
    made = run(folder, ids, out, checkpoint=checkpoint, direction=direction, dtype=dtype)
    console.print(f"wrote {made}: {len(ids)} rows", markup=False, soft_wrap=True)


def tiny(
    pool: PoolFiles,
    out: Out,
    seed: Seed = 0,
    layers: Annotated[int, typer.Option(help="layers")] = 2,
    hidden: Annotated[int, typer.Option(help="width")] = 32,
    vocabulary: Annotated[int, typer.Option(help="tokens that the tokenizer knows")] = 2048,
    steps: Annotated[int, typer.Option(help="of pre-training on the pool, 4,096 tokens each; 0: random weights")] = 0,
    cache: Cache = None,
) -> None:
    """Write a tiny Llama with a tokenizer learnt on the pool, to try a recipe without any download."""
    from paydirt.models.tiny import TinyConfig, tiny_model

    config = TinyConfig(layers=layers, hidden=hidden, vocabulary=vocabulary, steps=steps)
    report(tiny_model(open_files(pool, cache), out, seed, config))
