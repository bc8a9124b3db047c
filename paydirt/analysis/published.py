"""The published results that ship with Paydirt, and the constants of the paper they come from.

`published.csv`: Yin & Rush, "Compute-Constrained Data Selection", ICLR 2025, arXiv 2410.16208: the points behind its
figures 2 to 5, 7 panels (MMLU and BBH at 7B, 13B, 70B; IFEval at 7B), 5 methods, 215 runs, mean score per cell, cost
including selection. `percent` 200 is a second epoch. `score_first_published` is the same run in the first version where
that version had it; two MMLU 7B values differ by 0.1 to 0.2. `published_overlap.csv`: its figure 6 (MMLU).

`targeted.csv`: "A Critical Look at Targeted Instruction Selection", arXiv 2602.14696 (Apache-2.0), a part of its published
result tables: 4 models x 4 tasks x 8 methods x 5 sizes x 3 seeds, and zero-shot; a pool of 197k examples (Tulu v2), two
epochs, about 355 tokens an example; the selector is the train model. It publishes no FLOPs: `targeted` prices runs by the
closed forms, 6NT.
Train models of the first are Llama-2-7B/13B and Llama-3-70B-size models as labelled there; selection always used a 7B model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np
import pyarrow as pa
import pyarrow.csv

from paydirt.analysis.completion import complete
from paydirt.analysis.loading import from_table, load_results
from paydirt.analysis.results import NUMBERS, Results
from paydirt.cost.architecture import Architecture

SOURCE = "Yin & Rush, Compute-Constrained Data Selection, ICLR 2025, arXiv 2410.16208"
TARGETED_SOURCE = "A Critical Look at Targeted Instruction Selection, arXiv 2602.14696"
TARGETED_EXAMPLES, TARGETED_TOKENS, TARGETED_EPOCHS = 197_000, 355.0, 2

POOL_TOKENS = 97.91e6
POOL_EXAMPLES = 270_679
SEQ_LEN = 4096

# Full multi-head attention and 32k words for all three, as the published cost figures count them.
ARCHITECTURES = {
    "7B": Architecture(32, 4096, 11008, 32, 32, 128, 32000, max_sequence=SEQ_LEN, name="Llama-2-7B"),
    "13B": Architecture(40, 5120, 13824, 40, 40, 128, 32000, max_sequence=SEQ_LEN, name="Llama-2-13B"),
    "70B": Architecture(80, 8192, 28672, 64, 64, 128, 32000, max_sequence=SEQ_LEN, name="Llama-2-70B"),
}
C_FULL = {"7B": 4.5931e18, "13B": 8.638e18, "70B": 4.92607e19}
S_PPL = 1.5313e18
S_LESS = 8.2692e18
LESS_FORWARD_PASSES = 5.4  # S_LESS over one forward pass of the pool through the 7B selector

# Asymptotes of the published fits (METHODS section 6). IFEval's is not the score at 100 %, which is 32.53.
PBAR = {
    ("MMLU", "7B"): 47.42, ("MMLU", "13B"): 55.5, ("MMLU", "70B"): 70.05,
    ("BBH", "7B"): 42.19, ("BBH", "13B"): 52.78, ("BBH", "70B"): 71.25,
    ("IFEval", "7B"): 32.93,
}  # fmt: skip
METHODS = ("Random", "BM25", "Embed", "PPL", "LESS")


def results_of(
    paths: Sequence[str | os.PathLike[str]], pool_tokens: float | None = None, pool_examples: float | None = None
) -> Results:
    """Results from files or run directories; `published` and `targeted` alone stand for the tables that ship.

    The pool's size is for tables that do not tell it.
    """
    shipped = {"published": published, "targeted": targeted}
    if len(paths) == 1 and (table := shipped.get(os.fspath(paths[0]))):
        return table()
    return load_results(*[os.fspath(p) for p in paths], pool_tokens=pool_tokens, pool_examples=pool_examples)


@cache
def published() -> Results:
    """The 215 published points in the results schema, costs split into selection and training."""
    table = _read("published.csv").drop_columns(["score_first_published"])
    results = complete(from_table(table, "published.csv"))
    model_based = [m in ("PPL", "LESS") for m in results.text("method")]
    numbers = dict(results.numbers)
    numbers["selector_params"] = numbers["selector_params"].copy()
    numbers["selector_params"][model_based] = 7e9
    numbers["tokens"] = numbers["fraction"] * POOL_TOKENS
    numbers["pool_examples"] = np.full(len(results), float(POOL_EXAMPLES))
    numbers["pool_tokens"] = np.full(len(results), POOL_TOKENS)
    assert set(numbers) == set(NUMBERS)
    return Results(results.codes, results.levels, numbers, (f"published results: {SOURCE}",))


@cache
def targeted() -> Results:
    """The 1,936 published runs of 16 panels in the results schema, three seeds a cell, priced by closed form (6NT)."""
    from paydirt.analysis.strategies import Job, selection_cost

    table = _read("targeted.csv")
    seeds = ("first", "second", "third")
    rows = [
        {**{k: v for k, v in row.items() if k not in seeds}, "score": row[s], "seed": i}
        for row in table.to_pylist() for i, s in enumerate(seeds) if row[s] is not None
    ]  # fmt: skip
    tokens = TARGETED_EXAMPLES * TARGETED_TOKENS
    price: dict[tuple[str, float], float] = {}
    for row in rows:
        key = row["method"], float(row["train_params"])
        if key not in price and row["n_examples"]:
            job = Job(key[1], tokens, 100, pool_examples=TARGETED_EXAMPLES)
            price[key] = selection_cost(job, key[0], key[1], False)
        row["selection_flops"] = price.get(key, 0.0)
        row["training_flops"] = 6 * key[1] * row["n_examples"] * TARGETED_TOKENS * TARGETED_EPOCHS
        row["selector_params"] = key[1] if price.get(key) else None
    results = complete(from_table(pa.Table.from_pylist(rows), "targeted.csv"), tokens, TARGETED_EXAMPLES)
    return Results(results.codes, results.levels, results.numbers, (f"published results: {TARGETED_SOURCE}",))


def published_overlap() -> pa.Table:
    """Figure 6's numbers: percent_selected, method_a, method_b, overlap_percent."""
    return _read("published_overlap.csv")


def _read(name: str) -> pa.Table:
    with resources.files("paydirt.analysis").joinpath(name).open("rb") as file:
        return pyarrow.csv.read_csv(file)
