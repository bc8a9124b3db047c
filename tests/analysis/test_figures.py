"""All six figures draw from the published points and from a small study, as vector with tooltips and as picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from paydirt.analysis.advisor import advise
from paydirt.analysis.overlap import overlaps
from paydirt.analysis.published import METHODS, published
from paydirt.analysis.results import Results, panels
from paydirt.analysis.strategies import Job
from paydirt.report.figures import draw, draw_advice, save
from paydirt.report.figures_law import performance
from paydirt.report.style import method_styles

NAMES = ["figure1_simulation", "figure2_performance", "figure3_fits", "figure4_break_even", "figure5_budgets",
         "figure6_overlap"]  # fmt: skip
RANKINGS = {m: [f"{(i * k) % 101}" for i in range(101)] for m, k in (("BM25", 1), ("Embed", 2), ("LESS", 7))}


def test_the_six_figures_of_the_paper(tmp_path: Path) -> None:
    drawn = draw(published(), tmp_path, overlaps=overlaps(RANKINGS), formats=("svg",))
    assert [d.name for d in drawn] == NAMES
    for d in drawn:
        assert not d.missing
        assert d.svg is not None
        ET.parse(d.svg)
    tips = [
        t.text or "" for t in ET.parse(tmp_path / "figure2_performance.svg").iter("{http://www.w3.org/2000/svg}title")
    ]
    assert sum("% of the pool" in t for t in tips) == 215  # one tooltip per published run


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    study = [p for p in panels(published()) if p.name == "MMLU 70B"]
    one, two = (save(performance(study), tmp_path / n, ("svg",))["svg"] for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_small_study_draws_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    rows = [{"task": "t<&>", "model": "m", "method": m, "fraction": f, "selection_flops": 0.0, "training_flops": f * 1e9,
             "total_flops": f * 1e9, "score": 0.1 + f / 2 + s / 100, "seed": s}
            for m in ("random", "bm25") for f in (0.1, 1.0) for s in (1, 2)]  # fmt: skip
    drawn = {d.name: d for d in draw(Results.from_rows(rows), tmp_path, formats=("png", "svg"))}
    assert drawn["figure2_performance"].png is not None
    assert "law" in drawn["figure3_fits"].missing
    assert "selection cost" in drawn["figure4_break_even"].missing
    assert "rankings" in drawn["figure6_overlap"].missing
    ET.parse(tmp_path / "figure2_performance.svg")  # names with markup do not break it


def test_an_empty_study_draws_only_the_simulation(tmp_path: Path) -> None:
    drawn = draw(Results.from_rows([]), tmp_path, formats=("svg",))
    assert [d.name for d in drawn if not d.missing] == ["figure1_simulation"]


def test_the_advisors_picture(tmp_path: Path) -> None:
    advice = advise(Job(7e9, 1e8, 285), 1e18, draws=300, find_pilot=False)
    done = draw_advice(advice, tmp_path)
    assert done.svg is not None
    assert done.png is not None
    assert "FLOPs" in done.svg.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "methods", [METHODS, ("random", "length", "bm25", "dsir", "rds", "embed", "foo", "bar", "baz")]
)
def test_methods_are_told_apart_by_colour_or_marker(methods: tuple[str, ...]) -> None:
    styles = method_styles(methods)
    assert len({(s.colour, s.marker) for s in styles.values()}) == len(methods)
