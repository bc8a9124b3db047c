"""Fill in what a results table leaves out: budgets, costs, the pool's size; say what was filled, and refuse what is wrong.

Enters: `Results` as read. Leaves: `Results` with every row placed on its pool (`fraction`) and priced as far as is known.
What cannot be known stays NaN: a selection cost that nobody gave is unknown, never 0, unless the method selects for
nothing. Each kind of filling is a note.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from paydirt.analysis.names import method_name
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Floats, Results

# Methods that read the pool with no model: their selection costs no FLOPs on an accelerator (`paydirt.cost.forms`).
FREE = {"random", "bm25", "length", "dsir"}


def complete(
    results: Results,
    pool_tokens: float | None = None,
    pool_examples: float | None = None,
    tokens_per_example: float | None = None,
) -> Results:
    """Fill in missing budgets and costs from what is known, with a note for each kind of filling.

    `pool_tokens` and `pool_examples` are the pool's where the table does not tell its own. Raises ValueError naming row and
    value for a share outside (0, 1], a negative size or cost, and for rows without method or budget.
    """
    n = {k: v.copy() for k, v in results.numbers.items()}
    notes = list(results.notes)
    if "" in results.levels["method"]:
        raise ValueError("some results have no method; give a column 'method'")
    method = results.text("method")
    zero = method == ZERO_SHOT
    for name in ("fraction", "n_examples", "tokens", "selection_flops", "training_flops", "total_flops"):
        n[name][zero] = 0.0
    _refuse(n, zero)

    def fill(name: str, value: Floats, why: str) -> None:
        rows = np.isnan(n[name]) & np.isfinite(value)
        if rows.any():
            n[name][rows] = value[rows]
            notes.append(f"{name} of {int(rows.sum())} rows: {why}")

    named = np.array([params_in(m) for m in results.levels["model"]])[results.codes["model"]]
    fill("train_params", named, "read from the model's name")
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = np.where((n["fraction"] > 0) & (n["fraction"] <= 1), n["fraction"], np.nan)
        for name, size in (("pool_examples", "n_examples"), ("pool_tokens", "tokens")):
            n[name][np.isnan(n[name])] = (n[size] / whole)[np.isnan(n[name])]
        each = n["tokens"] / np.where(n["n_examples"] > 0, n["n_examples"], np.nan)
    n["pool_examples"][np.isnan(n["pool_examples"])] = pool_examples or np.nan
    n["pool_tokens"][np.isnan(n["pool_tokens"])] = pool_tokens or np.nan
    if tokens_per_example is None and pool_tokens and pool_examples:
        tokens_per_example = pool_tokens / pool_examples
    elif tokens_per_example is None and np.isfinite(each).any():
        tokens_per_example = float(np.nanmedian(each))
    if tokens_per_example:
        fill("tokens", n["n_examples"] * tokens_per_example, f"{tokens_per_example:g} tokens an example")
        fill("pool_tokens", n["pool_examples"] * tokens_per_example, f"{tokens_per_example:g} tokens an example")
        fill("pool_examples", n["pool_tokens"] / tokens_per_example, f"{tokens_per_example:g} tokens an example")
    fill("tokens", n["fraction"] * n["pool_tokens"], "fraction of the pool's tokens")
    fill("training_flops", n["total_flops"] - n["selection_flops"], "total less selection")
    fill("fraction", n["n_examples"] / n["pool_examples"], "examples over the pool's")
    fill("fraction", n["tokens"] / n["pool_tokens"], "tokens over the pool's")
    over = np.flatnonzero(n["fraction"] > 1 + 1e-9)
    over = over[(results.numbers["fraction"][over] != n["fraction"][over])]
    if len(over):
        raise ValueError(
            f"row {over[0] + 1} of the results trains on {n['fraction'][over[0]]:.4g} times the pool that was given; "
            f"give the size of the pool that it was chosen from (column pool_examples or pool_tokens)"
        )
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
    free = zero | np.array([is_free(m) for m in results.levels["method"]])[results.codes["method"]]
    free |= n["fraction"] >= 0.999  # the whole pool: nothing was selected
    fill(
        "training_flops", np.where(free, n["total_flops"], np.nan), "equal to the total: the method selects for nothing"
    )
    if not np.isfinite(n["training_flops"][~zero]).any():
        fill("training_flops", n["fraction"] * 1.0, "unknown; in units of one pass over the pool")
    rest = n["total_flops"] - n["training_flops"]
    rest[np.abs(rest) < 1e-3 * n["total_flops"]] = 0.0  # what is left of a subtraction of rounded costs
    fill("selection_flops", rest, "total less training")
    fill("selection_flops", np.where(free, 0.0, np.nan), "0, the method selects for nothing")
    unknown = np.isnan(n["selection_flops"])
    if unknown.any():
        names = ", ".join(dict.fromkeys(method[unknown]))
        notes.append(f"selection_flops of {int(unknown.sum())} rows ({names}): unknown, not 0; advice prices them by closed "
                     "form, fronts and fits on total cost leave them out")  # fmt: skip
    fill("total_flops", n["selection_flops"] + n["training_flops"], "selection plus training")
    return Results(results.codes, results.levels, n, tuple(notes))


def _refuse(n: dict[str, Floats], zero: np.ndarray) -> None:
    """ValueError for the first number that cannot be: shares outside (0, 1], sizes and costs below 0 or infinite."""
    for name in ("n_examples", "tokens", "selection_flops", "training_flops", "total_flops", "train_params",
                 "selector_params", "pool_examples", "pool_tokens", "fraction"):  # fmt: skip
        bad = np.flatnonzero((n[name] < 0) | np.isinf(n[name]))
        if len(bad):
            raise ValueError(
                f"row {bad[0] + 1} of the results: {name} is {n[name][bad[0]]:g}; give a finite number, not below 0"
            )
    none = np.flatnonzero(~zero & (n["fraction"] == 0))
    if len(none):
        raise ValueError(f"row {none[0] + 1} of the results: fraction is 0; a share of the pool lies in (0, 1], and the "
                         "untuned model's method is called zero-shot")  # fmt: skip


def is_free(method: str) -> bool:
    """Whether a method of this name is known to read the pool with no model."""
    return method_name(method).representation in FREE or method.lower() in CEILINGS


def pool_sizes(results: Results) -> dict[tuple[str, str], tuple[float, float]]:
    """(examples, tokens) of each (task, model) panel's pool, NaN where the table does not tell."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    if not len(results):
        return found
    many = len(results.levels["model"])
    code = results.codes["task"] * many + results.codes["model"]
    for c in np.unique(code):
        rows = code == c
        sizes = [results.numbers[name][rows] for name in ("pool_examples", "pool_tokens")]
        middle = tuple(float(np.median(s[np.isfinite(s)])) if np.isfinite(s).any() else float("nan") for s in sizes)
        found[results.levels["task"][c // many], results.levels["model"][c % many]] = (middle[0], middle[1])
    return found


def _largest(values: Floats, group: Any) -> Floats:
    """Per row, the largest finite value of its group."""
    if not len(values):
        return values
    top = np.full(int(group.max()) + 1, -np.inf)
    np.maximum.at(top, group, np.nan_to_num(values, nan=-np.inf))
    top[top <= 0] = np.nan
    return top[group]


def params_in(model: str) -> float:
    """Parameters a model's name announces ("Llama-2-7b-hf": 7e9), NaN when it announces none."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", model.lower())
    return float(found[1]) * (1e9 if found[2] == "b" else 1e6) if found else float("nan")


def examples_in(pool: str) -> float:
    """Examples a pool's name announces ("tulu-v2-197k": 197e3), NaN when it announces none."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*([km])(?![a-z])", pool.lower())
    return float(found[1]) * (1e3 if found[2] == "k" else 1e6) if found else float("nan")
