"""Read results tables of any origin into `Results`: parquet, CSV, JSON lines; other spellings; missing budgets.

Other studies name and scale things differently. `ALIASES` maps common spellings; percents become fractions, billions
become parameters. What is missing is filled from what is there, each filling noted: training FLOPs from tokens (6NT),
tokens from examples, fractions from tokens, examples or FLOPs relative to the pool, or to the panel's largest run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from paydirt.analysis.overlap import Overlap, overlaps_from_table
from paydirt.analysis.results import ZERO_SHOT, Floats, Results, concat
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
    "n_examples": (("examples", 1), ("budget_examples", 1), ("num_examples", 1), ("n", 1), ("k", 1), ("size", 1)),
    "tokens": (("train_tokens", 1), ("budget_tokens", 1), ("n_tokens", 1), ("num_tokens", 1)),
    "total_flops": (("flops", 1), ("cost", 1), ("budget_flops", 1), ("compute", 1)),
    "training_flops": (("train_flops", 1),),
    "selection_flops": (("select_flops", 1), ("scoring_flops", 1)),
    "score": (("accuracy", 1), ("performance", 1), ("value", 1), ("result", 1)),
    "seed": (("random_seed", 1), ("run", 1)),
}
# What a folder is searched for, in order; the last are the published tables under their original names.
RESULT_FILES = ("results.parquet", "results.jsonl", "results.csv", "ccds_fit_points.csv")
OVERLAP_FILES = ("overlap.parquet", "overlap.csv", "ccds_overlap.csv")
ZERO_SHOT_NAMES = {"zero-shot", "zero_shot", "zeroshot", "zero shot", "base", "base model", "untuned", "none"}


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
    """Rename and rescale a table's columns to the schema; nothing is filled in yet."""
    given = {name.strip().lower(): name for name in table.column_names}
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
    results = Results.from_table(pa.table(columns), notes)
    levels = tuple(ZERO_SHOT if m.strip().lower() in ZERO_SHOT_NAMES else m for m in results.levels["method"])
    if levels != results.levels["method"]:
        named = np.array(levels, dtype=object)[results.codes["method"]]
        table = results.table().set_column(2, "method", pa.array(named, pa.string()))
        results = Results.from_table(table, results.notes)
    return results


def complete(
    results: Results,
    pool_tokens: float | None = None,
    pool_examples: float | None = None,
    tokens_per_example: float | None = None,
) -> Results:
    """Fill in missing budgets and costs from what is known, with a note for each kind of filling."""
    n = {k: v.copy() for k, v in results.numbers.items()}
    notes = list(results.notes)
    if "" in results.levels["method"]:
        raise ValueError("some results have no method; give a column 'method'")
    zero = results.text("method") == ZERO_SHOT if len(results) else np.zeros(0, dtype=bool)
    for name in ("fraction", "n_examples", "tokens", "selection_flops", "training_flops", "total_flops"):
        n[name][zero] = 0.0

    def fill(name: str, value: Floats, why: str) -> None:
        rows = np.isnan(n[name]) & np.isfinite(value)
        if rows.any():
            n[name][rows] = value[rows]
            notes.append(f"{name} of {int(rows.sum())} rows: {why}")

    named = np.array([_params_in(m) for m in results.levels["model"]])[results.codes["model"]]
    fill("train_params", named, "read from the model's name")
    if tokens_per_example is None and pool_tokens and pool_examples:
        tokens_per_example = pool_tokens / pool_examples
    if tokens_per_example:
        fill("tokens", n["n_examples"] * tokens_per_example, f"{tokens_per_example:g} tokens an example")
    if pool_tokens:
        fill("tokens", n["fraction"] * pool_tokens, "fraction of the pool's tokens")
    fill("training_flops", n["total_flops"] - n["selection_flops"], "total less selection")
    if pool_tokens:
        fill("fraction", n["tokens"] / pool_tokens, "tokens over the pool's")
    if pool_examples:
        fill("fraction", n["n_examples"] / pool_examples, "examples over the pool's")
    panel = results.codes["task"] * len(results.levels["model"]) + results.codes["model"]
    for name in ("tokens", "n_examples"):
        fill("fraction", n[name] / _largest(n[name], panel), f"{name} over the panel's largest run (pool size unknown)")
    # Where only totals are known, the cheapest total per fraction in the panel is a run that selected for nothing.
    rate = np.where(n["fraction"] > 0, n["total_flops"] / np.where(n["fraction"] > 0, n["fraction"], 1.0), np.nan)
    fill("training_flops", n["fraction"] / _largest(1 / rate, panel), "fraction of the panel's cheapest full pass")
    fill("training_flops", 6 * n["train_params"] * n["tokens"], "6NT from tokens")
    for name in ("training_flops", "total_flops"):
        fill("fraction", n[name] / _largest(n[name], panel), f"{name} over the panel's largest run (pool size unknown)")
    if np.isnan(n["fraction"]).any():
        raise ValueError("some results have no budget: give fraction, tokens, n_examples or FLOPs")
    fill("training_flops", n["total_flops"], "equal to the total: no selection cost given")
    if not np.isfinite(n["training_flops"][~zero]).any():
        fill("training_flops", n["fraction"] * 1.0, "unknown; in units of one pass over the pool")
    fill("selection_flops", n["total_flops"] - n["training_flops"], "total less training")
    rounding = np.abs(n["selection_flops"]) < 1e-3 * n["total_flops"]  # what is left of a subtraction of rounded costs
    n["selection_flops"][rounding] = 0.0
    fill("selection_flops", np.zeros(len(results)), "not given, taken as 0")
    fill("total_flops", n["selection_flops"] + n["training_flops"], "selection plus training")
    return Results(results.codes, results.levels, n, tuple(notes))


def _largest(values: Floats, group: Any) -> Floats:
    """Per row, the largest finite value of its group."""
    if not len(values):
        return values
    top = np.full(int(group.max()) + 1, -np.inf)
    np.maximum.at(top, group, np.nan_to_num(values, nan=-np.inf))
    top[top <= 0] = np.nan
    return top[group]


def _params_in(model: str) -> float:
    """Parameters a model's name announces ("Llama-2-7b-hf": 7e9), NaN when it announces none."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", model.lower())
    return float(found[1]) * (1e9 if found[2] == "b" else 1e6) if found else float("nan")


def load_overlaps(folder: str | Path) -> list[Overlap]:
    """The overlaps stored beside a study's results, none where there is no such file.

    Columns percent_selected, method_a, method_b, overlap_percent, as in the published table.
    """
    path = next((Path(folder) / name for name in OVERLAP_FILES if (Path(folder) / name).is_file()), None)
    return overlaps_from_table(read_table(path)) if path else []
