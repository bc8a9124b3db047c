"""The page of a budget that was spent: what was kept comes first, every step with its reason, and what others would buy."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from support.browser import PROGRAM, browser

from paydirt.core.config import parse
from paydirt.report.build import write_report
from paydirt.study.recipe import Study
from paydirt.study.spend import open_world, run_spend

from .conftest import recipe
from .test_browser import STICKS_OUT


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a budget was spent, with hostile names and texts."""
    folder = tmp_path_factory.mktemp("spent")
    values = recipe(folder) | {"evaluation": {"name": "likelihood"}}
    world = open_world(parse(Study, values), None, folder / "out")
    run_spend(world, 1.3 * world.training_flops(world.total, world.count), lambda line: None)
    return folder / "out"


def test_steps_reasons_and_what_was_kept_are_on_the_page(spent: Path) -> None:
    page = unescape(write_report(spent).read_text(encoding="utf-8"))
    course = json.loads((spent / "spend.json").read_text(encoding="utf-8"))
    budget = page[page.index('<section id="budget">') : page.index("<!-- end of budget -->")]
    assert course["paragraph"] in budget
    assert budget.count("<tr>") == len(course["steps"]) + 1
    for step in course["steps"]:
        assert step["what"] in budget
        assert step["reason"] in budget
    for other in course["what_if"]:
        assert other["text"] in budget
    assert re.search(r'<g id="[^"]*mark\d+"[^>]*><title>With', budget), "points tell their numbers to a pointer"
    headline = page[page.index('<section id="headline">') : page.index('<section id="budget">')]
    assert course["kept"] in headline or "untuned" in headline
    assert "paired test" not in headline


def test_a_damaged_course_is_named_with_its_remedy(spent: Path) -> None:
    path = spent / "spend.json"
    good = path.read_text(encoding="utf-8")
    try:
        for bad in ("{", "[]", "null", '{"target": 1}', good.replace('"low"', '"lo"'), good[: len(good) // 2]):
            path.write_text(bad, encoding="utf-8")
            with pytest.raises(ValueError, match="run paydirt spend again"):
                write_report(spent)
    finally:
        path.write_text(good, encoding="utf-8")


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; apt-get install chromium to run this test")
@pytest.mark.parametrize(("width", "dark", "phone"), [(1280, False, False), (700, True, False), (390, False, True)])
def test_nothing_overflows(spent: Path, tmp_path: Path, width: int, dark: bool, phone: bool) -> None:
    page = write_report(spent)
    with browser(tmp_path) as made:
        made.open(page, width=width, dark=dark, phone=phone)
        assert made.js(STICKS_OUT) == {"wide": 0, "out": []}
        assert made.js("document.querySelector('.action').getBoundingClientRect().bottom < innerHeight")
        shown = made.js(
            "[...document.querySelectorAll('#budget .wide, #budget .narrow')].filter(e => e.offsetHeight > 0)"
            ".map(e => e.className)"
        )
        assert shown == ["narrow" if width < 760 else "wide"]
        assert made.js("document.querySelector('#budget svg.budget').getBoundingClientRect().width > 200")
        assert made.errors == []
