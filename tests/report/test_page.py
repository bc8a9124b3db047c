"""The page of a real study: every section, nothing from outside, text from data as text."""

import json
import re
import shlex
import shutil
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from paydirt.data.pool import PoolConfig, open_pool
from paydirt.report.build import write_report
from paydirt.report.page_decision import decide
from paydirt.report.page_facts import facts
from paydirt.report.page_study import StudyFiles
from paydirt.report.style import VARIABLES, Styles
from paydirt.selection.select import selected_ids
from paydirt.study.schema import SCHEMA
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


def embedded(page: str) -> dict[str, Any]:
    """What the page's script reads."""
    (text,) = re.findall(r'<script type="application/json" id="browse-data">(.*?)</script>', page, re.S)
    return json.loads(text)  # type: ignore[no-any-return]


def test_text_from_data_is_text(page: str, parsed: Balance) -> None:
    assert SCRIPT not in page
    assert any(SCRIPT in turn[1] for row in embedded(page)["rows"] for turn in row[3]), "it is shown, as text"
    assert NAME not in page
    assert escape(NAME) in page
    assert "<b>towns</b>" not in page
    tags = Counter(tag for tag, _ in parsed.tags)
    assert not set(tags) & {"img", "iframe", "object"}
    assert not [a for _, attributes in parsed.tags for a in attributes if a.startswith("on")]


def test_only_the_page_s_own_script_may_run(page: str, parsed: Balance) -> None:
    """Two elements: data, which no browser runs, and the script that the policy names by its digest."""
    assert [a.get("type") for tag, a in parsed.tags if tag == "script"] == ["application/json", None]
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    (policy,) = (a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


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
    assert page.count(f"<title>zero-shot {zero:.3f}: the untuned model</title>") == 2, (
        "drawn for wide and for narrow windows"
    )


def test_every_seed_is_a_dot(study: Path, page: str) -> None:
    runs = [r for r in StudyFiles(study).rows if r["fraction"] > 0]
    assert len(re.findall(r"<title>\w+ at [\d.]+\s%, seed \d: [\d.]+</title>", page)) == 2 * len(runs)


def test_tooltips_name_seeds_and_flops(page: str) -> None:
    assert re.search(
        r"<title>bm25 at 25\s% \(20 examples\)\nmean [\d.]+; seed 3: [\d.]+, seed 6: [\d.]+\n.*FLOPs", page
    )


def test_a_method_has_one_colour_in_every_picture_legend_and_table(study: Path, page: str) -> None:
    """Chart, law section, legend and tables name the same CSS variable, and no picture keeps a colour of its own."""
    styles = Styles(StudyFiles(study).methods)
    for method in ("bm25", "length", "random"):
        variable = VARIABLES[styles[method].colour]
        drawn = re.findall(rf'<g id="[\w-]+" data-method="{method}">(.*?)</g>', page, re.S)
        assert len(drawn) > 10
        colours = set(re.findall(r"var\(--(\w+)\)", " ".join(drawn))) - {"paper"}
        assert colours == {variable}, method
        assert f'data-method="{method}" aria-pressed="false"><svg class="swatch {styles.colour(method)}"' in page
        assert f'<svg class="swatch {styles.colour(method)}"' in page.split('class="scores"')[1]
    svgs = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert not re.findall(r"#[0-9a-f]{6}\b", svgs), "what is drawn is drawn in the page's variables"


def test_the_first_screen_says_what_to_do(study: Path, page: str, paydirt: Any, tmp_path: Path) -> None:
    """The tiny models learn nothing, and so it says; where a run scores, it names it, rings it, and its command runs."""
    first = page.split('<section id="headline">')[1].split("</section>")[0]
    assert "Train nothing" in first
    assert "No run is above the untuned model" in first
    assert "chosen:" not in first
    other = shutil.copytree(study, tmp_path / "study")
    rows = pq.read_table(study / "results.parquet").to_pylist()
    better = [r | {"score": 0.8 if (r["method"], r["fraction"]) == ("bm25", 0.25) else r["score"]} for r in rows]
    pq.write_table(pa.Table.from_pylist(better, schema=SCHEMA), other / "results.parquet")
    first = write_report(other).read_text(encoding="utf-8").split('<section id="headline">')[1].split("</section>")[0]
    assert re.search(r"Train on 25\s% chosen by bm25 \(20 examples\)", first)
    assert "2 seeds: a suggestion, not a finding" in first
    decision = decide(StudyFiles(other), StudyFiles(other).panels[0])
    assert decision is not None
    assert decision.cell is not None
    assert all(str(escape(command)) in first for command in decision.commands)
    command = shlex.split(decision.commands[0])
    code, _, said = paydirt(*command[1:-1], tmp_path / "export")
    assert code == 0, said
    assert "over random data at the same total" in (tmp_path / "export" / "README.md").read_text(encoding="utf-8")


def test_the_table_of_examples_holds_scores_ranks_and_references(study: Path, page: str) -> None:
    data, files = embedded(page), StudyFiles(study)
    (task,) = data["tasks"]
    assert len(data["rows"]) == 78
    for method in task["methods"]:
        row = next(r for r in files.rows if r["method"] == method["name"] and r["fraction"] == 0.05 and r["seed"] == 3)
        selection = files.selection(row)
        assert selection is not None
        ranked = sorted((rank, data["rows"][i][0]) for i, rank in enumerate(method["rank"]) if rank)
        assert [id for _, id in ranked] == selected_ids(selection.path)
    nearest = next(m for m in task["methods"] if m["name"] == "bm25")["nearest"]
    assert all(len(found) == 2 for found in nearest)
    assert {task["references"][place][1] for found in nearest for place, _ in found} == {"lamp", "bed"}


def test_rows_beyond_the_page_are_in_a_file_beside_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paydirt.report import page_browse

    monkeypatch.setattr(page_browse, "EMBEDDED", 20)
    data = embedded(write_report(study).read_text(encoding="utf-8"))
    assert len(data["rows"]) == 20
    chosen = {data["rows"][i][0] for m in data["tasks"][0]["methods"] for i, rank in enumerate(m["rank"]) if rank}
    table = pq.read_table(study / page_browse.PARQUET)
    assert len(table) == 78
    ranks = [name for name in table.column_names if name.startswith("rank[")]
    assert {
        id for name in ranks for id, rank in zip(table["id"].to_pylist(), table[name].to_pylist()) if rank
    } == chosen
    assert any(SCRIPT in text for text in table["text"].to_pylist())
    (study / page_browse.PARQUET).unlink()
    write_report(study)


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


def test_a_table_alone_makes_a_page(study: Path, tmp_path: Path) -> None:
    shutil.copy(study / "results.parquet", tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "its selections are no longer there" in page
    assert 'class="wide"' in page


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
    assert page.count('class="wide"') == 2


@pytest.mark.parametrize(
    "absent", ["seed", "selection_seed", "metric", "n_items", "total_flops", "train_params", "model"]
)
def test_a_table_without_a_column_makes_a_page(study: Path, tmp_path: Path, absent: str) -> None:
    table = pq.read_table(study / "results.parquet")
    pq.write_table(table.drop_columns([absent]), tmp_path / "results.parquet")
    assert "<h2>What to do</h2>" in write_report(tmp_path).read_text(encoding="utf-8")
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
