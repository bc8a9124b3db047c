"""Figures over panels: score against compute (2), fitted laws (3), break-even (4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from paydirt.analysis.breakeven import crossing
from paydirt.analysis.front import cells, front, line, non_dominated
from paydirt.analysis.law import fit
from paydirt.analysis.points import family
from paydirt.analysis.results import CEILINGS, Curve, Panel, Results, panels
from paydirt.report.marks import gid
from paydirt.report.style import BLACK, GREY, PLAIN, Look, MethodStyle, NothingToDraw

MOST_PANELS = 12


def shown(study: Sequence[Panel]) -> list[Panel]:
    """The panels a figure has room for: the first 12."""
    ready = [p for p in study if any(len(c) for c in p.curves.values())]
    if not ready:
        raise NothingToDraw("no trained runs in the results")
    return ready[:MOST_PANELS]  # a figure with more would be read by nobody


def grid(study: Sequence[Panel], height: float = 2.5) -> tuple[Figure, list[Axes]]:
    """One axes per panel, panels of a task side by side; a task goes to the first row that has room for it."""
    per_task = {t: sum(p.task == t for p in study) for t in dict.fromkeys(p.task for p in study)}
    widest = max(per_task.values())
    columns = min(
        len(study), 4, widest + 1 if widest > 1 and len(per_task) > 1 and 1 in per_task.values() else max(widest, 3)
    )
    free: list[int] = []  # columns left in each row
    places: dict[str, list[int]] = {}
    for task, count in per_task.items():
        spots: list[int] = []
        while count:
            part = min(count, columns)
            row = next((i for i, room in enumerate(free) if room >= part), len(free))
            if row == len(free):
                free.append(columns)
            spots += [row * columns + columns - free[row] + i for i in range(part)]
            free[row] -= part
            count -= part
        places[task] = spots
    engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    figure = Figure(figsize=(max(2.75 * columns, 4.2) + 0.3, height * len(free) + 0.65), layout=engine)
    axes = []
    for panel in study:
        axes.append(figure.add_subplot(len(free), columns, places[panel.task].pop(0) + 1))
    return figure, axes


def all_methods(study: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(label for p in study for label in p.curves))


def legend(figure: Figure, styles: dict[str, MethodStyle], extra: Sequence[Line2D] = (), look: Look = PLAIN) -> None:
    """One legend for all axes, above them; without the methods where the page names them."""
    handles = [Line2D([], [], color=s.colour, marker=s.marker, linestyle="none", label=m) for m, s in styles.items()]
    every = [*(handles if look.legend else []), *extra]
    if not every:
        return
    columns = _columns([str(h.get_label()) for h in every], figure.get_figwidth() - 0.3)
    rows = -(-len(every) // columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * (rows - 1))
    figure.legend(handles=every, loc="outside upper center", ncols=columns, columnspacing=1.2, handletextpad=0.4)


def _columns(labels: Sequence[str], width: float) -> int:
    """Most legend columns that fit into `width` inches; a wider legend would be cut off at the figure's edges."""
    for count in range(len(labels), 1, -1):
        columns = np.array_split(
            np.array([0.52 + 0.068 * len(label) for label in labels]), count
        )  # inches at 8.5 points
        if sum(float(c.max()) for c in columns) <= width:
            return count
    return 1


def flops_axis(axes: Axes, low: float, high: float) -> None:
    """Log axis of FLOPs with 1-2-5 ticks when it spans less than two decades, powers of ten beyond."""
    axes.set_xscale("log")
    axes.set_xlim(low / 1.25, high * 1.25)
    decades = np.log10(high / low)
    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    steps = (1,) if decades > 1.4 else (1, 3) if decades > 0.7 else (1, 2, 5)
    ticks = [m * 10.0**p for p in powers for m in steps if low / 1.25 <= m * 10.0**p <= high * 1.25]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _power(v)))


def _power(value: float) -> str:
    exponent = int(np.floor(np.log10(value) + 1e-9))
    lead = value / 10.0**exponent
    return f"$10^{{{exponent}}}$" if abs(lead - 1) < 1e-6 else f"${lead:.0f}{{\\times}}10^{{{exponent}}}$"


def tip(curve: Curve, i: int) -> str:
    """What a point stands for, as a gid."""
    spread = f" ± {curve.sd[i]:.2f} over {curve.seeds[i]} seeds" if np.isfinite(curve.sd[i]) else ""
    text = (f"{curve.method}, {100 * curve.fraction[i]:g} % of the pool: {curve.mean[i]:.2f}{spread}; "
            f"{curve.total_flops[i]:.3g} FLOPs, {curve.selection_flops[i]:.3g} of them selecting")  # fmt: skip
    return gid(curve.method, text)


def scatter(axes: Axes, panel: Panel, styles: dict[str, MethodStyle], *, join: bool = False) -> None:
    """Every cell of a panel, with seed spread where there is any, and the zero-shot line."""
    for label, c in panel.curves.items():
        s = styles[label]
        if join:
            axes.plot(c.total_flops, c.mean, color=s.colour, linewidth=1, alpha=0.45, zorder=2, gid=gid(label))
        for i in range(len(c)):
            if np.isfinite(c.sd[i]):
                axes.plot([c.total_flops[i]] * 2, [c.mean[i] - c.sd[i], c.mean[i] + c.sd[i]], color=s.colour, linewidth=0.9,
                          alpha=0.7, zorder=2, gid=gid(label))  # fmt: skip
            axes.plot(c.total_flops[i], c.mean[i], color=s.colour, marker=s.marker, markeredgecolor="white",
                      markeredgewidth=0.6, linestyle="none", zorder=3, gid=tip(c, i))  # fmt: skip
    if len(panel.zero_shot):
        axes.axhline(panel.zero_shot.mean(), color=BLACK, linewidth=0.9, linestyle=":", zorder=1)


def _finish(axes: Axes, panel: Panel, first: bool) -> None:
    costs = np.concatenate([c.total_flops for c in panel.curves.values()])
    flops_axis(axes, costs.min(), costs.max())
    axes.set_title(panel.name)
    axes.set_xlabel("total FLOPs")
    if first:
        axes.set_ylabel("score")


def performance(study: Sequence[Panel], look: Look = PLAIN) -> Figure:
    """Figure 2: score against total cost in every panel; non-dominated runs ringed, dashed line through them."""
    study = shown(study)
    figure, axes = grid(study)
    styles = look.of(all_methods(study))
    for ax, panel in zip(axes, study):
        scatter(ax, panel, styles)
        c = cells(panel)
        best = non_dominated(c.total, c.score)
        ax.plot(c.total[best], c.score[best], linestyle="none", marker="o", markersize=9, markerfacecolor="none",
                markeredgecolor=BLACK, markeredgewidth=0.7, zorder=4)  # fmt: skip
        if len(best) > 1:
            slope, intercept = line(c.total[best], c.score[best])
            x = np.array([c.total[best].min(), c.total[best].max()])
            ax.plot(x, intercept + slope * np.log10(x), color=BLACK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        _finish(ax, panel, ax.get_subplotspec().is_first_col())  # type: ignore[union-attr]
    ring = Line2D([], [], color=BLACK, marker="o", markersize=8, markerfacecolor="none", markeredgewidth=0.7,
                  linestyle=(0, (4, 3)), linewidth=1, label="Pareto front")  # fmt: skip
    legend(figure, styles, [ring, *_zero_shot(study)], look)
    return figure


def _zero_shot(study: Sequence[Panel]) -> list[Line2D]:
    has = any(len(p.zero_shot) for p in study)
    return [Line2D([], [], color=BLACK, linewidth=0.9, linestyle=":", label="zero-shot")] if has else []


def fits(results: Results, variant: str = "published", look: Look = PLAIN) -> Figure:
    """Figure 3: the law through each curve of each panel, drawn over the fitted costs only, with 90 % bands."""
    every = panels(results)
    study = shown(every)
    keep = {(p.task, p.model) for p in study}
    names = np.array([(t, m) in keep for t, m in zip(results.text("task"), results.text("model"))])
    fitted = fit(results.where(names), variant, pbar=_given_asymptotes(every), bootstrap=200)
    if not fitted:
        raise NothingToDraw("no method has three budgets, so no law can be fitted")
    figure, axes = grid(study)
    styles = look.of(all_methods(study))
    for ax, panel in zip(axes, study):
        scatter(ax, panel, styles)
        for f in (f for f in fitted if (f.task, f.model) == (panel.task, panel.model)):
            curve = panel.curves[f.method]
            x = np.geomspace(max(f.cost[f.cost > 0].min(), 1e-30), f.cost.max(), 80)
            low, high = f.band(x)
            total = x if variant == "published" else x + float(np.nanmedian(curve.selection_flops))
            ax.plot(total, f.predict(x), color=styles[f.method].colour, linewidth=1.4, zorder=2.5, gid=gid(f.method))
            band = ax.fill_between(total, low, high, color=styles[f.method].colour, alpha=0.13, linewidth=0, zorder=1)
            band.set_gid(gid(f.method))
        scores = np.concatenate([c.mean for c in panel.curves.values()])
        room = 0.08 * (scores.max() - scores.min() + 1e-9)
        ax.set_ylim(scores.min() - 2 * room, scores.max() + room)  # bands may run far below the data
        _finish(ax, panel, ax.get_subplotspec().is_first_col())  # type: ignore[union-attr]
    legend(figure, styles, [Line2D([], [], color=GREY, label=f"law, {variant} variant"), *_zero_shot(study)], look)
    return figure


def _given_asymptotes(study: Sequence[Panel]) -> dict[tuple[str, str], float]:
    """The published asymptotes, when the panels are the published ones (same task, model and full score)."""
    from paydirt.analysis.published import PBAR

    def close(p: Panel) -> bool:
        return (p.task, p.model) in PBAR and abs(p.full_score()[0] - PBAR[p.task, p.model]) < 0.5

    return {(p.task, p.model): PBAR[p.task, p.model] for p in study if p.curves and close(p)}


def break_even(study: Sequence[Panel], tasks: Sequence[int] = (1, 5, 10, 20), look: Look = PLAIN) -> Figure:
    """Figure 4: the dearest method with its selection shared by n tasks, against the front of the others."""
    panel, method = _dearest(study)
    others = front(panel, without=[method], draws=0)
    c = panel.curves[method]
    style = look.of(all_methods([panel]))
    s = style[method]
    found = crossing(panel, method, "line", selector_params=panel.train_params)
    figure = Figure(figsize=(2.35 * len(tasks) + 0.4, 3.0), layout="constrained")
    axes = figure.subplots(1, len(tasks), sharey=True)
    x = np.array([others.cost.min(), others.cost.max()])
    low = min(others.cost.min(), c.training_flops.min())
    high = max(others.cost.max(), c.total_flops.max())
    for ax, n in zip(np.atleast_1d(axes), tasks):
        ax.plot(x, others.line(x), color=BLACK, linewidth=1, linestyle=(0, (4, 3)))
        for i, (m, f) in enumerate(zip(others.method, others.fraction)):
            other = style.get(m, MethodStyle(BLACK, "o"))  # the whole pool is nobody's
            ax.plot(others.cost[i], others.score[i], marker=other.marker, color=other.colour,
                    linestyle="none", alpha=0.75, markeredgecolor="white", markeredgewidth=0.6,
                    gid=gid(m, f"{m}, {100 * f:g} %: {others.score[i]:.2f} at {others.cost[i]:.3g} FLOPs"))  # fmt: skip
        part = c.fraction < 0.999
        cost = c.training_flops[part] + c.selection_flops[part] / n
        above = c.mean[part] >= others.line(cost)
        ax.plot(cost, c.mean[part], color=s.colour, linewidth=1, alpha=0.5, gid=gid(method))
        for cx, cy, f, on in zip(cost, c.mean[part], c.fraction[part], above):
            ax.plot(cx, cy, marker=s.marker, color=s.colour, markersize=7 if on else 5.5, linestyle="none",
                    markeredgecolor=BLACK if on else "white", markeredgewidth=1.0 if on else 0.6,
                    gid=gid(method, f"{method}, {100 * f:g} %, shared by {n}: {cy:.2f} at {cx:.3g} FLOPs"))  # fmt: skip
        flops_axis(ax, low, high)
        ax.set_title(f"{n} task{'s' if n > 1 else ''}")
        ax.set_xlabel("FLOPs per task")
    np.atleast_1d(axes)[0].set_ylabel(f"score, {panel.name}")
    (a, b) = found.tasks_interval
    text = f"{method} reaches the line at {found.tasks:.1f} tasks (90 % interval {a:.1f} to {b:.1f})"
    styles = {m: style[m] for m in dict.fromkeys(others.method) if m in style} | {method: style[method]}
    extra = [Line2D([], [], color=BLACK, linewidth=1, linestyle=(0, (4, 3)), label=f"front without {method}"),
             Line2D([], [], color=BLACK, marker="o", linestyle="none", label="everything"),
             Line2D([], [], color=s.colour, marker=s.marker, markersize=7, markeredgecolor=BLACK, linestyle="none",
                    label="on or above the line")]  # fmt: skip
    legend(figure, styles, extra, look)
    figure.supxlabel(text, fontsize=8.5, color=BLACK)
    return figure


def _dearest(study: Sequence[Panel]) -> tuple[Panel, str]:
    """The panel and method whose selection costs most relative to training: a gradient method where there is one,
    because only a gradient store serves several tasks, and MMLU, as in the paper, where there is a choice.
    """
    options = []
    for p in shown(study):
        for label, c in p.curves.items():
            spent = float(np.nanmedian(c.selection_flops))
            full = float(np.median(c.training_flops / c.fraction))
            if c.method.lower() in CEILINGS:
                continue
            if spent > 0 and len(p.curves) > 2 and (c.fraction < 0.999).sum() >= 2:
                options.append((family(c.method) != "gradient", p.task != "MMLU", -spent / full, p, label))
    if not options:
        raise NothingToDraw("no method with a selection cost and at least two budgets beside two others")
    *_, panel, label = min(options, key=lambda o: o[:3])
    return panel, label
