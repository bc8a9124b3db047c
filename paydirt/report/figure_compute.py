"""Score against total compute, as the page shows it of one task: every seed, its spread, and the point that was chosen.

What enters: a panel of a study, styles, the chosen cell. What leaves: a matplotlib figure without a legend (the page has one
for all its pictures). Lines join means over seeds, bands reach from the lowest to the highest.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paydirt.report import page_numbers as show
from paydirt.report.figures_law import flops_axis
from paydirt.report.marks import mark
from paydirt.report.page_study import Cell, Panel, run_name
from paydirt.report.style import BLACK, SOFT, MethodStyle, Styles


def compute_figure(panel: Panel, styles: Styles, chosen: Cell | None, size: tuple[float, float]) -> Figure | None:
    """The picture, `size` in inches; None where no run has a cost to plot."""
    cells = [c for m in panel.methods for c in panel.of(m) if c.total_flops > 0]
    if not cells:
        return None
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    flops_axis(axes, min(c.total_flops for c in cells), max(c.total_flops for c in cells))
    if panel.zero is not None:
        line = axes.axhline(panel.zero, color=BLACK, linewidth=1, linestyle=(0, (5, 3)), zorder=1.5)
        said = f"zero-shot {panel.zero:.{panel.digits}f}"
        mark(line, "", f"{said}: the untuned model")
        axes.annotate(said, (1, panel.zero), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                      textcoords="offset points", ha="right", fontsize=7.5, color=SOFT)  # fmt: skip
    for method in panel.methods:
        _series(axes, panel, [c for c in panel.of(method) if c.total_flops > 0], styles[method])
    axes.set_ylabel(panel.metric)
    axes.set_xlabel("selecting + training, total FLOPs")
    if chosen is not None and chosen.total_flops > 0:
        _ring(axes, chosen, cells)
    return figure


def _series(axes: Axes, panel: Panel, cells: list[Cell], style: MethodStyle) -> None:
    """Line, band, whiskers, seeds and means of one method."""
    if not cells:
        return
    method = cells[0].method
    x, means = [c.total_flops for c in cells], [c.mean for c in cells]
    dashes = (0, (2, 2)) if style.key == "ceiling" else "solid"
    (line,) = axes.plot(x, means, color=style.colour, linewidth=1.6, linestyle=dashes, zorder=2)
    mark(line, method)
    if len(cells) > 1:
        low, high = [c.low for c in cells], [c.high for c in cells]
        mark(axes.fill_between(x, low, high, color=style.colour, alpha=0.13, linewidth=0, zorder=1), method)
    for cell in cells:
        if len(cell.rows) > 1:
            ends = [cell.low, cell.high]
            (whisker,) = axes.plot([cell.total_flops] * 2, ends, color=style.colour, linewidth=1, zorder=2)
            mark(whisker, method)
            for row in cell.rows:
                at = row["total_flops"] or cell.total_flops
                (seed,) = axes.plot(at, row["score"], marker="o", markersize=2.6, linestyle="none", zorder=2.5,
                                    markerfacecolor="white", markeredgecolor=style.colour, markeredgewidth=0.7)  # fmt: skip
                mark(
                    seed,
                    method,
                    f"{method} at {show.percent(cell.fraction)}, {run_name(row)}: {row['score']:.{panel.digits}f}",
                )
        (point,) = axes.plot(cell.total_flops, cell.mean, marker=style.marker, markersize=7, color=style.colour,
                             markeredgecolor="white", markeredgewidth=0.8, linestyle="none", zorder=3)  # fmt: skip
        mark(point, method, tooltip(panel, cell))


def _ring(axes: Axes, cell: Cell, cells: list[Cell]) -> None:
    """A ring around the chosen point, and its name where it covers the fewest points."""
    axes.plot(cell.total_flops, cell.mean, marker="o", markersize=17, markerfacecolor="none", markeredgecolor=BLACK,
              markeredgewidth=1.8, linestyle="none", zorder=4)  # fmt: skip
    name = f"chosen: {'the whole pool' if cell.fraction >= 1 else f'{cell.method} at {show.percent(cell.fraction)}'}"
    axes.figure.draw_without_rendering()  # type: ignore[union-attr] # now places are known
    points = axes.transData.transform([(c.total_flops, c.mean) for c in cells])
    x, y = axes.transData.transform((cell.total_flops, cell.mean))
    scale, frame = axes.figure.dpi / 72, axes.bbox  # pixels a point

    def covered(dx: float, dy: float) -> float:
        """Points under the name at that offset; more where it would leave the picture."""
        width, height = 5.6 * len(name) * scale, 11 * scale
        left, low = x + dx * scale - (width if dx < 0 else 0), y + dy * scale - height / 3
        inside = (
            (points[:, 0] > left)
            & (points[:, 0] < left + width)
            & (points[:, 1] > low - 4)
            & (points[:, 1] < low + height)
        )
        outside = left < frame.x0 or left + width > frame.x1 or low < frame.y0 or low + height > frame.y1 + 12 * scale
        return float(inside.sum()) + 100 * outside

    dx, dy = min(((a, b) for b in (-18, 12, -32, -46, -60) for a in (13, -13)), key=lambda at: covered(*at))
    axes.annotate(name, (cell.total_flops, cell.mean), xytext=(dx, dy), textcoords="offset points", fontsize=9,
                  ha="right" if dx < 0 else "left", fontweight="bold", color=BLACK, zorder=5, annotation_clip=False,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})  # fmt: skip


def tooltip(panel: Panel, cell: Cell) -> str:
    """What a pointer over a mean is told."""
    seeds = ", ".join(f"{run_name(r)}: {r['score']:.{panel.digits}f}" for r in cell.rows)
    selecting, training = cell.average("selection_flops"), cell.average("training_flops")
    return (
        f"{cell.method} at {show.percent(cell.fraction)} ({show.count(cell.average('n_examples'))} examples)\n"
        f"mean {cell.mean:.{panel.digits}f}; {seeds}\n"
        f"{show.flops(cell.total_flops)} FLOPs = selecting {show.flops(selecting)} + training {show.flops(training)}"
    )
