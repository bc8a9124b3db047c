"""The one style of every figure: colours that colour-blind readers can tell apart, markers, sizes, fonts.

Colours are Okabe & Ito's (2008); each method family keeps its colour in all figures, and marker shapes repeat the
distinction for print in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paydirt.analysis.points import family

GREY, BLACK = "#6b6b6b", "#1a1a1a"
BLUE, GREEN, ORANGE, RED = "#0072B2", "#009E73", "#E69F00", "#D55E00"
PINK, SKY = "#CC79A7", "#56B4E9"

RC: dict[str, Any] = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4d4d4d",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": "#4d4d4d",
    "ytick.color": "#4d4d4d",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 5.0,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # the same picture in every browser
    "svg.hashsalt": "paydirt",  # and the same bytes in every run
}


class NothingToDraw(ValueError):
    """The results do not hold what a figure shows; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class MethodStyle:
    """Colour and marker of one method."""

    colour: str
    marker: str


BY_FAMILY = {
    "baseline": MethodStyle(GREY, "o"),
    "lexical": MethodStyle(BLUE, "s"),
    "embedding": MethodStyle(GREEN, "^"),
    "perplexity": MethodStyle(ORANGE, "D"),
    "gradient": MethodStyle(RED, "v"),
}
SPARE = [MethodStyle(PINK, "P"), MethodStyle(SKY, "X"), MethodStyle(BLACK, "h"), MethodStyle(PINK, "<"),
         MethodStyle(SKY, ">"), MethodStyle(BLACK, "*"), MethodStyle(GREY, "p"), MethodStyle(BLUE, "d")]  # fmt: skip
NEXT_MARKERS = "XP*hd<>p"


def method_styles(methods: Sequence[str]) -> dict[str, MethodStyle]:
    """A style for each method: its family's, with another marker for the family's second member; spare ones else."""
    used: dict[str, int] = {}
    styles = {}
    for method in methods:
        kin = family(method)
        turn = used.get(kin, 0)
        used[kin] = turn + 1
        if kin in BY_FAMILY:
            base = BY_FAMILY[kin]
            styles[method] = base if not turn else MethodStyle(base.colour, NEXT_MARKERS[(turn - 1) % 8])
        else:
            spare = sum(n for name, n in used.items() if name not in BY_FAMILY) - 1
            styles[method] = SPARE[spare % len(SPARE)]
    return styles
