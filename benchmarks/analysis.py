"""All analysis on a results table of a million rows, and the advisor's back-test: seconds, regret, coverage.

    python benchmarks/analysis.py                 # 20 panels, 8 methods, 6 fractions, about a million rows
    python benchmarks/analysis.py --panels 1000   # the same million rows in many small panels
    python benchmarks/analysis.py --backtest      # both published studies, panels, models, tasks and studies held out
    python benchmarks/analysis.py --spend         # `paydirt spend` replayed on them, with the levels that ship

The table is written to Parquet first, so that loading is part of the time. On tables with many panels the per-panel
steps (front, break-even) run on all of them. Issue 5's aim is 10 s in all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from paydirt.analysis.advisor import advise
from paydirt.analysis.breakeven import crossing
from paydirt.analysis.front import front
from paydirt.analysis.law import fit
from paydirt.analysis.loading import load_results
from paydirt.analysis.results import panels
from paydirt.analysis.strategies import Job

T = TypeVar("T")
METHODS = ("random", "length", "bm25", "embed", "ppl", "rds", "less", "learned")
FRACTIONS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def synthetic(panel_count: int, rows: int, seed: int = 0) -> pa.Table:
    """About `rows` runs over `panel_count` panels that follow the law with noise; two selection costs above 0."""
    rng = np.random.default_rng(seed)
    seeds = max(rows // (panel_count * len(METHODS) * len(FRACTIONS)), 1)
    p, m, f, s = (a.ravel() for a in np.meshgrid(np.arange(panel_count), np.arange(len(METHODS)), np.array(FRACTIONS),
                                                 np.arange(seeds), indexing="ij"))  # fmt: skip
    rate, gap = rng.uniform(2, 20, (panel_count, len(METHODS))), rng.uniform(2, 12, panel_count)
    score = 60 - gap[p] * np.exp(-rate[p, m] * f) / (1 - np.exp(-rate[p, m])) + rng.normal(0, 0.4, len(p))
    score[f == 1.0] = 60 + rng.normal(0, 0.4, int((f == 1.0).sum()))
    training, selection = f * 4e18, np.where(m == 4, 1.3e18, np.where(m >= 6, 8e18, 0.0))
    return pa.table({
        "task": pa.DictionaryArray.from_arrays(p // 4, [f"task{i}" for i in range(panel_count // 4 + 1)]),
        "model": pa.DictionaryArray.from_arrays(p % 4, [f"model{i}" for i in range(4)]),
        "method": pa.DictionaryArray.from_arrays(m, list(METHODS)), "train_params": np.full(len(p), 7e9),
        "selector_params": np.full(len(p), 7e9), "fraction": f, "tokens": f * 1e8, "selection_flops": selection,
        "training_flops": training, "total_flops": training + selection, "score": score, "seed": s,
    })  # fmt: skip


def timed(what: str, work: Callable[[], T], total: list[float]) -> T:
    """Run and print wall and processor seconds; the latter is what a machine without other work would need."""
    start, busy = time.perf_counter(), time.process_time()
    result = work()
    total.append(time.perf_counter() - start)
    print(f"{what:<34} {total[-1]:6.2f} s wall {time.process_time() - busy:6.2f} s processor")
    return result


def million(panel_count: int, rows: int) -> None:
    """Time each step of the analysis on one table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.parquet"
        pyarrow.parquet.write_table(synthetic(panel_count, rows), path)
        total: list[float] = []
        busy = time.process_time()
        results = timed("load and complete", lambda: load_results(path), total)
        print(f"{len(results):,} rows, {panel_count} panels")
        study = timed("gather into panels", lambda: panels(results), total)
        timed("law, training variant", lambda: fit(results, "training"), total)
        timed("law, published variant", lambda: fit(results, "published"), total)
        timed("fronts", lambda: [front(p, draws=100) for p in study], total)
        timed("break-even (line)", lambda: [crossing(p, "less", "line", draws=100) for p in study], total)
        job = Job(7e9, 1e8, 285, task="task0", model="model0", methods=METHODS)
        timed("advice", lambda: advise(job, 2e18, results=results, draws=1000), total)
        print(f"{'all':<34} {sum(total):6.2f} s wall {time.process_time() - busy:6.2f} s processor (aim: 10 s)")


def replays() -> None:
    """Print how `spend` does on finished panels against its rivals."""
    from paydirt.analysis.backtest_tables import HOLD_TEXT, STUDIES, spend_table

    for study in ("targeted", "ccds"):
        for hold in ("model", "task"):
            print(
                f"\n{STUDIES[study]}, {HOLD_TEXT[hold]} held out\n\n{spend_table(hold, study, shipped=True)}",
                flush=True,
            )


def backtests() -> None:
    """Print the tables of docs/advisor.md."""
    from paydirt.analysis.backtest_tables import tables

    print(tables())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--panels", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--backtest", action="store_true")
    parser.add_argument("--spend", action="store_true")
    given = parser.parse_args()
    if given.spend:
        replays()
    elif given.backtest:
        backtests()
    else:
        million(given.panels, given.rows)
