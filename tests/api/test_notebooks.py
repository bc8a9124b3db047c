"""What a notebook does: classes typed into it, progress without a terminal, no pandas; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.command import environment
from support.stages import ENCODING, TRAINING, Tiny

OPENED = """
import paydirt as pay
pool = pay.Pool.from_records({pool!r})
target = pay.Target.from_records({references!r}, name="t")
"""


def run(code: str, tiny: Tiny, first: str = "", **more: str) -> tuple[str, str]:
    """stdout and stderr of a process that has a pool and a target open; the test fails where it fails."""
    names = {"pool": str(tiny.root / "pool.jsonl"), "references": str(tiny.root / "references.jsonl")}
    done = subprocess.run(
        [sys.executable, "-c", first + OPENED.format(**names) + code],
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


VOWELS = """
import numpy as np

class Vowels(pay.Scorer):
    '''Share of some letters.'''
    name = "vowels"
    letters: str = "aeiou"

    def score_rows(self, job, state, rows):
        texts = job.pool.texts_at(rows)
        return np.asarray([sum(c in self.letters for c in t) / {divisor} for t in texts])
"""


def test_a_scorer_typed_into_a_notebook(tiny: Tiny, tmp_path: Path) -> None:
    """It scores, is under its name, and a cell that is run again with other code gives other scores, not the old ones."""
    code = f"""
exec({VOWELS.format(divisor="max(1, len(t))")!r})
first = pay.score(pool, target, Vowels(letters="e"))
assert pay.Vowels is Vowels
again = pay.score(pool, target, {{"name": "vowels", "letters": "e"}})
exec({VOWELS.format(divisor=10)!r})
other = pay.score(pool, target, Vowels(letters="e"))
table = other.to_arrow()
text = pool["sums-000"]["messages"]
whole = "\\n".join(m["content"] for m in text)
print(first.path == again.path, again.artifact.fresh, first.path == other.path)
print(abs(table["score"][0].as_py() - whole.count("e") / 10) < 1e-6)
from paydirt.scoring.listing import methods_markdown
print(methods_markdown().splitlines()[-1])
try:
    pay.Vowels(leters="a")
except ValueError as error:
    print(type(error).__name__, error)
"""
    out, _ = run(code, tiny, PAYDIRT_CACHE=str(tmp_path))
    assert out.splitlines() == [
        "True False False",
        "True",
        "Where they come from: `vowels` from this session; the others from paydirt itself.",
        "ValueError method vowels: unknown key 'leters'; did you mean 'letters'?",
    ]


def test_a_scorer_typed_into_a_notebook_in_a_study_of_two_processes(tiny: Tiny, tmp_path: Path) -> None:
    """It scores in this process; the workers that train are given no method, so they need not know the class."""
    code = f"""
exec({VOWELS.format(divisor=10)!r})
made = pay.study(
    {{
        "name": "typed", "pool": pool.config, "targets": [{tiny.target!r}], "model": {tiny.model_config!r},
        "encoding": {ENCODING!r}, "methods": [Vowels(letters="e"), "length"], "fractions": [0.1], "seeds": [3],
        "training": {TRAINING!r}, "workers": 2,
    }},
    out={str(tmp_path / "study")!r},
)
print(made.results.to_arrow()["method"].to_pylist())
"""
    out, _ = run(code, tiny)
    assert out.strip() == "['zero-shot', 'vowels', 'length']"


NOTEBOOK = """
import builtins, sys, warnings
warnings.simplefilter("error")
sys.modules["ipywidgets"] = None  # not installed

class ZMQInteractiveShell:  # what rich asks for to know a notebook's kernel
    pass

builtins.get_ipython = lambda: ZMQInteractiveShell()
"""


def test_progress_in_a_notebook_without_widgets(tiny: Tiny) -> None:
    """A line that counts up to the end; no warning that asks for widgets, and none of a terminal's control codes."""
    code = """
import time
from paydirt.core.progress import console, track
assert console.is_jupyter
for _ in track(range(0, 60, 20), "scoring", 20, 60):
    time.sleep(0.3)
"""
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK + code], capture_output=True, text=True, env=environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stderr.replace("\n", "\r").split("\r") if line.strip()]
    assert len(shown) >= 2
    assert all(line.startswith("scoring ") for line in shown)
    assert "60/60" in shown[-1]
    assert "\x1b" not in done.stderr
    assert "/s" in shown[-1]
    assert done.stdout == ""


def test_pandas_is_asked_for_where_it_is_needed(tiny: Tiny) -> None:
    without = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "pandas":
            raise ImportError(name)

sys.meta_path.insert(0, NotInstalled())
"""
    code = """
scores = pay.score(pool, target, "length")
print(scores.to_arrow().num_rows)
try:
    scores.to_pandas()
except ValueError as error:
    print(error)
"""
    out, _ = run(code, tiny, without)
    assert out.splitlines() == ["60", "pandas is not installed; `pip install pandas`, or use to_arrow()"]
