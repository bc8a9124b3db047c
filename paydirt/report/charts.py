"""The performance chart as inline SVG: score against total compute, with every seed and its spread.

Colours are CSS classes (`c0`, `c1`, ...), so that one picture serves light and dark; shapes repeat what colours say. The
tooltips are SVG titles and need no script. Text from data is escaped here, since the template takes the result as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from paydirt.report import page_numbers as show
from paydirt.report.page_study import Cell, Panel, run_name
from paydirt.study.schema import ZERO_SHOT

WIDTH, HEIGHT = 880, 450
LEFT, RIGHT, TOP, BOTTOM = 58, 164, 48, 52
COLOURS = 7
LABEL_GAP = 17.0
# Unit shapes around (0, 0), scaled by `marker`: a second sign beside colour.
SHAPES = (
    "M-1,0A1,1 0 1 0 1,0A1,1 0 1 0 -1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.2L1.1,.8H-1.1Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,1.2L1.1,-.8H-1.1Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M0,-1.3L.4,-.4L1.25,-.4L.6,.2L.8,1.1L0,.6L-.8,1.1L-.6,.2L-1.25,-.4L-.4,-.4Z",
)


class Styles:
    """Colour class and shape of every method, the same in all charts of a page."""

    def __init__(self, methods: Sequence[str], controls: Sequence[str] = (), ceilings: Sequence[str] = ()) -> None:
        plain = [m for m in methods if m not in controls and m not in ceilings]
        self._of = {m: (f"c{i % COLOURS}{' again' if i >= COLOURS else ''}", i % COLOURS) for i, m in enumerate(plain)}
        self._of |= dict.fromkeys(controls, ("control", 0)) | dict.fromkeys(ceilings, ("ceiling", 3))

    def colour(self, method: str) -> str:
        """CSS classes of a method."""
        return self._of[method][0]

    def marker(self, method: str, x: float, y: float, size: float) -> str:
        """The method's shape at (x, y)."""
        shape = SHAPES[self._of[method][1]]
        return f'<path class="mark" d="{shape}" transform="translate({x:.1f},{y:.1f}) scale({size:g})"/>'

    def swatch(self, method: str) -> Markup:
        """A small sign for table rows."""
        mark = self.marker(method, 7, 7, 4.6)
        svg = f'<svg class="swatch {self.colour(method)}" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>'
        return Markup(svg)  # made of numbers and our own class names


class Scale:
    """Data to pixels: x by log10 of FLOPs, y linear."""

    def __init__(self, flops: Sequence[float], scores: Sequence[float]) -> None:
        low, high = math.log10(min(flops)), math.log10(max(flops))
        margin = max(0.06 * (high - low), 0.08)
        self.x0, self.x1 = low - margin, high + margin
        bottom, top = min(scores), max(scores)
        if top - bottom < 1e-9:
            bottom, top = min(bottom, 0.0), max(top, bottom + (0.1 if abs(bottom) <= 1 else 1.0))
        self.y_ticks = show.ticks(bottom, top)
        self.y0, self.y1 = self.y_ticks[0], self.y_ticks[-1]

    def x(self, flops: float) -> float:
        return LEFT + (math.log10(flops) - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, score: float) -> float:
        return HEIGHT - BOTTOM - (score - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def x_ticks(self) -> list[tuple[float, str]]:
        """Powers of ten; 2 and 5 between them where fewer than three powers are in sight."""
        exponents = range(math.floor(self.x0), math.ceil(self.x1) + 1)
        powers = [10.0**e for e in exponents if self.x0 <= e <= self.x1]
        if len(powers) >= 3:
            return [(p, show.power(round(math.log10(p)))) for p in powers]
        found = [(m, e) for e in exponents for m in (1, 2, 5) if self.x0 <= math.log10(m * 10.0**e) <= self.x1]
        return [(m * 10.0**e, show.power(e) if m == 1 else f"{m}×{show.power(e)}") for m, e in found]


def performance(panel: Panel, styles: Styles, convention: str) -> Markup | None:
    """Score against selection + training FLOPs; None where no run has a cost to plot."""
    cells = [c for m in panel.methods for c in panel.of(m) if c.total_flops > 0]
    if not cells:
        return None
    zero = [] if panel.zero is None else [panel.zero]
    scale = Scale([c.total_flops for c in cells], [s for c in cells for s in c.scores] + zero)
    parts = [*_axes(panel, scale, convention), *_zero_line(panel, scale), *_fraction_names(panel, scale)]
    parts += [_series(panel, m, scale, styles) for m in panel.methods]
    parts += [_points(panel, c, scale, styles) for c in cells]
    parts += _names(panel, scale, styles)
    about = escape(f"{panel.task}: {panel.metric} against total compute, {len(panel.methods)} methods")
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">'
    return Markup("\n".join([head, *parts, "</svg>"]))  # every text in it went through `escape`


def _axes(panel: Panel, scale: Scale, convention: str) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in scale.y_ticks:
        y = scale.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for flops, name in scale.x_ticks():
        x = scale.x(flops)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{name}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    label = escape(f"total compute: selecting + training, FLOPs ({convention}), log scale")
    parts.append(f'<text class="label" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    parts.append(f'<text class="label" x="{LEFT - 46}" y="16">{escape(panel.metric)}</text>')
    return parts


def _zero_line(panel: Panel, scale: Scale) -> list[str]:
    if panel.zero is None:
        return []
    y = scale.y(panel.zero)
    title = f"zero-shot: the untuned model scores {panel.zero:.{panel.digits}f}"
    line = f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}">'
    return [f"{line}<title>{title}</title></line>"]


def _fraction_names(panel: Panel, scale: Scale) -> list[str]:
    """The fractions along the top, each above its cheapest run."""
    parts, last = [], -math.inf
    for fraction in panel.fractions:
        cheapest = min((c.total_flops for c in panel.at(fraction) if c.total_flops > 0), default=None)
        if cheapest and (x := scale.x(cheapest)) - last >= 44:
            parts.append(f'<line class="guide" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(f'<text class="tick" x="{x:.1f}" y="{TOP - 8}" text-anchor="middle">')
            parts.append(f"{show.percent(fraction)}</text>")
            last = x
    return parts


def _series(panel: Panel, method: str, scale: Scale, styles: Styles) -> str:
    """The band between lowest and highest seed, and the line through the means."""
    cells = [c for c in panel.of(method) if c.total_flops > 0]
    line = " ".join(f"{scale.x(c.total_flops):.1f},{scale.y(c.mean):.1f}" for c in cells)
    upper = [f"{scale.x(c.total_flops):.1f},{scale.y(c.high):.1f}" for c in cells]
    lower = [f"{scale.x(c.total_flops):.1f},{scale.y(c.low):.1f}" for c in reversed(cells)]
    band = f'<polygon class="band" points="{" ".join(upper + lower)}"/>' if len(cells) > 1 else ""
    return f'<g class="{styles.colour(method)}">{band}<polyline class="line" points="{line}"/></g>'


def _points(panel: Panel, cell: Cell, scale: Scale, styles: Styles) -> str:
    """Whisker, seeds, mean, and a wide transparent disc that carries the tooltip."""
    x, y = scale.x(cell.total_flops), scale.y(cell.mean)
    parts = [f'<g class="point {styles.colour(cell.method)}"><title>{escape(_tooltip(panel, cell))}</title>']
    if len(cell.rows) > 1:
        top, bottom = scale.y(cell.high), scale.y(cell.low)
        parts.append(f'<path class="whisker" d="M{x:.1f},{top:.1f}V{bottom:.1f}"/>')
        for row in cell.rows:
            at = scale.x(row["total_flops"]) if row["total_flops"] else x
            parts.append(f'<circle class="seed" cx="{at:.1f}" cy="{scale.y(row["score"]):.1f}" r="2.4"/>')
    parts.append(styles.marker(cell.method, x, y, 5))
    parts.append(f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="11"/></g>')
    return "".join(parts)


def _tooltip(panel: Panel, cell: Cell) -> str:
    seeds = ", ".join(f"{run_name(r)}: {r['score']:.{panel.digits}f}" for r in cell.rows)
    selecting, training = cell.average("selection_flops"), cell.average("training_flops")
    return (
        f"{cell.method} at {show.percent(cell.fraction)} ({show.count(cell.average('n_examples'))} examples)\n"
        f"mean {cell.mean:.{panel.digits}f}; {seeds}\n"
        f"{show.flops(cell.total_flops)} FLOPs = selecting {show.flops(selecting)} + training {show.flops(training)}"
    )


def _names(panel: Panel, scale: Scale, styles: Styles) -> list[str]:
    """Names at the right, zero-shot among them, pushed apart where lines end together, each led to its line."""
    right = WIDTH - RIGHT
    ends = [
        (m, scale.x(cells[-1].total_flops) + 7, scale.y(cells[-1].mean))
        for m in panel.methods
        if (cells := [c for c in panel.of(m) if c.total_flops > 0])
    ]
    if panel.zero is not None:
        ends.append((ZERO_SHOT, right, scale.y(panel.zero)))
    ends.sort(key=lambda end: end[2])
    x, parts = right + 22, []
    for (method, start, y), place in zip(ends, spread_out([e[2] for e in ends], TOP, HEIGHT - BOTTOM, LABEL_GAP)):
        mine = method == ZERO_SHOT
        mark = f'<path class="zero" d="M{x - 7},{place:.1f}h14"/>' if mine else styles.marker(method, x, place, 4)
        text = f"{ZERO_SHOT} {panel.zero:.{panel.digits}f}" if mine else _short(method)
        parts.append(
            f'<g class="{"reference" if mine else styles.colour(method)}"><path class="leader" '
            f'd="M{start:.1f},{y:.1f}L{x - 8},{place:.1f}"/>{mark}'
            f'<text class="name" x="{x + 11}" y="{place + 4.5:.1f}">{escape(text)}<title>{escape(method)}</title></text></g>'
        )
    return parts


def _short(name: str) -> str:
    return name if len(name) <= 15 else name[:14] + "…"


def spread_out(wanted: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Places for sorted `wanted` at least `gap` apart, kept within [low, high] where they fit."""
    places: list[float] = []
    for value in wanted:
        places.append(max(value, places[-1] + gap) if places else max(value, low))
    over = high
    for k in range(len(places) - 1, -1, -1):
        places[k] = min(places[k], over)
        over = places[k] - gap
    return places
