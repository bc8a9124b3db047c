"""Law of kills: whatever a command was doing when it was killed, running it again ends with the bytes of a quiet run.

Commands are started from a warm process, killed after a random part of the time that they take, several times over the
same output and cache, and then let finish. One study runs the scorers, selections, trainings and evaluations, so that all of
them share one quiet run. `PAYDIRT_KILLS` sets how many kills each test run makes in all (`make test-slow`: 20); those
that come too late, when all was done, are made up for by starting anew. `PAYDIRT_KILL_LOG` names a file for a line a
stage: kills and where they hit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from support.fuzz.ground import ENCODING, Ground, of_tiny, recipe
from support.fuzz.process import call
from support.stages import Tiny, whole

KILLS = int(os.environ.get("PAYDIRT_KILLS", "4"))
SLOWEST = 600.0  # seconds for a quiet run on a machine that is busy with other things
WARMUP = {"warmup_epochs": 2, "warmup_fraction": 0.5, "warmup_batch_size": 8, "k": 64, "checkpoints": 2}
TUNING = ["--learning-rate", "1e-3", "--batch-size", "8", "--epochs", "3"]


def scoring(ground: Ground, method: str, *more: str) -> list[str]:
    target = ["--target", "t", "--references", str(ground.root / "references.jsonl")]
    return ["score", method, "--pool", ground.pool, *target, "--model", str(ground.root / "model"), *ENCODING, *more]


def training(ground: Ground, *more: str) -> list[str]:
    return ["train", "--data", ground.pool, "--model", str(ground.root / "model"), *TUNING, *ENCODING, *more]


def study(ground: Ground) -> list[str]:
    path = ground.root / "killed-recipe.yaml"
    gradient: dict[str, Any] = {"name": "gradient", **WARMUP}
    methods: list[Any] = ["bm25", "rds", "ifd", {"name": "ppl", "tune_epochs": 1}, gradient]
    path.write_text(yaml.safe_dump(recipe(ground) | {"methods": methods, "fractions": [0.2], "name": "killed"}))
    return ["run", str(path)]


def unstored(ground: Ground) -> list[str]:
    flags = [part for key, value in WARMUP.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return scoring(ground, "gradient", *flags, "--no-store")


# Of each command its share of 20 kills.
STAGES: dict[str, tuple[int, Callable[[Ground], list[str]]]] = {
    "study": (10, study),
    "train-full": (
        3,
        lambda g: training(g, "--method", "full", "--save", "steps", "--save-steps", "4", "--keep-checkpoints"),
    ),
    "gradient-without-store": (2, unstored),
    "train-lora": (2, lambda g: training(g, "--method", "lora", "--save", "epoch")),
    "dedup": (1, lambda g: ["dedup", "--pool", g.pool]),
    "decontaminate": (
        1,
        lambda g: ["decontaminate", "--pool", g.pool, "--references", str(g.root / "references.jsonl")],
    ),
    "split": (1, lambda g: ["split", "--pool", g.pool]),
}


@pytest.fixture(scope="module")
def ground(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The tiny files under one folder, as the fuzzer has them."""
    return of_tiny(tiny, tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("stage", STAGES)
def test_killed_anywhere_and_run_again_it_leaves_the_same_bytes(stage: str, ground: Ground, tmp_path: Path) -> None:
    share, command = STAGES[stage]
    arguments, kills = command(ground), max(1, round(KILLS * share / 20))

    def run(place: str, kill_after: float | None = None) -> Any:
        out = ["--out", str(tmp_path / place / "out")]
        return call([*arguments, *out], tmp_path / place, SLOWEST, kill_after, cache=tmp_path / place / "cache")

    call(["--version"], tmp_path)  # the first call waits for the fork server's libraries
    starting = call(["--version"], tmp_path).seconds  # before that there is nothing to interrupt
    quiet = run("quiet")
    assert quiet.code == 0, quiet.text
    right = whole(tmp_path / "quiet")

    def compare(after: int) -> None:
        left = whole(tmp_path / "killed")
        assert left.keys() == right.keys()
        for name, (files, notes) in right.items():
            assert left[name][0].keys() == files.keys(), name
            differing = [f for f in files if left[name][0][f] != files[f]]
            assert not differing, f"{name}: {differing} differ after {after} kills"
            assert left[name][1] == notes, f"{name}: FLOPs differ after {after} kills"

    random = Random(f"{stage}-{os.environ.get('PAYDIRT_KILL_SEED', '0')}")
    killed, halves, late = 0, 0, 0
    # Shares of the quiet time. Many kills go far together, since each run goes on from the last; few must come late enough
    # to find work begun.
    early, late_enough = (0.1, 0.5) if share >= 10 else (0.4, 1.0)
    while killed < kills and late < 2 * kills + 4:
        sooner = 0.8**late  # the quiet run may have been slowed by others' work
        done = run(
            "killed", kill_after=starting + sooner * random.uniform(early, late_enough) * (quiet.seconds - starting)
        )
        assert done.code in (0, None), done.text
        if done.code is None:
            killed += 1
            halves += any(tmp_path.glob("killed/**/*.part"))
        else:
            compare(killed)
            shutil.rmtree(tmp_path / "killed")
            late += 1
    assert killed, "a law whose kills all come too late says nothing"
    final = run("killed")
    assert final.code == 0, final.text
    compare(killed)
    if log := os.environ.get("PAYDIRT_KILL_LOG"):
        with open(log, "a", encoding="utf-8") as handle:
            handle.write(f"{stage}: {killed} kills, {halves} left half an artifact, {late} runs ended before theirs\n")
