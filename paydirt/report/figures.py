"""All figures of a study, drawn and saved: the entry point for `paydirt figures` and for the report.

In: a results table, and rankings' overlaps where there are any. Out: for each figure a vector file (SVG, whose points
carry tooltips that a browser shows on hover) and a PNG of 200 dots an inch. Figures that a study has no data for are
left out and named, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from paydirt.analysis.overlap import Overlap
from paydirt.analysis.results import Results, panels
from paydirt.report import figures_advice, figures_law, figures_tables, marks
from paydirt.report.style import PLAIN, RC, Look, NothingToDraw

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
    look: Look = PLAIN,
    only: Sequence[str] = (),
) -> list[Drawn]:
    """Draw the six figures of a study (or `only` some) into folder `out` (made if absent), in order."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    study = panels(results)
    makers: dict[str, Callable[[], Figure]] = {
        "figure1_simulation": lambda: figures_tables.simulation(look),
        "figure2_performance": lambda: figures_law.performance(study, look),
        "figure3_fits": lambda: figures_law.fits(results, variant, look),
        "figure4_break_even": lambda: figures_law.break_even(study, look=look),
        "figure5_budgets": lambda: figures_tables.budgets(study, look=look),
        "figure6_overlap": lambda: figures_tables.overlap(overlaps),
    }
    drawn = []
    for name, maker in makers.items():
        if only and name not in only:
            continue
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
    """Write the figure as `stem`.svg and .png; what `marks` say of artists is in the SVG."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = {}
    marked = marks.take(figure)
    with mpl.rc_context(RC):  # the salt that makes ids, and so bytes, repeat is read when saving
        for form in formats:
            path = stem.with_suffix(f".{form}")
            # No date in the metadata: the same results give the same bytes.
            figure.savefig(path, format=form, metadata={"Date": None} if form == "svg" else None)
            if form == "svg":
                path.write_text(marks.give(path.read_text(encoding="utf-8"), marked), encoding="utf-8")
            files[form] = path
    return files
