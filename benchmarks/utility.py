"""What a selection is worth: the score of the model tuned on it, against what selecting cost, with the noise known.

    python benchmarks/utility.py --out runs/utility                     # worlds 0 to 2, about an hour on one core
    python benchmarks/utility.py --out runs/utility --minutes 4         # a piece of it; run again to go on
    python benchmarks/utility.py --out runs/utility --table --figure docs/utility.png
    python benchmarks/utility.py --out runs/utility --kept-apart        # three worlds that nothing was chosen on
    python benchmarks/utility.py --out runs/utility --real              # the pool beside this repository

Precision is not enough, and one run's top is no truth: every method selects with several seeds (warm-up, points, tuning
order), every selection trains a model with a seed of its own, and methods are compared within world, target, fraction and
seeds (`utility_report`). Every stage is an artifact under --out: a second run finds it. Rows are in rows.jsonl and rows.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from utility_bed import Bed, Rows
from utility_methods import APART, TARGETS, WORLDS, Run, entries, grid

from paydirt.core.progress import say
from paydirt.demo import TRAINING, prepare_world, recipe
from paydirt.world import relevant_ids, world_dir
from paydirt.world.base_model import PretrainConfig

SMALL = PretrainConfig(hidden=40, layers=2, heads=4, intermediate=104)  # about a tenth of the standard model


def world_bed(seed: int, out: Path) -> Bed:
    """One built-in world: pool, targets, base model, and a model of a tenth of its size, pre-trained on the same texts."""
    folder = prepare_world(out / f"world-{seed}" / "world", seed).absolute()
    found = recipe(folder, list(TARGETS))
    right = {t: (relevant_ids(folder, t), relevant_ids(folder, t, clean_only=True)) for t in TARGETS}
    models = {"model": lambda: found["model"]["path"], "small": lambda: str(world_dir(seed, pretrain=SMALL) / "model")}
    common = {"pool": found["pool"], "encoding": found["encoding"]}
    targets = {t["name"]: t for t in found["targets"]}
    return Bed(folder.parent, common, targets, models, TRAINING, "exact_match", right, entries())


def measure(wanted: Iterable[Run], rows: Rows, bed_of: Callable[[int], Bed], minutes: float) -> None:
    """Run what is missing, until the time is up."""
    started = time.monotonic()
    beds: dict[int, Bed] = {}
    every, done = list(dict.fromkeys(wanted)), rows.keys()
    todo = [run for run in every if run not in done]
    say(f"{len(every) - len(todo)} of {len(every)} runs are there")
    for number, run in enumerate(todo):
        if time.monotonic() - started > 60 * minutes:
            say(f"time is up: {len(todo) - number} runs are left")
            break
        if run.world not in beds:
            beds[run.world] = bed_of(run.world)
        begun = time.monotonic()
        try:
            row = beds[run.world].run(run)
        except ValueError as error:
            if not any(words in str(error) for words in ("cannot be kept to", "does not beat", "selection budget of")):
                raise
            row = run._asdict() | {"refused": str(error)}
        rows.add(row | {"seconds": round(time.monotonic() - begun, 2)})
    rows.table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; run again to go on")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of a selection and a training seed")
    parser.add_argument("--core", action="store_true", help="what the aims speak of, with every pair of seeds")
    parser.add_argument("--narrow", action="store_true", help="5 %% alone, and random's curve")
    parser.add_argument("--kept-apart", action="store_true", help="the three worlds that nothing was chosen on")
    parser.add_argument("--real", action="store_true", help="the real pool: a hidden source, and held-out loss")
    parser.add_argument("--table", action="store_true", help="print tables of what is there; run nothing")
    parser.add_argument("--figure", type=Path, help="draw score against selection FLOPs to this file")
    options = parser.parse_args()
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    rows = Rows(out, "rows-real" if options.real else "rows-apart" if options.kept_apart else "rows")
    if options.table or options.figure:
        from utility_report import figure, tables

        if options.table:
            tables(rows.rows, "loss" if options.real else "score")
        if options.figure:
            figure(rows.rows, options.figure)
        return
    if options.real:
        from utility_real import real_bed, real_grid

        measure(real_grid(options.pairs), rows, lambda sample: real_bed(sample, out), options.minutes)
    elif options.kept_apart:
        runs = grid(APART, True, options.pairs, core=options.core)
        measure(runs, rows, lambda seed: world_bed(seed, out), options.minutes)
    else:
        runs = grid(WORLDS, False, options.pairs, not options.narrow, options.core)
        measure(runs, rows, lambda seed: world_bed(seed, out), options.minutes)


if __name__ == "__main__":
    main()
