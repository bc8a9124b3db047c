"""The page of a real study: every section, nothing from outside, text from data as text."""

import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from paydirt.report.build import write_report
from paydirt.report.page_study import StudyFiles

from .conftest import NAME, SCRIPT

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Balance(HTMLParser):
    """Collects tags and attributes, and checks that what opens closes in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return write_report(study).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_every_section_is_there(page: str) -> None:
    for section in ("headline", "task-1", "cost", "mix", "overlap", "examples", "run"):
        assert f'<section id="{section}">' in page
    for method in ("random", "length", "bm25"):
        assert f">{method}</th>" in page


def test_text_from_data_is_text(page: str, parsed: Balance) -> None:
    assert SCRIPT not in page
    assert escape(SCRIPT) in page, "the example with markup is bm25's first and must be shown"
    assert NAME not in page
    assert "<b>towns</b>" not in page
    tags = {tag for tag, _ in parsed.tags}
    assert not tags & {"script", "img", "iframe", "object"}
    assert not [a for _, attributes in parsed.tags for a in attributes if a.startswith("on")]


def test_nothing_comes_from_outside(page: str, parsed: Balance) -> None:
    assert not re.search(r"https?:|url\((?!#)|@import", page)  # url(#id) points into the page itself
    for tag, attributes in parsed.tags:
        for name in ("href", "src"):
            link = attributes.get(name) or "#"
            assert link.startswith("#") or link == "data:," or link.startswith("data:image/png;base64,"), (
                f"<{tag} {name}={link!r}>"
            )


def test_links_on_the_page_lead_somewhere(parsed: Balance) -> None:
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {(a["href"] or "")[1:] for tag, a in parsed.tags if tag == "a"} <= ids


def test_zero_shot_is_in_chart_and_table(study: Path, page: str) -> None:
    zero = StudyFiles(study).panels[0].zero
    assert zero is not None
    assert 'class="zero"' in page
    assert f"zero-shot {zero:.3f}" in page


def test_every_seed_is_a_dot(study: Path, page: str) -> None:
    runs = [r for r in StudyFiles(study).rows if r["fraction"] > 0]
    assert page.count('class="seed"') == len(runs)


def test_tooltips_name_seeds_and_flops(page: str) -> None:
    assert re.search(
        r"<title>bm25 at 25\s% \(20 examples\)\nmean [\d.]+; seed 3: [\d.]+, seed 6: [\d.]+\n.*FLOPs", page
    )


def test_the_match_of_an_example_is_shown(page: str) -> None:
    assert re.search(r"most like\s+subtask “(lamp|bed)”", page)
    assert "One reference of it" in page


def test_writing_twice_gives_the_same_bytes(study: Path, page: str) -> None:
    assert write_report(study).read_text(encoding="utf-8") == page


def test_a_moved_and_thinned_study_still_makes_a_page(study: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(study, moved)
    for name in ("models", "scores", "evaluations"):
        shutil.rmtree(moved / name)
    shutil.rmtree(moved / "shared")
    (moved / "config.yaml").unlink()
    hidden = study.rename(study.with_name("hidden"))
    try:
        page = write_report(moved).read_text(encoding="utf-8")
    finally:
        hidden.rename(study)
    assert "The pool is no longer there" in page
    assert "The score directories are no longer there" in page
    assert "deleted, so the matching references are not known" in page


def test_a_table_alone_makes_a_page(study: Path, tmp_path: Path) -> None:
    shutil.copy(study / "results.parquet", tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "its selections are no longer there" in page
    assert 'class="chart"' in page


def test_no_study_is_a_clear_error(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results table; run the study first"):
        write_report(tmp_path)
    empty = pq.read_table(study / "results.parquet").slice(0, 0)
    pq.write_table(empty, tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="the results table is empty"):
        write_report(tmp_path)
