"""The page says of every record of the pool what became of it, as every verb does on the screen."""

from __future__ import annotations

import json
from html import escape

import pytest

from paydirt.core.config import parse
from paydirt.report.build import write_report
from paydirt.study.recipe import Study
from paydirt.study.run import run_study

from .conftest import recipe, turns


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a study whose pool lost, repeated, cut and did not use something; a hostile name among its columns."""
    folder = tmp_path_factory.mktemp("account")
    values = recipe(folder)
    rows = [turns(f"which fruit is number {i}", f"apple {i}") | {"<script>": "x"} for i in range(20)]
    rows += [turns("which fruit is number 1", "apple 1"), {"messages": [{"role": "user", "content": "alone"}]}]
    rows += [turns("name " * 90, "apple")]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values |= {"pool": {"files": str(folder / "pool.jsonl"), "on_bad": "skip"}, "methods": ["random"], "seeds": [3]}
    study = run_study(parse(Study, values | {"fractions": [0.5]}), folder / "study").parent
    return write_report(study).read_text(encoding="utf-8")


def test_every_loss_is_in_the_page(page: str) -> None:
    section = page.split('<section id="account">')[1].split("</section>")[0]
    assert "23 records read, 22 kept" in section
    for kind, count, what in (
        ("skipped", 1, "no assistant turn"),
        ("renamed", 1, "repeated content"),
        ("counted", 1, "examples cut at max_length"),
        ("not used", 20, f"column {escape('<script>')}"),
    ):
        [row] = [r for r in section.split("<tr>") if what in r]
        assert f">{kind}</th>" in row
        assert f'<td class="n">{count}</td>' in row
    assert "pool.jsonl:22" in section  # the first place
    assert '<a href="#account">' in page
