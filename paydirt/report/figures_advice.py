"""The advisor's picture: what each affordable strategy is expected to score, and what other budgets would buy."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paydirt.analysis.advisor import Advice
from paydirt.analysis.results import ZERO_SHOT
from paydirt.report.marks import gid
from paydirt.report.style import BLACK, method_styles


def percent(fraction: float) -> str:
    """A share as a short percentage: 2.3 %, 24 %, 100 %."""
    value = 100 * fraction
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def advice_figure(advice: Advice) -> Figure:
    """Left: expected score and interval by strategy. Right: the best strategy at a tenth to ten times the budget."""
    rows = list(advice.ranking)[:12]
    if rows and not any(r.strategy.method == ZERO_SHOT for r in rows):
        rows[-1] = next(r for r in advice.ranking if r.strategy.method == ZERO_SHOT)
    names = [r.strategy.method for r in (*rows, *(r for _, r in advice.by_budget)) if r.strategy.method != ZERO_SHOT]
    styles = method_styles(list(dict.fromkeys(names)))
    figure = Figure(figsize=(9.4, 0.3 * len(rows) + 1.6), layout="constrained")
    ax, bx = figure.subplots(1, 2, width_ratios=(1.25, 1))
    for y, r in enumerate(reversed(rows)):
        s = styles.get(r.strategy.method)
        colour, marker = (s.colour, s.marker) if s else (BLACK, "X")
        ax.plot([r.low, r.high], [y, y], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="round")
        ax.plot(r.expected, y, marker=marker, color=colour, markersize=7, markeredgecolor="white", linestyle="none",
                gid=gid(r.strategy.method, f"{r.strategy.label}: {r.expected:.2f} ({r.low:.2f} to {r.high:.2f}), "
                                           f"best with {r.p_best:.0%}"))  # fmt: skip
        ax.annotate(f"{r.p_best:.0%}", (1.0, y), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", va="center", fontsize=8, color=BLACK)  # fmt: skip
    labels = [f"{r.strategy.label}, {percent(r.strategy.fraction)}" if r.strategy.fraction else ZERO_SHOT
              for r in reversed(rows)]  # fmt: skip
    ax.set_yticks(range(len(rows)), labels)
    ax.set_xlabel(f"score: expected, and {advice.level:.0%} interval")
    ax.set_title(f"at {advice.budget:.2g} FLOPs a task", loc="left")
    ax.set_title("best with", loc="right", fontsize=8, fontweight="normal")
    ax.grid(axis="y", visible=False)
    budgets = np.array([b for b, _ in advice.by_budget])
    before = ""
    for b, r in advice.by_budget:
        s = styles.get(r.strategy.method)
        colour, marker = (s.colour, s.marker) if s else (BLACK, "X")
        bx.plot([b, b], [r.low, r.high], color=colour, linewidth=2.2, alpha=0.35, solid_capstyle="round")
        bx.plot(b, r.expected, marker=marker, color=colour, markersize=7, markeredgecolor="white", linestyle="none",
                gid=gid(r.strategy.method, f"{b:.2g} FLOPs: {r.strategy.label}, {percent(r.strategy.fraction)}, "
                                           f"{r.expected:.2f}"))  # fmt: skip
        name = f"{r.strategy.method}\n" if r.strategy.method != before else ""
        before = r.strategy.method
        bx.annotate(f"{name}{percent(r.strategy.fraction)}", (b, r.high), xytext=(0, 3),
                    textcoords="offset points", ha="center", va="bottom", fontsize=7, color=colour)  # fmt: skip
    bx.set_xscale("log")
    if len(budgets):
        bx.set_xlim(budgets.min() / 1.7, budgets.max() * 1.7)
        bx.axvline(advice.budget, color=BLACK, linewidth=0.8, linestyle=":", zorder=0)
    bx.margins(y=0.18)
    bx.set_xlabel("budget, FLOPs a task")
    bx.set_title("what other budgets buy")
    return figure
