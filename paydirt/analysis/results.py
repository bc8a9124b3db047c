"""The results table: one row per trained and evaluated run, and the same rows gathered into curves and panels.

Columns (`TEXT` and `NUMBERS`); a missing number is NaN, a missing text is "":

    task, model, method, metric            names; method "zero-shot" marks the untuned model, fraction 0
    train_params, selector_params          parameters
    fraction                               share of the pool trained on, 0..1; above 1 means further epochs
    n_examples, tokens                     what was trained on
    selection_flops, training_flops, total_flops
    score, seed                            higher is better, any scale
    pool_examples, pool_tokens             the pool that the fraction is a share of
    model_id                               which model a name means, where names are shared

Whatever makes scores incomparable keeps them apart: where one model name stands for several sizes or identities, or a task
was measured in several metrics, the names are lengthened to say which, with a note (`_told_apart`).

A *panel* is one task on one model, as in the published figures; a *curve* is one method (with one selector size) in a
panel; a *cell* is one point of a curve, with the scores of all its seeds. Text is held as integer codes, so that a table
of a million rows groups in about a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TEXT = ("task", "model", "method", "metric", "model_id")
NUMBERS = (
    "train_params", "selector_params", "fraction", "n_examples", "tokens",
    "selection_flops", "training_flops", "total_flops", "score", "seed", "pool_examples", "pool_tokens",
)  # fmt: skip
ZERO_SHOT = "zero-shot"
CEILINGS = {"oracle"}  # selection by true labels: shown in studies, but nothing one could run, so on no front


@dataclass(frozen=True, slots=True)
class Results:
    """Rows of a study. `codes[name]` [N] index into `levels[name]`; `numbers[name]` [N] float64.

    `notes` say what a loader assumed, filled in or dropped; whoever prints an analysis prints them.
    """

    codes: dict[str, Ints]
    levels: dict[str, tuple[str, ...]]
    numbers: dict[str, Floats]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers["score"])

    def text(self, name: str) -> npt.NDArray[np.object_]:
        """Column `name` as strings, [N]."""
        return np.array(self.levels[name], dtype=object)[self.codes[name]] if len(self) else np.array([], dtype=object)

    def where(self, rows: npt.NDArray[Any]) -> Results:
        """The rows of a mask or an index array."""
        return Results(
            {k: v[rows] for k, v in self.codes.items()},
            self.levels,
            {k: v[rows] for k, v in self.numbers.items()},
            self.notes,
        )

    def only(self, **names: str) -> Results:
        """Rows whose text columns equal the given names: `results.only(task="MMLU", method="BM25")`."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in names.items():
            if value not in self.levels[column]:
                raise ValueError(f"no {column} {value!r} in the results; there are {', '.join(self.levels[column])}")
            keep &= self.codes[column] == self.levels[column].index(value)
        return self.where(keep)

    def table(self) -> pa.Table:
        """The same rows as an Arrow table, canonical columns in canonical order."""
        columns: dict[str, Any] = {name: pa.array(self.text(name), pa.string()) for name in TEXT}
        return pa.table(columns | {name: self.numbers[name] for name in NUMBERS})

    @classmethod
    def from_table(cls, table: pa.Table, notes: Iterable[str] = ()) -> Results:
        """From an Arrow table; absent columns become empty, rows without a finite score are dropped and noted."""
        if "score" not in table.column_names:
            raise ValueError(f"a results table needs a column 'score'; this one has {', '.join(table.column_names)}")
        codes: dict[str, Ints] = {}
        levels: dict[str, tuple[str, ...]] = {}
        for name in TEXT:
            codes[name], levels[name] = _encode(table, name)
        numbers = {name: _floats(table, name) for name in NUMBERS}
        results = _told_apart(cls(codes, levels, numbers, tuple(notes)))
        good = np.isfinite(numbers["score"])
        if not good.all():
            dropped = int((~good).sum())
            results = results.where(good)
            results = Results(results.codes, results.levels, results.numbers,
                              (*results.notes, f"{dropped} rows without a finite score were dropped"))  # fmt: skip
        return results

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Results:
        """From dicts, one per run; keys that are not columns are ignored."""
        names = {name for row in rows for name in row}
        columns = {name: pa.array([row.get(name) for row in rows]) for name in (*TEXT, *NUMBERS) if name in names}
        return cls.from_table(pa.table(columns or {"score": pa.array([], pa.float64())}))


def concat(parts: Sequence[Results]) -> Results:
    """One table after another; text levels are merged."""
    tables = [part.table() for part in parts]
    return Results.from_table(pa.concat_tables(tables), [note for part in parts for note in part.notes])


def _told_apart(results: Results) -> Results:
    """The same rows, with names lengthened where one name stands for what must not be averaged.

    Rows that do not say their model's size or identity, or their metric (zero-shot rows, other studies' tables), are of
    the one that the others under their name have, if they have one.
    """
    if not len(results):
        return results
    size = np.nan_to_num(results.numbers["train_params"], nan=0.0)
    parts = [results.codes[name] for name in ("task", "model", "metric", "model_id")]
    _, first, row_kind = np.unique(
        np.stack([*parts, np.unique(size, return_inverse=True)[1]], axis=1),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    row_kind = row_kind.reshape(-1)
    one = results.where(first)  # a row of each kind: names are few, rows are many
    task, model, metric, identity = (one.text(name) for name in ("task", "model", "metric", "model_id"))
    sizes = np.array([f"{s / 1e9:.4g}B" if s > 0 else "" for s in size[first]], dtype=object)
    notes = list(results.notes)
    metric, sizes, identity = _adopted(task, metric), _adopted(model, sizes), _adopted(model, identity)
    task = _lengthened(task, metric, "metrics", "task", notes)
    model = _lengthened(model, sizes, "sizes", "model", notes)
    model = _lengthened(model, np.array([i[:8] for i in identity], dtype=object), "models", "model name", notes)
    if len(notes) == len(results.notes):
        return results
    codes, levels = dict(results.codes), dict(results.levels)
    for name, values in (("task", task), ("model", model)):
        levels[name] = tuple(dict.fromkeys(values))
        at = {value: code for code, value in enumerate(levels[name])}
        codes[name] = np.array([at[value] for value in values], dtype=np.int64)[row_kind]
    return Results(codes, levels, results.numbers, tuple(notes))


def _adopted(name: npt.NDArray[np.object_], value: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """`value` [N], empty ones replaced by the only other value that rows of the same name have."""
    known: dict[str, set[str]] = {}
    for n, v in set(zip(name, value)):
        if v:
            known.setdefault(n, set()).add(v)
    sole = {n: next(iter(values)) for n, values in known.items() if len(values) == 1}
    return np.array([v or sole.get(n, "") for n, v in zip(name, value)], dtype=object)


def _lengthened(
    name: npt.NDArray[np.object_], value: npt.NDArray[np.object_], what: str, kind: str, notes: list[str]
) -> npt.NDArray[np.object_]:
    """`name` [N] with its value in brackets, where rows of one name have several values."""
    values: dict[str, set[str]] = {}
    for n, v in set(zip(name, value)):
        values.setdefault(n, set()).add(v)
    several = {n: sorted(v) for n, v in values.items() if len(v) > 1}
    for n, found in several.items():
        listed = ", ".join(v or "not stated" for v in found)
        notes.append(f"the {kind} {n!r} stands for several {what} ({listed}), which are kept apart")
    return np.array([f"{n} ({v or 'not stated'})" if n in several else n for n, v in zip(name, value)], dtype=object)


def _encode(table: pa.Table, name: str) -> tuple[Ints, tuple[str, ...]]:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64), ("",)
    column = table.column(name).cast(pa.string()).fill_null("").combine_chunks()
    encoded = column.dictionary_encode() if not isinstance(column, pa.DictionaryArray) else column
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks() if encoded.num_chunks != 1 else encoded.chunk(0)
    levels = tuple(encoded.dictionary.to_pylist())
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), levels


def _floats(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    try:
        column = table.column(name).cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"column {name!r} of the results holds something that is not a number: {error}") from error
    return np.asarray(column.to_numpy(), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One method in one panel: F cells in order of `fraction`. Costs are means over seeds; `scores[f]` all seeds."""

    task: str
    model: str
    method: str
    train_params: float
    selector_params: float
    fraction: Floats
    selection_flops: Floats
    training_flops: Floats
    total_flops: Floats
    mean: Floats
    sd: Floats
    seeds: Ints
    scores: tuple[Floats, ...]

    def __len__(self) -> int:
        return len(self.fraction)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One task on one model: its curves by label, and the zero-shot scores where the study has them."""

    task: str
    model: str
    train_params: float
    curves: dict[str, Curve] = field(default_factory=dict)
    zero_shot: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def name(self) -> str:
        return f"{self.task} {self.model}".strip()

    def full_score(self) -> tuple[float, str]:
        """Score after training on everything, and where it comes from.

        The mean over all runs at the largest fraction when that is at least 1 (every method then has the same data);
        else the best mean seen, which `source` says, because a law through it is a guess.
        """
        largest = max((float(c.fraction.max()) for c in self.curves.values() if len(c)), default=0.0)
        if largest >= 0.999:
            runs = [s for c in self.curves.values() for f, s in zip(c.fraction, c.scores) if f >= 0.999 * largest]
            return float(np.concatenate(runs).mean()), "trained on everything"
        means = [c.mean.max() for c in self.curves.values() if len(c)]
        if not means:
            raise ValueError(f"panel {self.name!r} has no trained runs")
        return float(max(means)), "best seen"


def panels(results: Results) -> list[Panel]:
    """Gather rows into panels, sorted by task, parameters and model."""
    found: dict[tuple[str, str], Panel] = {}
    zero: dict[tuple[str, str], list[Floats]] = {}
    for curve in _curves(results):
        key = (curve.task, curve.model)
        if curve.method == ZERO_SHOT:
            zero.setdefault(key, []).extend(curve.scores)
        panel = found.setdefault(key, Panel(curve.task, curve.model, curve.train_params))
        if curve.method != ZERO_SHOT:
            label = curve.method
            if label in panel.curves:  # one method with several selector models: name them apart
                label = f"{curve.method} @{curve.selector_params / 1e9:.3g}B"
            panel.curves[label] = curve
    ready = [
        Panel(p.task, p.model, p.train_params, p.curves, np.concatenate(zero[k]) if k in zero else np.empty(0))
        for k, p in found.items()
    ]
    return sorted(ready, key=lambda p: (p.task, p.train_params if np.isfinite(p.train_params) else 0.0, p.model))


def _curves(results: Results) -> Iterator[Curve]:
    if not len(results):
        return
    n, c = results.numbers, results.codes
    fraction = np.nan_to_num(np.round(n["fraction"], 9), nan=-1.0)
    selector = np.nan_to_num(n["selector_params"], nan=0.0)
    levels, rank = np.unique(selector, return_inverse=True)
    # A method keeps one curve when its selector is only known in some rows.
    group = (c["task"] * len(results.levels["model"]) + c["model"]) * len(results.levels["method"]) + c["method"]
    group = group * len(levels) + rank
    order = np.lexsort((fraction, group))
    g, f = group[order], fraction[order]
    new_cell = np.concatenate(([True], (g[1:] != g[:-1]) | (f[1:] != f[:-1])))
    starts = np.flatnonzero(new_cell)
    counts = np.diff(np.append(starts, len(order)))
    score = n["score"][order]
    mean = np.add.reduceat(score, starts) / counts
    spread = np.add.reduceat((score - np.repeat(mean, counts)) ** 2, starts)
    sd = np.where(counts > 1, np.sqrt(spread / np.maximum(counts - 1, 1)), np.nan)
    costs = {
        k: np.add.reduceat(n[k][order], starts) / counts for k in ("selection_flops", "training_flops", "total_flops")
    }
    first = order[starts]
    ends = np.append(starts[1:], len(order))
    edge = np.concatenate(([True], g[starts][1:] != g[starts][:-1]))
    curve_starts = np.flatnonzero(edge)
    for a, b in zip(curve_starts, np.append(curve_starts[1:], len(starts))):
        row = first[a]
        params = n["train_params"][first[a:b]]
        yield Curve(
            results.levels["task"][c["task"][row]],
            results.levels["model"][c["model"][row]],
            results.levels["method"][c["method"][row]],
            float(params[0]),
            float(n["selector_params"][row]),
            fraction[first[a:b]],
            costs["selection_flops"][a:b],
            costs["training_flops"][a:b],
            costs["total_flops"][a:b],
            mean[a:b],
            sd[a:b],
            counts[a:b].astype(np.int64),
            tuple(score[s:e] for s, e in zip(starts[a:b], ends[a:b])),
        )
