"""Laws of progress: it moves inside items, whoever works, in every form; and no byte depends on it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ROOT, environment
from support.data import record, write_jsonl
from support.stages import Tiny, files_of

LINE = re.compile(r"^(?P<title>[\w ]+?) (?P<done>[\d,]+)/(?P<total>[\d,]+)  (?P<rate>[\d.,]+)/s, (?P<time>.+)$")


@pytest.fixture(scope="module")
def pool(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, the last of them short, of texts long enough that a shard takes seconds."""
    root = tmp_path_factory.mktemp("long")
    rows = [record(f"e{i:05d}", f"What is {i} plus {i}? " * 4, f"The answer is {2 * i}. " * 3) for i in range(4500)]
    return write_jsonl(root / "pool.jsonl", rows)


def score(pool: Path, tiny: Tiny, out: Path, *more: str, every: str = "0.05") -> tuple[list[re.Match[str]], str]:
    """Lines of progress in stderr of `paydirt score rds` in a process of its own, whose stderr is a pipe; all of it."""
    command = [sys.executable, "-m", "paydirt", "score", "rds", "--pool", str(pool), "--model", str(tiny.model)]
    command += [
        "--references",
        str(tiny.root / "references.jsonl"),
        "--max-length",
        "128",
        "--out",
        str(out / "scores"),
    ]
    command += ["--cache", str(out / "cache"), *more]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(PAYDIRT_PROGRESS=every), timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return [m for line in done.stderr.splitlines() if (m := LINE.match(line))], done.stderr


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_pipe_gets_lines_that_move_inside_shards(workers: str, pool: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Counts that are no whole shards (4,096 and 404 rows), never falling, up to the end; by one process and by two."""
    lines, said = score(pool, tiny, tmp_path, "--workers", workers)
    mine = [line for line in lines if line["title"] == "hidden"]
    done = [number(line["done"]) for line in mine]
    assert {number(line["total"]) for line in mine} == {4500}
    assert done == sorted(done)
    assert done[-1] == 4500
    assert len({n for n in done if n not in (0, 404, 4096, 4500)}) >= 2, done
    assert any("left" in line["time"] for line in mine)
    assert "\x1b" not in said
    assert "\r" not in said


def test_a_short_run_says_nothing_of_it(pool: Path, tiny: Tiny, tmp_path: Path) -> None:
    """A line a minute: what takes seconds has none; and the scores are those of any other run, to the byte."""
    lines, _ = score(pool, tiny, tmp_path, every="")
    assert lines == []
    score(pool, tiny, tmp_path / "other", "--workers", "2")
    assert files_of(tmp_path / "scores") == files_of(tmp_path / "other" / "scores")


def test_a_study_moves_while_its_models_train(tiny: Tiny, tmp_path: Path) -> None:
    """Two trainings by two workers: shares of them are told before one has ended."""
    code = """
from pathlib import Path
from paydirt.core import progress
from paydirt.execution.local import Local
from support.slow import steps
seen = []
old = progress.Bar.reached
def reached(bar):
    seen.append(old(bar))
    return seen[-1]
progress.Bar.reached = reached
print(Local(2).map(steps, [5, 5], "tuning"))
assert any(0 < n < 1 or 1 < n < 2 for n in seen), seen
assert seen == sorted(seen) and seen[-1] == 2, seen
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
        env=environment(PYTHONPATH=f"{ROOT}:{ROOT}/tests", PAYDIRT_PROGRESS="0.1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[5, 5]"
    assert "tuning 2/2" in done.stderr
