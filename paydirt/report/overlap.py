"""How much two methods choose alike: the share of one's examples that the other chose too, at each fraction.

Two independent random choices of the same share f of the pool have f in common, which is shown as the chance level. Seeds
are averaged; on the diagonal stands how alike a method's own seeds are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from paydirt.report import page_numbers as show
from paydirt.report.page_masks import Masks, selections_at
from paydirt.report.page_study import Panel, StudyFiles


@dataclass(frozen=True)
class Share:
    """One cell: the share of the row method's examples, None where there is nothing to compare; `title` has more."""

    value: float | None
    text: str
    title: str


@dataclass(frozen=True)
class Overlap:
    """The square table of one fraction; `chance` is the share that independent random choices would have."""

    fraction: float
    chance: float
    methods: list[str]
    rows: list[list[Share]]


def overlaps(study: StudyFiles, panel: Panel, masks: Masks) -> list[Overlap]:
    """A table for every fraction below the whole pool with at least two methods."""
    return [t for f in panel.fractions if f < 1 and (t := _table(study, panel, f, masks))]


def _table(study: StudyFiles, panel: Panel, fraction: float, masks: Masks) -> Overlap | None:
    chosen = selections_at(study, panel, fraction)
    if len(chosen) < 2:
        return None
    sets = {method: [masks.of(s) for s in selections] for method, selections in chosen.items()}
    rows = [[_share(a, b, sets) for b in sets] for a in sets]
    sizes = [int(m.sum()) for found in sets.values() for m in found]
    return Overlap(fraction, float(np.mean(sizes)) / len(masks), list(sets), rows)


def _share(a: str, b: str, sets: dict[str, list[np.ndarray]]) -> Share:
    if a == b:
        pairs = [(x, y) for i, x in enumerate(sets[a]) for j, y in enumerate(sets[a]) if i != j]
    else:
        pairs = list(product(sets[a], sets[b]))
    if not pairs:
        return Share(None, show.NOTHING, f"{a} has a single selection: the same for every seed, or one seed")
    common = [np.count_nonzero(x & y) for x, y in pairs]
    shares = [c / np.count_nonzero(x) for c, (x, _) in zip(common, pairs)]
    jaccard = [c / np.count_nonzero(x | y) for c, (x, y) in zip(common, pairs)]
    value = float(np.mean(shares))
    between = f"{a} and {b}" if a != b else f"two seeds of {a}"
    over = f", over {len(pairs)} pairs of seeds" if len(pairs) > 1 else ""
    title = f"{between}: {show.share(value, 1)} in common, Jaccard {np.mean(jaccard):.3f}{over}"
    return Share(value, f"{100 * value:.0f}", title)
