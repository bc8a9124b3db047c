"""The page of a real study: every section, nothing from outside, text from data as text."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paydirt.data.pool import PoolConfig, open_pool
from paydirt.report.build import write_report
from paydirt.report.page_facts import facts
from paydirt.report.page_study import StudyFiles
from paydirt.study.table import results_tables

from .conftest import NAME, SCRIPT, turns

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


def test_skipped_records_are_counted_by_reason(study: Path, tmp_path: Path) -> None:
    """A study whose pool left a record out has a page, and the page says which and how many."""
    lines = [json.dumps(turns(f"question {i}", "answer")) for i in range(3)]
    (tmp_path / "pool.jsonl").write_text("\n".join([*lines, '{"messages": []}', '{"messages": 3}']) + "\n")
    files = StudyFiles(study)
    files.__dict__["pool"] = open_pool(
        PoolConfig(files=[str(tmp_path / "pool.jsonl")], on_bad="skip"), tmp_path / "cache"
    )
    reasons = files.pool.notes["skipped"] if files.pool else {}
    assert sum(entry["count"] for entry in reasons.values()) == 2
    said = dict(facts(files))["Left out of the pool"]
    assert "2 records skipped at import" in said
    assert all(reason in said for reason in reasons)


def test_models_and_metrics_of_one_name_are_not_averaged(study: Path, tmp_path: Path) -> None:
    """Two tables put together: the page has a section for each, and every cell the seeds of one."""
    table = pq.read_table(study / "results.parquet")
    columns = table.column_names
    other = table.set_column(columns.index("model_id"), "model_id", pa.array(["0123456789abcdef"] * len(table)))
    other = other.set_column(columns.index("train_params"), "train_params", pa.array([7_000_000_000] * len(table)))
    pq.write_table(pa.concat_tables([table, other]), tmp_path / "results.parquet")
    panels = StudyFiles(tmp_path).panels
    assert [len(p.cells["bm25", 0.05].rows) for p in panels] == [2, 2]
    assert panels[0].title != panels[1].title
    assert "7e+09 parameters" in panels[1].title
    assert len(results_tables(tmp_path / "results.parquet")) == 2
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count('class="chart"') == 2


@pytest.mark.parametrize(
    "absent", ["seed", "selection_seed", "metric", "n_items", "total_flops", "train_params", "model"]
)
def test_a_table_without_a_column_makes_a_page(study: Path, tmp_path: Path, absent: str) -> None:
    table = pq.read_table(study / "results.parquet")
    pq.write_table(table.drop_columns([absent]), tmp_path / "results.parquet")
    assert "<h2>In short</h2>" in write_report(tmp_path).read_text(encoding="utf-8")
    assert len(results_tables(tmp_path / "results.parquet")) == 1
    assert "None:" not in write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("score", "high", "column 'score' is not double"),
        ("seed", "three", "column 'seed' is not int64"),
        ("seed", [1], "column 'seed' is not int64"),
        ("fraction", float("nan"), "row 0, fraction is nan"),
        ("fraction", -1.0, "row 0, fraction is -1.0"),
        ("task", None, "row 0 has no task"),
        ("total_flops", float("inf"), "row 0, total_flops is inf"),
    ],
)
def test_an_odd_table_is_named(study: Path, tmp_path: Path, column: str, values: object, message: str) -> None:
    table = pq.read_table(study / "results.parquet")
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([values] * len(table))), tmp_path / "results.parquet")
    for read in (write_report, lambda folder: results_tables(folder / "results.parquet")):
        with pytest.raises(ValueError, match=message):
            read(tmp_path)
    (tmp_path / "results.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        write_report(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="no column task, method, fraction, score"):
        write_report(tmp_path)


def test_the_table_says_what_the_spread_covers(study: Path) -> None:
    caption = str(results_tables(study / "results.parquet")[0].caption)
    assert caption == "spread covers training, and of random selecting too"
    assert caption in dict(facts(StudyFiles(study)))["Seeds"]


def test_no_study_is_a_clear_error(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results table; run the study first"):
        write_report(tmp_path)
    empty = pq.read_table(study / "results.parquet").slice(0, 0)
    pq.write_table(empty, tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="the results table is empty"):
        write_report(tmp_path)
