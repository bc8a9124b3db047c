"""The pictures of the page: what `paydirt figures` draws, inline, so that a pointer finds their points.

One renderer and one legend: figures are drawn without names of methods, which the page's own legend gives, and in its
variables, so that one drawing serves light and dark. matplotlib writes text from data escaped; ids are made unique, because
one page holds several pictures. (What the page shows as tables, score against compute and overlap, is not drawn twice.)
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from markupsafe import Markup, escape

from paydirt.report.figure_compute import compute_figure
from paydirt.report.figures import draw, save
from paydirt.report.page_study import Cell, Panel, StudyFiles
from paydirt.report.style import RC, Look, Styles, themed


class PageFigure(NamedTuple):
    """A picture with its caption, or the reason why there is none."""

    caption: str
    svg: Markup
    missing: str


PIXELS = 1.4  # of the widest window to a point of a figure
ON_THE_PAGE = ("figure1_simulation", "figure3_fits", "figure4_break_even", "figure5_budgets")


def panel_figure(
    panel: Panel, styles: Styles, chosen: Cell | None, name: str, size: tuple[float, float]
) -> Markup | None:
    """Score against compute of one panel; None where there is nothing to plot."""
    with mpl.rc_context(RC), tempfile.TemporaryDirectory() as folder:
        figure = compute_figure(panel, styles, chosen, size)
        if figure is None:
            return None
        about = f"{panel.task}: {panel.metric} against total compute, {len(panel.methods)} methods"
        return inline(save(figure, Path(folder) / name, ("svg",))["svg"], name, about)


def law_figures(study: StudyFiles, styles: Styles) -> list[PageFigure]:
    """Draw what the study's table allows; what it does not is named with the reason."""
    from paydirt.analysis.loading import load_results

    try:
        results = load_results(study.root / "results.parquet")
    except (ValueError, OSError) as reason:
        return [PageFigure("Figures", Markup(), str(reason))]
    with tempfile.TemporaryDirectory() as folder:
        look = Look(styles.of, legend=False)
        drawn = draw(results, folder, variant="training", formats=("svg",), look=look, only=ON_THE_PAGE)
        return [PageFigure(d.caption, inline(d.svg, d.name, d.caption), d.missing) for d in drawn]


def inline(path: Path | None, name: str, about: str) -> Markup:
    """The <svg> element alone, in the page's colours, its ids prefixed with the figure's name."""
    if path is None:
        return Markup()
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # addresses of vocabularies, of no use on a page
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")  # HTML needs no namespaces
    # Its own size in points would not shrink with the window; a limit keeps letters of one size in all pictures.
    wide = re.search(r'viewBox="0 0 ([\d.]+)', text)
    text = re.sub(r'^<svg([^>]*?) (?:width|height)="[^"]*"', r"<svg\1", text)
    text = re.sub(r'^<svg([^>]*?) (?:width|height)="[^"]*"', r"<svg\1", text)
    limit = f' style="max-width: {PIXELS * float(wide[1]):.0f}px"' if wide else ""
    return Markup(themed(text).replace("<svg", f'<svg role="img" aria-label="{escape(about)}"{limit}', 1))
