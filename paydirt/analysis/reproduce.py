"""The paper's numbers, made again: every table of `docs/law.md` and `docs/advisor.md`, from the shipped points.

    python -m paydirt.analysis.reproduce                 # print all tables
    python -m paydirt.analysis.reproduce --write docs    # refresh the generated part of docs/law.md and docs/advisor.md
    python -m paydirt.analysis.reproduce --only coverage # one table; with --write, refresh that one

Each table is a function without arguments that returns Markdown. What is generated stands between two marker comments;
the text around it is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from paydirt.analysis import backtest_tables
from paydirt.analysis import published as paper
from paydirt.analysis.backtest_tables import markdown
from paydirt.analysis.breakeven import DEFINITIONS, crossing
from paydirt.analysis.coverage import SIX, THREE, front_coverage, law_coverage
from paydirt.analysis.front import front
from paydirt.analysis.law import VARIANTS, fit
from paydirt.analysis.results import panels
from paydirt.analysis.statements import statements
from paydirt.cost.facts import told
from paydirt.cost.forms import forward_flops, training_flops
from paydirt.cost.methods import selection_cost
from paydirt.scoring.base import make_scorer

BEGIN, END = "<!-- generated: {name} -->", "<!-- end of generated part -->"
PUBLISHED_LINE = ((1.14828e17, 45.75056), (9.18619e18, 47.65558))  # figure 4's dashed line, MMLU 7B
PUBLISHED_S_LESS = 8.27e18  # as figure 4 rounds it


def cost_table() -> str:
    """C_full, S_PPL, S_LESS and the break-even x-values from architecture and tokens alone, with relative errors."""
    rows: list[list[object]] = []

    def row(name: str, formula: str, ours: float, theirs: float) -> None:
        rows.append([name, formula, f"{ours:.5g}", f"{theirs:.5g}", f"{100 * (ours / theirs - 1):+.3f} %"])

    for size, arch in paper.ARCHITECTURES.items():
        row(f"C_full {size}", "3 forwards of 97.91M tokens", training_flops(arch, paper.POOL_TOKENS, paper.SEQ_LEN),
            paper.C_FULL[size])  # fmt: skip
    one = forward_flops(paper.ARCHITECTURES["7B"], paper.POOL_TOKENS, paper.SEQ_LEN)
    row("S_PPL", "1 forward, 7B", one, paper.S_PPL)
    row("S_LESS", "5.4 forwards, 7B", paper.LESS_FORWARD_PASSES * one, paper.S_LESS)
    for n in (1, 5, 10, 20):
        worst = max(break_even_x(n), key=lambda pair: abs(pair[0] / pair[1] - 1))
        row(f"break-even x, {n} tasks (worst of 6)", "S_LESS / n + share x C_full", *worst)
    return markdown(["quantity", "form", "ours", "published", "relative error"], rows)


def break_even_x(tasks: int) -> list[tuple[float, float]]:
    """(ours, published) cost per task of LESS at the six fractions, from architecture and tokens alone."""
    arch = paper.ARCHITECTURES["7B"]
    full = training_flops(arch, paper.POOL_TOKENS, paper.SEQ_LEN)
    store = paper.LESS_FORWARD_PASSES * forward_flops(arch, paper.POOL_TOKENS, paper.SEQ_LEN)
    shares = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    return [(store / tasks + f * full, PUBLISHED_S_LESS / tasks + f * paper.C_FULL["7B"]) for f in shares]


def own_gradient_cost() -> str:
    """What our closed form charges for the same gradient selection, part by part: not the published 5.4 forwards."""
    arch = paper.ARCHITECTURES["7B"]
    facts = told(paper.POOL_TOKENS, paper.POOL_EXAMPLES, 285, architecture=arch)
    one = forward_flops(arch, paper.POOL_TOKENS, facts.pool.mean)
    cost = selection_cost(make_scorer({"name": "gradient", "projection": "rademacher"}), facts)
    rows = [[name, f"{flops:.3g}", f"{flops / one:.2f}"] for name, flops in cost.parts.items()]
    rows.append(["**sum**", f"{cost.flops:.4g}", f"{cost.flops / one:.2f}"])
    return markdown(["part", "FLOPs", "forward passes"], rows)


def parameter_table(variant: str) -> str:
    """All 35 curves of one variant: P0 and lambda with 90 % intervals, residuals."""
    rows = []
    for f in fit(paper.published(), variant, pbar=paper.PBAR, bootstrap=500, level=0.9):
        p0, rate = f.interval("p0"), f.interval("lambda")
        worst = f.residuals[np.abs(f.residuals).argmax()]
        rows.append([
            f.task, f.model, f.method, f"{f.p0:.2f}" + (" (bound)" if f.at_bound else ""), f"{p0[0]:.2f} to {p0[1]:.2f}",
            f"{f.rate:.3f}", f"{rate[0]:.2f} to {rate[1]:.2f}", f"{f.rmse:.3f}", f"{worst:+.2f}",
            " ".join(f"{r:+.2f}" for r in f.residuals),
        ])  # fmt: skip
    head = ["task", "model", "method", "P0", "90 %", "lambda", "90 %", "RMSE", "worst", "residuals, least data first"]
    return markdown(head, rows)


def front_table() -> str:
    """Slope of each panel's line, and how often each method is on a redrawn front."""
    rows = []
    for p in panels(paper.published()):
        f = front(p)
        vertices = ", ".join(f"{m} {100 * x:g}" for m, x in zip(f.method, f.fraction))
        share = ", ".join(f"{m} {s:.0%}" for m, s in f.share.items())
        low, high = f.slope_interval
        rows.append([p.name, f"{f.slope:.2f}", f"{low:.2f} to {high:.2f}", vertices, share])
    return markdown(
        ["panel", "points a decade", "90 %", "non-dominated (percent of pool)", "on the front when redrawn"], rows
    )


def line_check() -> str:
    """The published line of figure 4 against ours, at its two ends."""
    mmlu = next(p for p in panels(paper.published()) if p.name == "MMLU 7B")
    ours = front(mmlu, without=["LESS"], draws=0)
    rows = [
        [f"{c:.5g}", f"{float(ours.line(c)):.3f}", f"{y:.3f}", f"{float(ours.line(c)) - y:+.3f}"]
        for c, y in PUBLISHED_LINE
    ]
    return markdown(["FLOPs", "our line", "published line", "difference, points"], rows)


def crossing_table() -> str:
    """Break-even tasks and size ratio of PPL and LESS in every panel under every definition."""
    rows = []
    for p in panels(paper.published()):
        for method in ("PPL", "LESS"):
            for definition in DEFINITIONS:
                x = crossing(p, method, definition, draws=1000)
                rows.append([p.name, method, definition, f"{x.tasks:.3g}", _range(x.tasks_interval), f"{x.size_ratio:.3g}",
                             _range(x.size_ratio_interval), f"{x.reached:.0%}"])  # fmt: skip
    return markdown(["panel", "method", "definition", "tasks", "90 %", "size ratio", "90 %", "ever reached"], rows)


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}"


def statement_table() -> str:
    """Every statement, what became of it, and how often it survives noise."""
    rows = [[s.text, s.where, s.verdict, "yes" if s.true_as_published else "no", f"{s.survives:.0%}", s.detail]
            for s in statements()]  # fmt: skip
    return markdown(["statement", "panel", "verdict", "as published", "redraws", "measured"], rows)


def coverage_table() -> str:
    """What 90 % intervals held on panels simulated from known laws."""
    rows = []
    for name, shares in (("six sizes", SIX), ("three sizes", THREE)):
        held = law_coverage(shares)
        rows += [[f"{which}, {name}", f"{held[which]:.0%}", "80 panels"] for which in ("lambda", "P0", "band")]
    rows += [[which, f"{value:.0%}", "40 panels"] for which, value in front_coverage().items()]
    return markdown(["90 % interval of", "holds the truth", "over"], rows)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "law.md": {
        "costs": cost_table,
        "gradient cost": own_gradient_cost,
        **{f"parameters, {v} variant": (lambda v=v: parameter_table(v)) for v in VARIANTS},  # type: ignore[misc]
        "coverage": coverage_table,
        "fronts": front_table,
        "line": line_check,
        "break-even": crossing_table,
        "statements": statement_table,
    },
    "advisor.md": {"backtest": backtest_tables.tables},
}


def write(page: Path, tables: dict[str, Callable[[], str]]) -> None:
    """Refresh generated parts of a page in place; ValueError names a part whose markers are missing."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin = BEGIN.format(name=name)
        if begin not in text:
            raise ValueError(f"{page} has no marker {begin!r}")
        head, rest = text.split(begin, 1)
        text = f"{head}{begin}\n\n{table()}\n\n{END}{rest.split(END, 1)[1]}"
    page.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables, or refresh the pages in a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="refresh law.md and advisor.md there")
    parser.add_argument("--only", metavar="TABLE", help="one table, by its name")
    given = parser.parse_args(arguments)
    folder = given.write
    for page, every in TABLES.items():
        tables = {name: table for name, table in every.items() if given.only in (None, name)}
        if folder and tables:
            write(folder / page, tables)
            print(f"wrote {folder / page}")
            continue
        for name, table in tables.items():
            print(f"\n## {name}\n\n{table()}")


if __name__ == "__main__":
    main()
