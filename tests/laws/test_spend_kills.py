"""Law of kills for a budget: whenever `paydirt spend` is killed, it ends as a quiet run does, and never over its budget.

`PAYDIRT_KILLS` sets how many kills there are (`make test-slow`: 20); each comes after a random share of the quiet run's
time, over the same output and cache, and after each the ledger of what lies there is added up.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from support.fuzz.ground import Ground, of_tiny, recipe
from support.fuzz.process import Outcome, call
from support.stages import Tiny, whole

from paydirt.core.config import parse
from paydirt.study.recipe import Study
from paydirt.study.spend import open_world

KILLS = int(os.environ.get("PAYDIRT_KILLS", "3"))
LIMIT = 600.0  # seconds for a quiet run on a machine that is busy with other things
COURSE = ("spend.json", "spend.md", "config.yaml")


@pytest.fixture(scope="module")
def ground(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return of_tiny(tiny, tmp_path_factory.mktemp("spend-kills"))


def values(ground: Ground) -> dict[str, Any]:
    methods = ["random", "bm25", {"name": "ppl", "tune_epochs": 1}]
    own = {"name": "mortal", "methods": methods, "evaluation": {"name": "likelihood"}}
    return recipe(ground) | own


def charged(folder: Path, convention: str = "architectural") -> float:
    """FLOPs of all finished scores and trainings below a folder."""
    total = 0.0
    for _, notes in whole(folder).values():
        total += float(notes.get("charged_flops", 0.0))
        predicted = notes.get("predicted_flops")
        total += float(predicted[convention]) if isinstance(predicted, dict) else 0.0
    return total


def test_killed_anywhere_it_ends_the_same_and_never_over_budget(ground: Ground, tmp_path: Path) -> None:
    path = ground.root / "recipe.yaml"
    path.write_text(yaml.safe_dump(values(ground)))
    world = open_world(parse(Study, values(ground)), None, tmp_path / "asked")
    budget = 1.6 * world.training_flops(world.total, world.count)

    def run(place: str, kill_after: float | None = None) -> Outcome:
        command = ["spend", str(path), "--budget", repr(budget), "--out", str(tmp_path / place / "out")]
        return call(command, tmp_path / place, LIMIT, kill_after, cache=tmp_path / place / "cache")

    call(["--version"], tmp_path)  # the first call waits for the fork server's libraries
    starting = call(["--version"], tmp_path).seconds  # before that there is nothing to interrupt
    quiet = run("quiet")
    assert quiet.code == 0, quiet.text
    right = whole(tmp_path / "quiet")
    steps = json.loads((tmp_path / "quiet" / "out" / "spend.json").read_text())["steps"]
    assert len(steps) > 2, "a course without a pilot has little to lose"
    assert 0 < charged(tmp_path / "quiet" / "out") <= budget

    def compare(after: int) -> None:
        left = whole(tmp_path / "killed")
        assert left == right, f"artifacts differ after {after} kills"
        for name in COURSE:
            ends = [(tmp_path / place / "out" / name).read_text().replace(place, "") for place in ("quiet", "killed")]
            assert ends[0] == ends[1], f"{name} differs after {after} kills"

    random = Random(f"spend-{os.environ.get('PAYDIRT_KILL_SEED', '0')}")
    killed, late = 0, 0
    while killed < KILLS and late < KILLS + 4:
        share = random.uniform(0.15, 0.8) * 0.8**late
        done = run("killed", kill_after=starting + share * (quiet.seconds - starting))
        assert done.code in (0, None), done.text
        assert charged(tmp_path / "killed") <= budget, f"over budget after {killed} kills"
        if done.code is None:
            killed += 1
        else:  # it came too late; begin anew
            compare(killed)
            shutil.rmtree(tmp_path / "killed")
            late += 1
    assert killed, "a law whose kills all come too late says nothing"
    final = run("killed")
    assert final.code == 0, final.text
    compare(killed)
