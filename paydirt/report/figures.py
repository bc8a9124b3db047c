"""All figures of a study, drawn and saved: the entry point for `paydirt figures` and for the report.

In: a results table, and rankings' overlaps where there are any. Out: for each figure a vector file (SVG, whose points
carry tooltips that a browser shows on hover) and a PNG of 200 dots an inch. Figures that a study has no data for are
left out and named, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from paydirt.analysis.overlap import Overlap
from paydirt.analysis.results import Results, panels
from paydirt.report import figures_advice, figures_law, figures_tables
from paydirt.report.style import RC, NothingToDraw

if False:  # typing only, keeps the advisor out of imports that just draw
    from paydirt.analysis.advisor import Advice


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure's files and its caption; `missing` says why there is none."""

    name: str
    caption: str
    svg: Path | None = None
    png: Path | None = None
    missing: str = ""


CAPTIONS = {
    "figure1_simulation": "Performance under constraints, simulated: dearer selection pays only when training is dear.",
    "figure2_performance": "Score against total compute, selection included. Dashed: line through the Pareto front.",
    "figure3_fits": "The compute-performance law fitted to each method, with bootstrap bands.",
    "figure4_break_even": "An expensive selection shared by more tasks approaches the front of the others.",
    "figure5_budgets": "Equal data against equal compute: the order of methods changes.",
    "figure6_overlap": "Share of selected examples in common, in percent.",
}


def draw(
    results: Results,
    out: str | Path,
    *,
    overlaps: Sequence[Overlap] = (),
    variant: str = "published",
    formats: Sequence[str] = ("svg", "png"),
) -> list[Drawn]:
    """Draw the six figures of a study into folder `out` (made if absent), in order."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    study = panels(results)
    makers: dict[str, Callable[[], Figure]] = {
        "figure1_simulation": figures_tables.simulation,
        "figure2_performance": lambda: figures_law.performance(study),
        "figure3_fits": lambda: figures_law.fits(results, variant),
        "figure4_break_even": lambda: figures_law.break_even(study),
        "figure5_budgets": lambda: figures_tables.budgets(study),
        "figure6_overlap": lambda: figures_tables.overlap(overlaps),
    }
    drawn = []
    for name, maker in makers.items():
        try:
            with mpl.rc_context(RC):
                files = save(maker(), folder / name, formats)
            drawn.append(Drawn(name, CAPTIONS[name], files.get("svg"), files.get("png")))
        except NothingToDraw as reason:
            drawn.append(Drawn(name, CAPTIONS[name], missing=str(reason)))
    return drawn


def draw_advice(advice: Advice, out: str | Path, formats: Sequence[str] = ("svg", "png")) -> Drawn:
    """The advisor's picture: strategies with their intervals, and how the answer changes with the budget."""
    with mpl.rc_context(RC):
        files = save(figures_advice.advice_figure(advice), Path(out) / "advice", formats)
    return Drawn("advice", "Expected score of each affordable strategy, and the best at other budgets.",
                 files.get("svg"), files.get("png"))  # fmt: skip


def save(figure: Figure, stem: Path, formats: Sequence[str] = ("svg", "png")) -> dict[str, Path]:
    """Write the figure as `stem`.svg and .png; artists whose gid starts with "tip:" get it as an SVG tooltip."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = {}
    tips = _take_tips(figure)
    with mpl.rc_context(RC):  # the salt that makes ids, and so bytes, repeat is read when saving
        for form in formats:
            path = stem.with_suffix(f".{form}")
            # No date in the metadata: the same results give the same bytes.
            figure.savefig(path, format=form, metadata={"Date": None} if form == "svg" else None)
            if form == "svg":
                path.write_text(_with_tips(path.read_text(encoding="utf-8"), tips), encoding="utf-8")
            files[form] = path
    return files


def _take_tips(figure: Figure) -> dict[str, str]:
    """Replace each artist's "tip:text" gid by a plain id and return id -> text."""
    tips = {}
    for number, artist in enumerate(figure.findobj(lambda a: str(a.get_gid() or "").startswith("tip:"))):
        key = f"tip{number}"
        tips[key] = str(artist.get_gid())[4:]
        artist.set_gid(key)
    return tips


def _with_tips(svg: str, tips: dict[str, str]) -> str:
    def add(found: re.Match[str]) -> str:
        return f"{found[0]}<title>{escape(tips[found[1]])}</title>" if found[1] in tips else found[0]

    return re.sub(r'<g id="(tip\d+)">', add, svg)
