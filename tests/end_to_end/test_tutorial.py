"""The tutorial notebook and the README's Python example run as they stand, each in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from support.command import ROOT, environment
from support.stages import Tiny

# Cells in order, in one namespace that is `__main__`, as a kernel runs them.
CELLS = """
import json, sys
import __main__
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), __main__.__dict__)
"""


def run(arguments: list[str], cwd: Path) -> str:
    """stdout of a Python process in an empty folder with an empty cache; the test fails where it fails."""
    cwd.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment(PAYDIRT_CACHE=str(cwd / "cache")),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
    return done.stdout


def test_the_tutorial_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    notebook = ROOT / "docs" / "tutorial.ipynb"
    shown = run(["-c", CELLS, str(notebook)], tmp_path / "work")
    for told in ("Pool(", "Target(worded: 32 references", "Quote(gradient", "Selection(20 examples", "Advice("):
        assert told in shown
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["cache"], "nothing is left but in the cache"


def test_the_tutorial_is_a_clean_notebook() -> None:
    """No outputs of somebody's machine are kept, and it is of the format that it says."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert all(cell["id"] for cell in notebook["cells"])
    assert not any(cell.get("outputs") for cell in notebook["cells"])


def test_the_readme_example_runs(tiny: Tiny, tmp_path: Path) -> None:
    """The block under "In Python", with a small model, pool and target in the place of the world's."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(import paydirt as pay\n.*?)^```", text, re.M | re.S)
    assert len(block.splitlines()) <= 12
    folders = (tmp_path / "world" / "pool", tmp_path / "world" / "targets" / "worded")
    for folder in folders:
        folder.mkdir(parents=True)
    for source, place in (
        ("pool.jsonl", folders[0] / "pool.jsonl"),
        ("references.jsonl", folders[1] / "references.jsonl"),
        ("test.jsonl", folders[1] / "test.jsonl"),
    ):
        place.write_bytes((tiny.root / source).read_bytes())
    (tmp_path / "world" / "model").symlink_to(tiny.model)
    shown = run(["-c", block], tmp_path)
    assert "Nearest(" in shown
    assert "exact_match" in shown
