"""The documentation site: built strictly and without a network, and every command and block in its pages runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.browser import PROGRAM, browser
from support.command import ROOT, environment
from support.data import pool_records, write_jsonl
from support.stages import TRAINING, Tiny

DOCS = ROOT / "docs"
PAGES = [DOCS / "start.md", DOCS / "plan.md", *(DOCS / "how-to" / f"{name}.md" for name in (
    "my-csv", "eight-gpus", "my-method", "my-benchmark", "from-less", "from-llama-factory", "cluster"))]  # fmt: skip
# Made small by the test: the world itself is built by the README's first command, which its own test runs.
MADE = "paydirt world --out world"


# ---- what the pages tell to do ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small `world/` in the shape of the real one."""
    work = tmp_path_factory.mktemp("docs")
    world = work / "world"
    for source in ("sums", "capitals", "chat"):
        write_jsonl(world / "pool" / f"{source}.jsonl", [r for r in pool_records() if r["source"] == source])
    worded = world / "targets" / "worded"
    worded.mkdir(parents=True)
    for name in ("references", "test"):
        (worded / f"{name}.jsonl").write_bytes((tiny.root / f"{name}.jsonl").read_bytes())
    (world / "model").symlink_to(tiny.model)
    recipe = {
        "name": "demo", "pool": {"files": [str(f) for f in sorted((world / "pool").iterdir())]},
        "targets": [{"name": "worded", "references": str(worded / "references.jsonl"), "test": str(worded / "test.jsonl")}],
        "model": {"path": str(tiny.model)}, "encoding": {"max_length": 128}, "methods": ["random", "bm25"],
        "fractions": [0.1, 1.0], "seeds": [3], "training": TRAINING, "workers": 1,
    }  # fmt: skip
    (world / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return work


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, title and text of every code block of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', text, re.M | re.S)
    return [(language, title, body) for language, title, body in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_everything_on_a_page_runs(page: Path, work: Path, paydirt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a page shows are written, its commands and Python run in order, in one folder after `start.md`'s."""
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    ran = 0
    for language, title, body in blocks(page):
        if title:
            (work / title).write_text(body, encoding="utf-8")
        elif language == "python":
            done = subprocess.run(
                [sys.executable, "-c", body], cwd=work, env=environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, f"{page.name}\n{body}\n{done.stderr[-3000:]}"
            ran += 1
        elif language == "bash":
            for line in body.splitlines():
                if line == MADE:
                    continue
                if "--execution ray" in line:
                    pytest.importorskip("ray")
                code, out, said = paydirt(*shlex.split(line, comments=True)[1:])
                assert code == 0, f"{page.name}: {line}\n{out[-1500:]}\n{said[-3000:]}"
                ran += 1
    assert ran, "a page that tells nothing to do need not be in the list"


def test_every_page_with_something_to_run_is_in_the_list() -> None:
    told = {page for page in DOCS.glob("**/*.md") if any(lang in ("bash",) for lang, _, _ in blocks(page))}
    own_tests = {DOCS / "benchmarks.md", DOCS / "selection-cost.md"}
    assert told - set(PAGES) - own_tests == set()


def test_the_command_that_the_test_leaves_out_is_the_readme_s_first() -> None:
    (first, *_) = re.findall(r"^paydirt .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert first == MADE


@pytest.mark.parametrize("name", ["alpaca_to_adapter.sh", "alpaca_to_adapter.py"])
def test_the_example_goes_from_alpaca_and_a_table_to_an_adapter_and_a_receipt(
    name: str, tiny: Tiny, tmp_path: Path
) -> None:
    records = [
        (r["messages"][0]["content"], r["messages"][1]["content"]) for r in pool_records() if len(r["messages"]) == 2
    ]
    (tmp_path / "alpaca.json").write_text(
        json.dumps([{"instruction": q, "input": "", "output": a} for q, a in records])
    )
    pairs = [(f"What is {a} plus 7?", f"The answer is {a + 7}.") for a in range(30, 36)]
    (tmp_path / "faq.csv").write_text("question,answer\n" + "".join(f"{q},{a}\n" for q, a in pairs))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "paydirt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m paydirt "$@"\n')
    (tmp_path / "bin" / "paydirt").chmod(0o755)
    env = environment(PAYDIRT_CACHE=str(tmp_path / "cache"), PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    program = ["sh"] if name.endswith(".sh") else [sys.executable]
    command = [*program, str(ROOT / "examples" / name), "alpaca.json", "faq.csv", str(tiny.model), "out"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "receipt" in (tmp_path / "out" / "export" / "README.md").read_text()
    (adapter,) = tmp_path.rglob("adapter_model.safetensors")
    assert str(adapter.parent).endswith("/model")
    lines = [
        line
        for line in (ROOT / "examples" / name).read_text().splitlines()
        if line and not line.startswith(("#", '"""'))
    ]
    if name.endswith(".sh"):
        assert sum(line.startswith("paydirt ") for line in lines) == 6
    else:
        assert len(lines) - lines.count('python alpaca_to_adapter.py ALPACA.json FAQ.csv MODEL OUT"""') <= 11


# ---- the site -----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page asks the browser to fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.fetched += filter(None, [values.get("src")])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.fetched += filter(None, [values.get("href")])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mkdocs build --strict`, in a process that cannot reach a network."""
    pytest.importorskip("mkdocs", reason="pip install 'paydirt-llm[docs]'")
    out = tmp_path_factory.mktemp("site")
    blocked = "http://127.0.0.1:9"  # nobody listens there
    env = environment(
        NO_MKDOCS_2_WARNING="1", HTTP_PROXY=blocked, HTTPS_PROXY=blocked, http_proxy=blocked, https_proxy=blocked
    )
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_every_method_command_and_public_name_has_its_place(site: Path) -> None:
    import typer

    import paydirt
    from paydirt.cli import command
    from paydirt.scoring.base import SCORERS
    from paydirt.selection.policies.base import POLICIES

    for room, registry in (("methods", SCORERS), ("policies", POLICIES)):
        for name in registry.names():
            if registry.origin(name) == "":
                told = "".join(read(site / room / f"{name}.html").text)
                assert "Options" in told, name
                assert registry.get(name).source in told, name
    evidence = "".join(read(site / "methods" / "gradient.html").text)
    assert "2410.16208" in evidence
    assert "Built-in world" in evidence
    if not command.app.registered_commands:
        command._register()
    for name in typer.main.get_command(command.app).commands:  # type: ignore[attr-defined]
        assert (site / "reference" / "commands" / f"{name}.html").is_file(), name
    told = "".join(read(site / "reference" / "python.html").text)
    assert [name for name in paydirt.HOME if name not in told] == []


def test_every_yaml_key_is_in_the_reference(site: Path) -> None:
    from paydirt.replay import STAGES
    from paydirt.study.recipe import Study

    text = (site / "reference" / "recipe.html").read_text(encoding="utf-8")
    for cls in (Study, *(cls for cls, _ in STAGES.values())):
        for key in cls.model_fields:
            assert f"<code>{key}</code>" in text, (cls, key)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        outside = [link for link in read(path).fetched if re.match(r"(https?:)?//", link)]
        assert outside == [], path


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; apt-get install chromium to run this test")
@pytest.mark.parametrize("start", ["index.html", "reference/commands/score.html"])
def test_the_search_works_from_a_folder(site: Path, tmp_path: Path, start: str) -> None:
    """Typed into the box of a page that no server gave; a click on a hit leads to the page it names."""
    with browser(tmp_path) as page:
        page.open(site / start)
        page.js("document.querySelector('input.md-search__input').focus()")  # from a folder the index is read only now
        page.wait("document.querySelector('.md-search-result__meta').textContent.includes('Type to start')")
        page.type("input.md-search__input", "loss drop")
        page.call("Input.dispatchKeyEvent", type="keyUp", key="p")  # text that is put in whole ends with no key
        page.wait("document.querySelectorAll('.md-search-result__item a').length > 0")
        page.wait("document.querySelector('.md-search-result__meta').textContent.includes('matching')")
        hits = page.js("[...document.querySelectorAll('.md-search-result__link')].map(a => a.href)")
        assert any("methods/drop.html" in hit for hit in hits), hits
        assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
        assert page.errors == []


def test_generated_pages_are_not_committed() -> None:
    assert not (DOCS / "methods").exists()
    assert not (DOCS / "reference").exists()
