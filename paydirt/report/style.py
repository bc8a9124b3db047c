"""The one style of every picture: a colour and a marker a method, the same in files, on the page and in its tables.

Twelve colours, Okabe & Ito's (2008) and five more, each with a lighter one for dark ground; markers repeat what colours say,
for print in grey and for eyes that cannot tell colours apart. A method that is known has its own colour in every study; any
other takes one that its study has free. Random data is grey, the ceiling ink. Figures are drawn in the light colours;
`themed` turns them into the page's CSS variables, so that one drawing serves light and dark.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from paydirt.analysis.points import family
from paydirt.analysis.results import CEILINGS

LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b8669a", "#d98f00", "#3d9fd6", "#8a8000", "#6a51a3", "#8c510a", "#b2182b",
         "#01665e", "#5aae61")  # fmt: skip
DARK = ("#4aa3df", "#f07f2e", "#2fc296", "#e08cbf", "#e9a820", "#8fcdf2", "#d9cd3c", "#a994e6", "#c99553", "#f0707f",
        "#5fc2b6", "#8fdc95")  # fmt: skip
GREY, BLACK, WHITE, RULE, SOFT = "#7b8085", "#1d1f21", "#ffffff", "#d9dbd6", "#5c6166"
VARIABLES = {GREY: "control", BLACK: "ink", WHITE: "paper", RULE: "rule", SOFT: "soft"} | {
    colour: f"c{number}" for number, colour in enumerate(LIGHT)
}
MARKERS = "os^DvP*"
# The markers again, as paths around (0, 0), for tables and legends of the page.
SHAPES = (
    "M-1,0A1,1 0 1 0 1,0A1,1 0 1 0 -1,0Z",
    "M-.9,-.9H.9V.9H-.9Z",
    "M0,-1.2L1.1,.8H-1.1Z",
    "M0,-1.25L1.25,0L0,1.25L-1.25,0Z",
    "M0,1.2L1.1,-.8H-1.1Z",
    "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
    "M0,-1.3L.4,-.4L1.25,-.4L.6,.2L.8,1.1L0,.6L-.8,1.1L-.6,.2L-1.25,-.4L-.4,-.4Z",
)
OF_METHOD = {"bm25": 0, "gradient": 1, "less": 1, "embed": 2, "rds": 7, "ppl": 4, "ifd": 6, "length": 5, "cascade": 9,
             "learned": 3, "drop": 8, "tov": 10, "dsir": 11, "gist": 3, "consensus": 10}  # fmt: skip
OF_FAMILY = {"lexical": 0, "gradient": 1, "embedding": 2, "perplexity": 4}
CONTROLS = ("random",)

RC: dict[str, Any] = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "text.color": BLACK,
    "axes.labelcolor": BLACK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
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
    """Colour and marker of one method; `key` is its CSS class, `shape` its number among the markers."""

    colour: str
    marker: str
    key: str = ""
    shape: int = 0


def method_styles(methods: Sequence[str]) -> dict[str, MethodStyle]:
    """A style for each method, no two alike up to 84 of them."""
    taken: dict[int, int] = {}
    styles: dict[str, MethodStyle] = {}
    plain = []
    for method in methods:
        low = method.lower()
        if low in CONTROLS:
            styles[method] = MethodStyle(GREY, "o", "control", 0)
        elif low in CEILINGS:
            styles[method] = MethodStyle(BLACK, "D", "ceiling", 3)
        else:
            plain.append(method)
    for method in sorted(plain, key=lambda m: (m.lower() not in OF_METHOD, plain.index(m))):  # the known ones first
        wanted = _own(method)
        free = [n for n in range(len(LIGHT)) if n not in taken]
        colour = wanted if wanted is not None and wanted not in taken else free[0] if free else len(styles) % len(LIGHT)
        round_of = taken.get(colour, 0)
        taken[colour] = round_of + 1
        shape = (colour + round_of) % len(MARKERS)
        styles[method] = MethodStyle(LIGHT[colour], MARKERS[shape], f"c{colour}", shape)
    return {method: styles[method] for method in methods}


def _own(method: str) -> int | None:
    """The colour that a method has in every study, by its name or what kind it is."""
    low = method.lower()
    named = next((number for name, number in OF_METHOD.items() if re.match(rf"{name}(?![a-z])", low)), None)
    return named if named is not None else OF_FAMILY.get(family(method))


@dataclass(frozen=True)
class Look:
    """How a figure is drawn: styles that its page has given its methods already, and whether it names methods itself."""

    styles: Mapping[str, MethodStyle] = field(default_factory=dict)
    legend: bool = True

    def of(self, methods: Sequence[str]) -> dict[str, MethodStyle]:
        """A style for each of the methods."""
        new = method_styles([method for method in methods if method not in self.styles])
        return {method: self.styles.get(method) or new[method] for method in methods}


PLAIN = Look()


class Styles:
    """The styles of a page's methods, as CSS classes and small signs."""

    def __init__(self, methods: Sequence[str]) -> None:
        self.of = method_styles(methods)

    def __getitem__(self, method: str) -> MethodStyle:
        return self.of[method]

    def colour(self, method: str) -> str:
        """CSS class of a method."""
        return self.of[method].key

    def swatch(self, method: str) -> Markup:
        """A small sign for legends and table rows."""
        style = self.of[method]
        mark = f'<path class="mark" d="{SHAPES[style.shape]}" transform="translate(7,7) scale(4.6)"/>'
        # Made of numbers and our own class names.
        return Markup(f'<svg class="swatch {style.key}" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>')


def themed(svg: str) -> str:
    """A drawing in the light colours as one in the page's variables."""
    return re.sub(
        r"#[0-9a-fA-F]{6}\b",
        lambda found: f"var(--{VARIABLES[found[0].lower()]})" if found[0].lower() in VARIABLES else found[0],
        svg,
    )


def variables(dark: bool = False) -> Markup:
    """The colours of methods as CSS declarations."""
    return Markup(" ".join(f"--c{number}: {colour};" for number, colour in enumerate(DARK if dark else LIGHT)))
