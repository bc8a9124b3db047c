"""The other figures: simulation (1), equal data against equal compute (5), overlap of selections (6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paydirt.analysis.overlap import Overlap, matrix
from paydirt.analysis.results import Panel
from paydirt.analysis.simulation import FLOPS_PER_TOKEN, METHODS, POOL_TOKENS, best_method, simulate
from paydirt.report.figures_law import all_methods, flops_axis, legend, scatter, tip
from paydirt.report.marks import gid
from paydirt.report.style import BLACK, PLAIN, Look, NothingToDraw


def simulation(look: Look = PLAIN) -> Figure:
    """Figure 1: simulated score against total FLOPs for a small, medium and large train model."""
    figure = Figure(figsize=(8.6, 3.1), layout="constrained")
    styles = look.of([m.name for m in METHODS])
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (size, per_token) in zip(axes, FLOPS_PER_TOKEN.items()):
        full = POOL_TOKENS * per_token
        end = max(1.2 * full, 1.5e19 if size == "small" else 0)
        # A curve starts where its selection is paid, which needs points close behind that cost.
        after = [m.selection_flops * (1 + np.geomspace(1e-6, 0.3, 120)) for m in METHODS if m.selection_flops > 0]
        x = np.unique(np.concatenate([np.geomspace(2e-3 * full, end, 300), *after]))
        x = x[(x >= 2e-3 * full) & (x <= end)]
        for m in METHODS:
            y = simulate(x, m, per_token)
            paid = x > m.selection_flops
            ax.plot(x[paid], y[paid], color=styles[m.name].colour, label=m.name)
        top = best_method(x, per_token)[1]
        ax.plot(x, top, color=BLACK, linewidth=1.1, linestyle=(0, (1.2, 1.8)), zorder=4)
        ax.set_xscale("log")
        ax.set_title(f"{size}: {_scientific(per_token)} FLOPs a token", fontsize=8.5)
        ax.set_xlabel("total FLOPs")
    axes[0].set_ylabel("simulated score")
    handles = [Line2D([], [], color=styles[m.name].colour, label=m.name) for m in METHODS]
    handles.append(Line2D([], [], color=BLACK, linestyle=(0, (1.2, 1.8)), linewidth=1.1, label="best affordable"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _scientific(value: float) -> str:
    exponent = int(np.floor(np.log10(value)))
    return f"${value / 10**exponent:g}{{\\times}}10^{{{exponent}}}$"


def budgets(study: Sequence[Panel], left: str = "", right: str = "", look: Look = PLAIN) -> Figure:
    """Figure 5: the same runs by share of data (selection free) and by total compute (selection paid)."""
    usable = [p for p in study if len(p.curves) > 1 and any(len(c) > 1 for c in p.curves.values())]
    if not usable:
        raise NothingToDraw("no panel with two methods and two budgets")

    def pick(name: str, otherwise: Panel) -> Panel:
        return next((p for p in usable if p.name == name), otherwise)

    a = pick(left or "MMLU 7B", usable[0])
    b = pick(right or "IFEval 7B", a)
    styles = look.of(all_methods([a, b]))
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    ax, bx = figure.subplots(1, 2)
    for label, c in a.curves.items():
        s = styles[label]
        ax.plot(100 * c.fraction, c.mean, color=s.colour, linewidth=1.1, alpha=0.6, gid=gid(label))
        for i in range(len(c)):
            ax.plot(100 * c.fraction[i], c.mean[i], color=s.colour, marker=s.marker, markeredgecolor="white",
                    markeredgewidth=0.6, linestyle="none", gid=tip(c, i))  # fmt: skip
    shares = sorted({float(f) for c in a.curves.values() for f in c.fraction})
    ax.set_xscale("log")
    ticks = shares if len(shares) <= 8 else shares[:: len(shares) // 6]
    ax.set_xticks([100 * f for f in ticks], [f"{100 * f:g}" for f in ticks])
    ax.minorticks_off()
    ax.set_xlabel("percent of the pool trained on (selection not counted)")
    ax.set_ylabel("score")
    ax.set_title(f"(a) equal data: {a.name}")
    scatter(bx, b, styles, join=True)
    costs = np.concatenate([c.total_flops for c in b.curves.values()])
    flops_axis(bx, costs.min(), costs.max())
    bx.set_xlabel("total FLOPs (selection counted)")
    bx.set_ylabel("score")
    bx.set_title(f"(b) equal compute: {b.name}")
    legend(figure, styles, (), look)
    return figure


def overlap(found: Sequence[Overlap]) -> Figure:
    """Figure 6: heat map of shared examples for each fraction, numbers in the cells."""
    whole = [o for o in found if not o.source]
    if not whole:
        raise NothingToDraw("no rankings to compare: give the overlaps of at least two methods")
    fractions = list(dict.fromkeys(o.fraction for o in whole))
    names = matrix(whole, fractions[0])[0]
    side = max(2.3, 0.52 * len(names) + 0.6)
    figure = Figure(figsize=(side * len(fractions) + 0.9, side + 0.6), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(fractions)))
    image = None
    for ax, fraction in zip(axes, fractions):
        names, table = matrix(whole, fraction)
        # Below the diagonal only: the matrix is symmetric and its diagonal says nothing.
        lower = np.where(np.tri(len(names), k=-1, dtype=bool), table, np.nan)[1:, :-1]
        image = ax.imshow(lower, cmap="cividis", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(lower):
            if np.isfinite(value):
                o = next(
                    o for o in whole if o.fraction == fraction and {o.method_a, o.method_b} == {names[i + 1], names[j]}
                )
                ax.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8,
                        color="white" if value < 55 else "black",
                        gid=gid("", f"{names[i + 1]} and {names[j]} at {100 * fraction:g} %: {value:.1f} % shared, "
                                    f"{o.by_chance:g} % by chance"))  # fmt: skip
        ax.set_xticks(range(len(names) - 1), names[:-1], rotation=30 if len(names) > 5 else 0)
        ax.set_yticks(range(len(names) - 1), names[1:])
        ax.set_title(f"{100 * fraction:g} % selected ({100 * fraction:g} % by chance)", fontsize=8.5)
        ax.grid(False)
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
    if image is not None:
        figure.colorbar(image, ax=list(axes), shrink=0.75, label="examples in common, %")
    return figure
