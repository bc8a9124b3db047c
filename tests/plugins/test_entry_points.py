"""Methods of other distributions: a real one, built and installed by pip into a folder, found in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import environment
from support.stages import Tiny

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "pebbles"
version = "1.2"
[project.entry-points."paydirt.scorers"]
vowels = "pebbles.methods:Vowels"
broken = "pebbles.broken"
twin = "pebbles.twin:BM25"
nothing = "pebbles:ANSWER"
unfinished = "pebbles.unfinished"
[project.entry-points."paydirt.policies"]
alphabetical = "pebbles.methods"
[project.entry-points."paydirt.targets"]
greetings = "pebbles.tasks"
[project.entry-points."paydirt.benchmarks"]
always = "pebbles.tasks:Always"
[project.entry-points."paydirt.learners"]
average = "pebbles.learners:Average"
[tool.setuptools]
packages = ["pebbles"]
"""
FILES = {
    "__init__.py": "ANSWER = 42\n",
    "broken.py": "import a_library_that_nobody_has\n",
    "twin.py": """
from paydirt.scoring.base import Scorer

class BM25(Scorer):
    \"\"\"Another's bm25, which must not take the place of ours.\"\"\"
    name = "bm25"
""",
    "unfinished.py": """
from paydirt.scoring.base import Scorer

class Unfinished(Scorer):
    \"\"\"A field without a type, which pydantic refuses.\"\"\"
    name = "unfinished"
    strength = 3
""",
    "methods.py": """
import numpy as np
from paydirt.scoring.base import Scorer
from paydirt.selection.policies.base import Policy

class Vowels(Scorer):
    \"\"\"Share of vowels.\"\"\"
    name = "vowels"
    letters: str = "aeiou"

    def score_rows(self, job, state, rows):
        texts = job.pool.texts_at(rows)
        return np.asarray([sum(c in self.letters for c in t) / max(1, len(t)) for t in texts])

class Alphabetical(Policy):
    \"\"\"By id.\"\"\"
    name = "alphabetical"

    def order(self, ranking, limit, seed):
        return ranking.rows[np.argsort(ranking.ids[ranking.rows].astype(str), kind="stable")]
""",
    "tasks.py": """
from paydirt.tasks.benchmark import Benchmark
from paydirt.tasks.references import TargetLoader, reference
from paydirt.core.types import EvalResult

class Greetings(TargetLoader):
    \"\"\"One greeting.\"\"\"
    name = "greetings"

    def references(self, config):
        return [reference("greetings", "polite", 0, "Hello?", "Good day.")]

class Always(Benchmark):
    \"\"\"Everybody passes.\"\"\"
    name = "always"

    def evaluate(self, model, encoder, target):
        return EvalResult(target.name, "pass", {"pass": 1.0}, len(target.test))
""",
    "learners.py": """
import numpy as np
from paydirt.prediction.learners import Learner

class Mean:
    def fit(self, x, y):
        self.mean = y.mean(axis=0)
        return self

    def predict(self, x):
        return np.repeat(self.mean[None], len(x), axis=0)

class Average(Learner):
    \"\"\"The mean of the points.\"\"\"
    name = "average"

    def regressor(self, seed):
        return Mean()

    def flops(self, points, width, outputs, fits, predicted):
        return float(fits * points * outputs)
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has installed the distribution `pebbles` into."""
    pytest.importorskip("setuptools", reason="builds a distribution")
    root = tmp_path_factory.mktemp("pebbles")
    (root / "source" / "pebbles").mkdir(parents=True)
    (root / "source" / "pyproject.toml").write_text(PROJECT)
    for name, text in FILES.items():
        (root / "source" / "pebbles" / name).write_text(text)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(root / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(root / "source")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return root / "site"


def run(installed: Path, *arguments: str) -> tuple[str, str]:
    """stdout and stderr of a Python process that has the distribution; the test fails where the process does."""
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(installed)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_every_family_finds_the_distribution(installed: Path) -> None:
    code = """
from paydirt.tasks.benchmark import BENCHMARKS
from paydirt.prediction.learners import LEARNERS
from paydirt.scoring.base import SCORERS
from paydirt.selection.policies.base import POLICIES
from paydirt.tasks import TARGETS, TargetConfig, load_target
for family, name in ((SCORERS, "vowels"), (POLICIES, "alphabetical"), (TARGETS, "greetings"), (BENCHMARKS, "always"),
                     (LEARNERS, "average")):
    assert name in family.names()
    print(family.kind, family.get(name).__module__, family.origin(name))
print(load_target(TargetConfig(name="greetings")).references[0].answer)
print(SCORERS.get("bm25").__module__, repr(SCORERS.origin("bm25")), "unfinished" in SCORERS.names())
"""
    out, _ = run(installed, "-c", code)
    assert out.splitlines() == [
        "method pebbles.methods pebbles 1.2",
        "policy pebbles.methods pebbles 1.2",
        "target pebbles.tasks pebbles 1.2",
        "benchmark pebbles.tasks pebbles 1.2",
        "learner pebbles.learners pebbles 1.2",
        "Good day.",
        "paydirt.scorers.bm25 '' False",
    ]


def test_a_broken_plugin_is_one_line_and_the_rest_works(installed: Path) -> None:
    out, err = run(installed, "-m", "paydirt", "methods")
    told = [line for line in err.splitlines() if line.strip()]
    assert len(told) == 4, err
    assert all("of the distribution pebbles 1.2 is left out" in line for line in told)
    for what in (
        "No module named 'a_library_that_nobody_has'",
        "two methods are called 'bm25': paydirt.scorers.bm25 and pebbles.twin",
        "pebbles:ANSWER is no method",
        "'unfinished'",
    ):
        assert what in err
    assert "| `vowels` | Share of vowels |" in out
    assert "| `bm25` | Lexical match" in out
    for name in ("vowels", "alphabetical"):
        assert f"Where they come from: `{name}` from pebbles 1.2; the others from paydirt itself." in out.splitlines()


def test_the_command_scores_and_selects_with_it(installed: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Options become flags, and the selection follows the other's policy."""
    target = ["--target", "greetings"]
    run(installed, "-m", "paydirt", "score", "vowels", "--pool", tiny.pool["files"][0], *target, "--letters", "xyz",
        "--out", str(tmp_path / "s"))  # fmt: skip
    run(installed, "-m", "paydirt", "select", str(tmp_path / "s"), "--policy", "alphabetical", "--count", "3", "--out",
        str(tmp_path / "c"))  # fmt: skip
    from paydirt.selection.select import selected_ids

    assert selected_ids(tmp_path / "c") == ["capitals-001", "capitals-004", "capitals-007"]


def test_its_learner_predicts_and_its_code_is_in_the_key(installed: Path, tiny: Tiny, tmp_path: Path) -> None:
    """The mean of the points is the best guess of nothing: all rows but the points get one value."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[1])!r})
from pathlib import Path
import numpy as np
from support.stages import Tiny
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace
tiny = Tiny(Path({str(tiny.root)!r}), Path({str(tiny.model)!r}))
lora = {{"r": 2, "alpha": 4, "dropout": 0.0}}
cheap = {{"warmup_fraction": 0.2, "warmup_epochs": 1, "warmup_batch_size": 8, "lora": lora, "k": 64}}
method = {{"name": "learned", "points": 20, "folds": 2, "refuse": False, "learner": "average", "features": ["length"],
          "truth": {{"name": "gradient", **cheap}}}}
made = tiny.score(method, Path({str(tmp_path)!r}) / "s", Workspace(Path({str(tmp_path)!r}) / "shared"))
values = np.concatenate([b for _, b in Scores(made.path).blocks()])[:, 0]
_, counts = np.unique(values, return_counts=True)
print(counts.max(), len(made.manifest["inputs"]["learner"]))
"""
    out, _ = run(installed, "-c", code)
    assert out.split() == ["40", "16"]
