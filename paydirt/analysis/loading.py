"""Read results tables of any origin into `Results`: parquet, CSV, JSON lines; other spellings, other scales.

Other studies name and scale things differently. `ALIASES` maps common spellings; percents become fractions, billions
become parameters, a metric that is better when lower has its sign turned, rows of several pools are kept apart. What is
missing is filled from what is there by `paydirt.analysis.completion`. Whatever is changed is noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from paydirt.analysis.completion import complete, examples_in
from paydirt.analysis.names import fold, lower_is_better, one_spelling
from paydirt.analysis.overlap import Overlap, overlaps_from_table
from paydirt.analysis.results import ZERO_SHOT, Results, concat
from paydirt.data.documents import read_json, read_jsonl
from paydirt.data.lines import BadRecord, Row

# canonical column -> (other spelling, factor)
ALIASES: dict[str, tuple[tuple[str, float], ...]] = {
    "task": (("target", 1), ("benchmark", 1), ("dataset", 1)),
    "model": (("train_model", 1), ("base_model", 1), ("model_name", 1)),
    "method": (("scorer", 1), ("selector", 1), ("strategy", 1), ("data_selection_method", 1)),
    "train_params": (
        ("train_params_b", 1e9),
        ("params", 1),
        ("parameters", 1),
        ("params_b", 1e9),
        ("model_size_b", 1e9),
    ),
    "selector_params": (("selector_params_b", 1e9),),
    "fraction": (("percent", 0.01), ("percent_selected", 0.01), ("percentage", 0.01), ("pct", 0.01)),
    "n_examples": (
        ("examples", 1),
        ("budget_examples", 1),
        ("num_examples", 1),
        ("num_samples", 1),
        ("n_samples", 1),
        ("samples", 1),
        ("n", 1),
        ("k", 1),
        ("size", 1),
    ),
    "tokens": (("train_tokens", 1), ("budget_tokens", 1), ("n_tokens", 1), ("num_tokens", 1)),
    "total_flops": (("flops", 1), ("cost", 1), ("budget_flops", 1), ("compute", 1)),
    "training_flops": (("train_flops", 1),),
    "selection_flops": (("select_flops", 1), ("scoring_flops", 1)),
    "score": (("accuracy", 1), ("performance", 1), ("true_metric", 1), ("value", 1), ("result", 1)),
    "seed": (("random_seed", 1), ("run", 1)),
    "pool_examples": (("pool_size", 1), ("pool_n", 1)),
    "pool_tokens": (),
}
# What a folder is searched for, in order; the last are the published tables under their original names.
RESULT_FILES = ("results.parquet", "results.jsonl", "results.csv", "ccds_fit_points.csv")
OVERLAP_FILES = ("overlap.parquet", "overlap.csv", "ccds_overlap.csv")
ZERO_SHOT_NAMES = {"zeroshot", "base", "basemodel", "untuned", "none"}  # folded


def load_results(
    *paths: str | Path,
    pool_tokens: float | None = None,
    pool_examples: float | None = None,
    tokens_per_example: float | None = None,
) -> Results:
    """Read one or several files (or run directories with a `results.parquet`) into one completed table.

    Raises ValueError naming the file when it is missing, unreadable or lacks a score.
    """
    if not paths:
        raise ValueError("give at least one results file")
    parts = [from_table(read_table(Path(p)), where=str(p)) for p in paths]
    return complete(parts[0] if len(parts) == 1 else concat(parts), pool_tokens, pool_examples, tokens_per_example)


def read_table(path: Path) -> pa.Table:
    """The file's rows as they stand; form by ending (.parquet, .csv, .tsv, .jsonl, .json, and .gz of the text forms)."""
    if path.is_dir():
        found = [path / name for name in RESULT_FILES if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path} holds none of {', '.join(RESULT_FILES)}")
        path = found[0]
    if not path.is_file():
        raise ValueError(f"no results file at {path}")
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return pyarrow.parquet.read_table(path)
        if name.endswith((".jsonl", ".ndjson")):
            return _table(path, read_jsonl(str(path)))
        if name.endswith((".csv", ".tsv")):
            options = pyarrow.csv.ParseOptions(delimiter="\t" if name.endswith(".tsv") else ",")
            return pyarrow.csv.read_csv(path, parse_options=options)
        if name.endswith(".json"):
            return _table(path, read_json(str(path)))
    except (pa.ArrowException, OSError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a results table: {error}") from error
    raise ValueError(f"{path}: unknown ending; use .parquet, .csv, .tsv, .jsonl or .json")


def _table(path: Path, rows: Iterable[Row]) -> pa.Table:
    """Records as a table; a column is in it if any has it. (Arrow's own reader dies of a line that is no object.)"""
    records: list[dict[str, Any]] = []
    for row in rows:
        if isinstance(row.record, BadRecord):
            raise ValueError(f"line {row.line}: {row.record}")
        records.append(row.record)
    names = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: [record.get(name) for record in records] for name in names})


def from_table(table: pa.Table, where: str = "results") -> Results:
    """Rename and rescale a table's columns to the schema; nothing is filled in yet.

    Raises ValueError naming row and value for a share outside (0, 1] (percents are read as such from a column of that name;
    whole multiples of 100 percent are further epochs), and for a table without scores.
    """
    given = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in table.column_names}
    columns: dict[str, Any] = {}
    notes: list[str] = []
    for canonical, others in ALIASES.items():
        for spelling, factor in ((canonical, 1.0), *others):
            if spelling in given:
                column = table.column(given[spelling])
                if factor != 1:
                    column = pc.multiply(column.cast(pa.float64()), pa.scalar(float(factor)))
                columns[canonical] = column
                if spelling != canonical:
                    notes.append(f"{where}: column {given[spelling]!r} read as {canonical}")
                break
    for name in ("metric", "model_id"):
        if name in given:
            columns[name] = table.column(given[name])
    if "model" not in columns and "train_params" in columns:
        sizes = columns["train_params"].cast(pa.float64()).to_pylist()
        columns["model"] = pa.array([None if v is None else f"{v / 1e9:.4g}B" for v in sizes], pa.string())
        notes.append(f"{where}: no model names, so models are told apart by their parameters")
    if "score" not in columns:
        raise ValueError(f"{where} has no score column; it has {', '.join(table.column_names)}")
    _turn(columns, table, given, where, notes)
    _pools(columns, table, given, where, notes)
    for name in ("task", "model", "method"):
        if name in columns:
            columns[name] = _respelt(columns[name], name, where, notes)
    if "fraction" in columns:
        _check_shares(columns, "fraction" in given, where, notes)
    return Results.from_table(pa.table(columns), notes)


def _text(column: Any) -> list[str]:
    return ["" if v is None else str(v) for v in column.to_pylist()]


def _mapped(column: Any, change: Callable[[str], str]) -> pa.Array:
    """A text column with each distinct value changed; a million rows have few values."""
    encoded = column.cast(pa.string()).fill_null("")
    encoded = (encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    values = pa.array([change(v) for v in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)


def _respelt(column: Any, name: str, where: str, notes: list[str]) -> pa.Array:
    """One spelling for names that differ by case or separators alone; every name of the untuned model is zero-shot."""
    known = pc.unique(column.cast(pa.string()).fill_null("")).to_pylist()
    first = one_spelling(known)
    if name == "method":
        first = {k: ZERO_SHOT if fold(k) in ZERO_SHOT_NAMES else v for k, v in first.items()}
    merged = [f"{k!r} as {v!r}" for k, v in first.items() if k.strip() != v and v != ZERO_SHOT]
    if merged:
        notes.append(f"{where}: {name} {', '.join(merged)}")
    return _mapped(column, first.__getitem__)


def _turn(columns: dict[str, Any], table: pa.Table, given: dict[str, str], where: str, notes: list[str]) -> None:
    """Scores of metrics that are better when lower get a minus; a column `higher_is_better` decides before the name."""
    down = None
    if "higher_is_better" in given:
        said = _text(table.column(given["higher_is_better"]))
        down = [s.strip().lower() in ("false", "0", "no") for s in said]
        names = ["metric"]
    elif "metric" in columns:
        metrics = _text(columns["metric"])
        lower = {m: lower_is_better(m) for m in set(metrics)}
        down, names = [lower[m] for m in metrics], sorted(m for m, is_low in lower.items() if is_low)
    if down and any(down):
        try:
            score = columns["score"].cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"{where}: column 'score' holds something that is not a number: {error}") from error
        columns["score"] = pc.if_else(pa.array(down), pc.negate(score), score)
        notes.append(
            f"{where}: {', '.join(names)} is better when lower: scores of {sum(down)} rows are shown as minus it"
        )


def _pools(columns: dict[str, Any], table: pa.Table, given: dict[str, str], where: str, notes: list[str]) -> None:
    """The column `pool`: a number is the pool's examples; of several names each becomes a model name of its own."""
    if "pool" not in given:
        return
    column = table.column(given["pool"])
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        columns.setdefault("pool_examples", column)
        notes.append(f"{where}: column {given['pool']!r} read as pool_examples")
        return
    pools = _text(column)
    sizes = {p: examples_in(p) for p in set(pools)}
    if "pool_examples" not in columns and any(v == v for v in sizes.values()):
        columns["pool_examples"] = pa.array([sizes[p] for p in pools], pa.float64())
        notes.append(f"{where}: pool_examples read from the pools' names")
    if len({p for p in pools if p}) > 1 and "model" in columns:
        models = _text(columns["model"])
        columns["model"] = pa.array([f"{m} [{p}]" if p else m for m, p in zip(models, pools)], pa.string())
        notes.append(f"{where}: several pools; rows are kept apart as 'model [pool]'")


def _check_shares(columns: dict[str, Any], as_share: bool, where: str, notes: list[str]) -> None:
    try:
        values = columns["fraction"].cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{where}: column 'fraction' holds something that is not a number: {error}") from error
    epochs = 0
    for row, value in enumerate(values):
        if value is None or value != value or 0 <= value <= 1 + 1e-9:
            continue
        if not as_share and value <= 10 and abs(value - round(value)) < 1e-9:
            epochs += 1
            continue
        shown = f"fraction {value:g}" if as_share else f"percent {100 * value:g}"
        raise ValueError(
            f"{where}: row {row + 1} has {shown}; a share of the pool lies in (0, 1]. For percents name the column "
            f"'percent'; whole multiples of 100 percent are further epochs"
        )
    if epochs:
        notes.append(f"{where}: {epochs} rows above 100 percent are read as further epochs over the whole pool")


def load_overlaps(folder: str | Path) -> list[Overlap]:
    """The overlaps stored beside a study's results, none where there is no such file.

    Columns percent_selected, method_a, method_b, overlap_percent, as in the published table.
    """
    path = next((Path(folder) / name for name in OVERLAP_FILES if (Path(folder) / name).is_file()), None)
    return overlaps_from_table(read_table(path)) if path else []
