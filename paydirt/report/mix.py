"""What each selection is made of: sources and lengths, beside the whole pool's.

At one fraction, the one nearest 5 %. A method that draws lots is shown over all its seeds together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from paydirt.report import page_numbers as show
from paydirt.report.page_masks import Masks, selections_at
from paydirt.report.page_study import Panel, StudyFiles

SHOWN_SOURCES = 7  # and one part for all others: more colours than these cannot be told apart
BINS = 24
BAR = (260, 18)
HISTOGRAM = (220, 44)


@dataclass(frozen=True)
class MixRow:
    """One line of the mix table; `name` is a method or the pool."""

    name: str
    method: str | None
    examples: float
    bar: Markup
    histogram: Markup
    median: float
    mean: float


@dataclass(frozen=True)
class Mix:
    """The table of a panel, the legend of its sources and the ends of its length axis."""

    fraction: float
    unit: str
    sources: list[tuple[str, str, float]]
    ends: tuple[int, int]
    scale: str
    rows: list[MixRow]


def mix(study: StudyFiles, panel: Panel, masks: Masks) -> Mix | None:
    """The mix of the panel's selections; None where none is left."""
    fraction = panel.nearest_five_percent
    chosen = {} if fraction is None else selections_at(study, panel, fraction)
    if fraction is None or not chosen:
        return None
    everything = np.ones(len(masks))
    parts = _parts(masks)
    edges = _edges(masks.lengths)
    pool_bins = _bins(masks.lengths, everything, edges)
    rows = [_row("the whole pool", None, everything, 1, masks, parts, edges, pool_bins)]
    for method, selections in chosen.items():
        weights = sum((masks.of(s).astype(float) for s in selections), np.zeros(len(masks)))
        rows.append(_row(method, method, weights, len(selections), masks, parts, edges, pool_bins))
    legend = [(name, f"s{k}", float(own.mean())) for k, (name, own) in enumerate(_named(masks, parts))]
    ends = int(masks.lengths.min()), int(masks.lengths.max())
    scale = "log scale" if edges[-1] - edges[0] > 4 * BINS else "linear"
    return Mix(fraction, masks.unit, legend, ends, scale, rows)


def _parts(masks: Masks) -> np.ndarray:
    """Part number [sources] of each source: the largest have their own, the others share the last."""
    counts = np.bincount(masks.source_codes, minlength=len(masks.source_names))
    order = np.argsort(-counts, kind="stable")
    parts = np.full(len(counts), SHOWN_SOURCES)
    parts[order[:SHOWN_SOURCES]] = np.arange(min(SHOWN_SOURCES, len(order)))
    if len(counts) == SHOWN_SOURCES + 1:  # a single other needs no gathering
        parts[order[-1]] = SHOWN_SOURCES
    return parts


def _named(masks: Masks, parts: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name and mask [N] of each part."""
    out = []
    for part in range(int(parts.max()) + 1):
        names = [masks.source_names[i] or "(no source)" for i in np.flatnonzero(parts == part)]
        out.append((names[0] if len(names) == 1 else f"{len(names)} others", parts[masks.source_codes] == part))
    return out


def _edges(lengths: np.ndarray) -> np.ndarray:
    """Bin edges: whole numbers evenly apart where the pool's range is narrow, else even in log length."""
    low, high = max(1, int(lengths.min())), max(1, int(lengths.max()))
    if high - low < 3 * BINS:
        step = (high - low) // BINS + 1
        return np.arange(low, high + step + 1, step, dtype=np.float64)
    return np.geomspace(low, high + 1, BINS + 1)


def _bins(lengths: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share [BINS] of the weight in each bin."""
    counts, _ = np.histogram(np.clip(lengths, edges[0], edges[-1]), edges, weights=weights)
    return counts / counts.sum() if counts.sum() else counts


def _row(
    name: str,
    method: str | None,
    weights: np.ndarray,
    repeats: int,
    masks: Masks,
    parts: np.ndarray,
    edges: np.ndarray,
    pool_bins: np.ndarray,
) -> MixRow:
    total = weights.sum()
    by_source = np.bincount(masks.source_codes, weights=weights, minlength=len(masks.source_names))
    names = [n for n, _ in _named(masks, parts)]
    shares = np.bincount(parts, weights=by_source, minlength=len(names)) / total
    own = _bins(masks.lengths, weights, edges)
    order = np.argsort(masks.lengths, kind="stable")
    middle = order[np.searchsorted(np.cumsum(weights[order]), total / 2)]
    return MixRow(
        name,
        method,
        total / repeats,
        _bar(names, shares),
        _histogram(own, pool_bins),
        float(masks.lengths[middle]),
        float(np.average(masks.lengths, weights=weights)),
    )


def _bar(names: list[str], shares: np.ndarray) -> Markup:
    """One stacked bar; each part's title says its name and share."""
    width, height = BAR
    x, parts = 0.0, []
    for k, (name, part) in enumerate(zip(names, shares)):
        title = escape(f"{name}: {show.share(float(part), 1)}")
        box = f'<rect class="s{k}" x="{x:.1f}" y="0" width="{part * width:.1f}" height="{height}">'
        parts.append(f"{box}<title>{title}</title></rect>")
        x += part * width
    return _svg("bar", BAR, ", ".join(f"{n} {show.share(float(s))}" for n, s in zip(names, shares)), parts)


def _histogram(own: np.ndarray, pool: np.ndarray) -> Markup:
    """The selection as bars over the pool as a grey ground, both as shares, on one scale of their own."""
    width, height = HISTOGRAM
    step, tallest = width / len(own), max(own.max(), pool.max(), 1e-9)
    parts = []
    for kind, values, inset in (("ground", pool, 0.0), ("own", own, step * 0.22)):
        path = "".join(
            f"M{k * step + inset:.1f},{height}v{-v / tallest * (height - 2):.1f}h{step - 2 * inset:.1f}V{height}Z"
            for k, v in enumerate(values)
            if v > 0
        )
        parts.append(f'<path class="{kind}" d="{path}"/>')
    return _svg("histogram", HISTOGRAM, "distribution of lengths, the pool in grey", parts)


def _svg(kind: str, size: tuple[int, int], about: str, parts: list[str]) -> Markup:
    head = f'<svg class="{kind}" viewBox="0 0 {size[0]} {size[1]}" preserveAspectRatio="none" role="img"'
    return Markup(f'{head} aria-label="{escape(about)}">{"".join(parts)}</svg>')  # titles are escaped
