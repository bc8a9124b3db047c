"""The page in headless Chromium, by clicks and keys: it works, nothing overflows, light, dark and on a phone.

Skipped without Chromium.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import PROGRAM, Browser, browser

from paydirt.report.build import write_report

from .conftest import SCRIPT

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; apt-get install chromium to run this test")

# What sticks out of the window outside a scrolling container, all that folds being open.
STICKS_OUT = """(() => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const root = document.documentElement;
  const out = [...document.querySelectorAll('body *')].filter(e =>
    !e.closest('.scroll, #legend, .command code') && e.getBoundingClientRect().right > root.clientWidth + 1);
  return {wide: root.scrollWidth - root.clientWidth, out: out.map(e => e.outerHTML.slice(0, 120))};
})()"""


@pytest.fixture(scope="module")
def page(study: Path) -> Path:
    return write_report(study)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def open_page(chromium: Browser, page: Path) -> Iterator[Browser]:
    chromium.open(page)
    yield chromium
    assert chromium.errors == [], "the console is silent"
    assert [url for url in chromium.asked if not url.startswith(("file:", "data:"))] == [], "nobody is asked"


@pytest.mark.parametrize(
    ("width", "dark", "phone"), [(1280, False, False), (1280, True, False), (700, True, False), (390, False, True)]
)
def test_nothing_overflows(chromium: Browser, page: Path, width: int, dark: bool, phone: bool) -> None:
    chromium.open(page, width=width, dark=dark, phone=phone)
    chromium.click("#browse-rows .opener")
    assert chromium.js("innerWidth") == width
    assert chromium.js(STICKS_OUT) == {"wide": 0, "out": []}
    paper = chromium.js("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) < 80) == dark
    shown = chromium.js(
        "[...document.querySelectorAll('.wide, .narrow')].filter(e => e.offsetHeight > 0).map(e => e.className)"
    )
    assert shown == ["narrow" if width < 760 else "wide"]
    assert chromium.errors == []


def test_what_to_do_is_on_the_first_screen(open_page: Browser) -> None:
    assert open_page.js("document.querySelector('.action').getBoundingClientRect().bottom < innerHeight")
    for width, height in ((390, 844), (1280, 720)):
        open_page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        assert open_page.js("document.querySelector('.action').getBoundingClientRect().bottom < innerHeight")


def test_a_heading_that_a_link_leads_to_is_not_behind_the_legend(open_page: Browser) -> None:
    """However many lines the legend takes: here it is made as narrow as many methods would make it."""
    for room in ("none", "200px"):
        open_page.js(
            f"document.querySelector('#legend').style.maxWidth = '{room}'; dispatchEvent(new Event('resize'));"
        )
        lines = open_page.js("document.querySelector('#legend').offsetHeight")
        assert room == "none" or lines > 70
        for link in open_page.js("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))"):
            open_page.js(f"document.querySelector('{link}').scrollIntoView({{behavior: 'instant'}})")
            top = open_page.js(f"document.querySelector('{link} h2').getBoundingClientRect().top")
            assert top >= open_page.js("document.querySelector('#legend').getBoundingClientRect().bottom"), link


def test_the_legend_shows_one_method_alone_in_every_picture(open_page: Browser) -> None:
    dim = "[...new Set([...document.querySelectorAll('.dim')].map(e => e.dataset.method))].sort()"
    assert open_page.js(dim) == []
    open_page.click('#legend button[data-method="bm25"]')
    assert open_page.js(dim) == ["length", "random"]
    law = "document.querySelectorAll('#law .dim').length"
    assert open_page.js(law) > 0, "the law section listens to the same legend"
    open_page.click('#legend button[data-method="length"]')
    assert open_page.js(dim) == ["random"]
    open_page.click("#legend-all")
    assert open_page.js(dim) == []
    assert open_page.js("document.getElementById('legend-all').hidden")


def test_dark_and_light_by_a_click(open_page: Browser) -> None:
    shape = "'.plot svg [data-method=bm25] use, .plot svg [data-method=bm25] path'"
    colour = f"getComputedStyle(document.querySelector({shape})).stroke"
    light, paper = open_page.js(colour), open_page.js("getComputedStyle(document.body).backgroundColor")
    open_page.click("#theme")
    assert open_page.js("getComputedStyle(document.body).backgroundColor") != paper
    assert open_page.js(colour) != light or light == "none", "pictures change with the page"
    open_page.click("#theme")
    assert open_page.js("getComputedStyle(document.body).backgroundColor") == paper


def test_examples_are_filtered_sorted_and_searched(open_page: Browser) -> None:
    open_page.choose("#browse-method", "bm25")
    assert open_page.text("#browse-count") == "4 of 78 examples"
    ranks = "[...document.querySelectorAll('#browse-rows td.rank')].map(e => e.textContent)"
    assert open_page.js(ranks) == ["1", "2", "3", "4"]
    open_page.click('#browse-table th[data-column="rank"] button')
    assert open_page.js(ranks) == ["4", "3", "2", "1"]
    open_page.choose("#browse-status", "not chosen by it")
    assert open_page.text("#browse-count") == "74 of 78 examples"
    assert open_page.text("#browse-page") == "page 1 of 3"
    open_page.click("#browse-next")
    open_page.click("#browse-next")
    assert open_page.text("#browse-page") == "page 3 of 3"
    assert open_page.js("document.getElementById('browse-next').disabled")
    assert open_page.count("#browse-rows tr") == 24
    open_page.choose("#browse-status", "all")
    open_page.type("#browse-search", "LAMP script")
    assert open_page.text("#browse-count") == "1 of 78 examples"
    assert "translate the word lamp" in open_page.text("#browse-rows .snippet")
    open_page.type("#browse-search", "nothing is called so")
    assert open_page.text("#browse-count") == "0 of 78 examples"
    open_page.type("#browse-search", " ")
    open_page.choose("#browse-source", "<b>towns</b>")
    assert open_page.text("#browse-count") == "38 of 78 examples"
    assert open_page.count("#browse-source b") == 0


def test_an_example_opens_with_every_score_and_its_nearest_references(open_page: Browser) -> None:
    open_page.type("#browse-search", "lamp script")
    open_page.choose("#browse-status", "all")
    open_page.click("#browse-rows .opener")
    assert open_page.js("document.querySelector('.opener').getAttribute('aria-expanded')") == "true"
    assert SCRIPT in open_page.text(".full .turns"), "markup of data is text"
    assert open_page.count(".full script") == 0
    assert open_page.js("[...document.querySelectorAll('.full .numbers tbody th')].map(e => e.textContent)") == [
        "random",
        "length",
        "bm25",
    ]
    assert open_page.count(".full .match") == 2, "of bm25, which compares"
    open_page.click(".full .match summary")
    assert "into the old tongue" in open_page.text(".full .match[open]")
    open_page.click("#browse-rows .opener")
    assert open_page.count(".full") == 0


def test_the_keyboard_reaches_the_table(open_page: Browser) -> None:
    open_page.js("document.querySelector('#browse-rows .opener').focus()")
    for kind in ("keyDown", "keyUp"):
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        open_page.call("Input.dispatchKeyEvent", type=kind, **key)
    assert open_page.count('#browse-rows .opener[aria-expanded="true"]') == open_page.count(".opened") == 1


def test_the_data_is_what_the_page_embeds(open_page: Browser) -> None:
    """The policy lets no other script run: an injected one is refused, and the page says so nowhere but in its console."""
    assert json.loads(open_page.text("#browse-data"))["tasks"]
    open_page.js("(() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1';"
                 " document.body.append(s); })()")  # fmt: skip
    assert open_page.js("window.hit === undefined")
    open_page.js("1")
    open_page.errors.clear()
