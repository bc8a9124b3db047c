"""The law's figures on the page: the same six that `paydirt figures` draws, inline, so that a pointer finds their points.

matplotlib writes text from data escaped; ids are made unique, because one page holds several pictures.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from paydirt.report.page_study import StudyFiles


class PageFigure(NamedTuple):
    """A picture with its caption, or the reason why there is none."""

    caption: str
    svg: Markup
    missing: str


def law_figures(study: StudyFiles) -> list[PageFigure]:
    """Draw what the study's table allows; what it does not is named with the reason."""
    from paydirt.analysis.loading import load_results
    from paydirt.report.figures import draw
    from paydirt.study.rankings import study_overlaps

    try:
        results = load_results(study.root / "results.parquet")
        found = study_overlaps(study.root)
        ends = {o.fraction for o in found if o.fraction in (found[0].fraction, found[-1].fraction)}
        overlaps = [o for o in found if o.fraction in ends]  # two heat maps fit the page; its own table has them all
    except (ValueError, OSError) as reason:
        return [PageFigure("Figures", Markup(), str(reason))]
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(results, folder, overlaps=overlaps, variant="training", formats=("svg",))
        return [PageFigure(d.caption, _inline(d.svg, d.name), d.missing) for d in drawn]


def _inline(path: Path | None, name: str) -> Markup:
    """The <svg> element alone, its ids prefixed with the figure's name."""
    if path is None:
        return Markup()
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # addresses of vocabularies, of no use on a page
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")  # HTML needs no namespaces
    return Markup(text)
