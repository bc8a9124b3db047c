"""Law of kills: whatever a command was doing when it was killed, running it again ends with the bytes of a quiet run.

Commands are started from a warm process, killed after a random part of the time that they take, several times over the
same output and cache, and then let finish. `PAYDIRT_KILLS` sets how many kills each test run makes in all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from support.fuzz.ground import ENCODING, Ground, recipe
from support.fuzz.process import call
from support.stages import Tiny, files_of

KILLS = int(os.environ.get("PAYDIRT_KILLS", "20"))
WARMUP = [
    "--warmup-epochs",
    "2",
    "--warmup-fraction",
    "0.5",
    "--warmup-batch-size",
    "8",
    "--k",
    "64",
    "--checkpoints",
    "2",
]
TUNING = ["--learning-rate", "1e-3", "--batch-size", "8", "--epochs", "3"]


def scoring(ground: Ground, method: str, *more: str) -> list[str]:
    target = ["--target", "t", "--references", str(ground.root / "references.jsonl")]
    return ["score", method, "--pool", ground.pool, *target, "--model", str(ground.root / "model"), *ENCODING, *more]


def training(ground: Ground, *more: str) -> list[str]:
    return ["train", "--data", ground.pool, "--model", str(ground.root / "model"), *TUNING, *ENCODING, *more]


def study(ground: Ground) -> list[str]:
    path = ground.root / "killed-recipe.yaml"
    methods: list[Any] = ["random", {"name": "ppl", "tune_epochs": 1}]
    path.write_text(yaml.safe_dump(recipe(ground) | {"methods": methods, "fractions": [0.2], "name": "killed"}))
    return ["run", str(path)]


STAGES: dict[str, Callable[[Ground], list[str]]] = {
    "bm25": lambda g: scoring(g, "bm25"),
    "rds": lambda g: scoring(g, "rds"),
    "ppl": lambda g: scoring(g, "ppl", "--tune-epochs", "2"),
    "ifd": lambda g: scoring(g, "ifd"),
    "gradient": lambda g: scoring(g, "gradient", *WARMUP),
    "gradient-without-store": lambda g: scoring(g, "gradient", *WARMUP, "--no-store"),
    "train-full": lambda g: training(
        g, "--method", "full", "--save", "steps", "--save-steps", "4", "--keep-checkpoints"
    ),
    "train-lora": lambda g: training(g, "--method", "lora", "--save", "epoch"),
    "dedup": lambda g: ["dedup", "--pool", g.pool],
    "decontaminate": lambda g: ["decontaminate", "--pool", g.pool, "--references", str(g.root / "references.jsonl")],
    "split": lambda g: ["split", "--pool", g.pool],
    "study": study,
}


@pytest.fixture(scope="module")
def ground(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The tiny files under one folder, as the fuzzer has them."""
    root = tmp_path_factory.mktemp("kills")
    for name in ("pool", "references", "test"):
        (root / f"{name}.jsonl").write_bytes((tiny.root / f"{name}.jsonl").read_bytes())
    (root / "model").symlink_to(tiny.model)
    return Ground(root)


def whole(folder: Path) -> dict[str, Any]:
    """Bytes of every finished artifact below a folder, and the FLOPs that its manifest states."""
    found: dict[str, Any] = {}
    for manifest in sorted(folder.rglob("manifest.json")):
        facts = json.loads(manifest.read_text())
        if "stage" in facts:
            name = str(manifest.parent.relative_to(folder))
            notes = {k: v for k, v in facts["notes"].items() if "flops" in k}
            found[name] = (files_of(manifest.parent), notes)
    return found


def kills_of(stage: str) -> int:
    """This stage's share of the kills; every stage has at least one."""
    names = sorted(STAGES)
    return max(1, KILLS // len(names) + (names.index(stage) < KILLS % len(names)))


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_killed_anywhere_and_run_again_it_leaves_the_same_bytes(stage: str, ground: Ground, tmp_path: Path) -> None:
    arguments = STAGES[stage](ground)

    def run(place: str, kill_after: float | None = None) -> Any:
        out = ["--out", str(tmp_path / place / "out")]
        return call([*arguments, *out], tmp_path / place, 240, kill_after, cache=tmp_path / place / "cache")

    quiet = run("quiet")
    assert quiet.code == 0, quiet.text
    random, killed = Random(f"{stage}-{os.environ.get('PAYDIRT_KILL_SEED', '0')}"), 0
    for _ in range(kills_of(stage)):
        done = run("killed", kill_after=random.uniform(0.05, 1.0) * quiet.seconds)
        killed += done.code is None
        assert done.code in (0, None), done.text
    final = run("killed")
    assert final.code == 0, final.text
    left, right = whole(tmp_path / "killed"), whole(tmp_path / "quiet")
    assert left.keys() == right.keys()
    for name, (files, notes) in right.items():
        assert left[name][0].keys() == files.keys(), name
        differing = [f for f in files if left[name][0][f] != files[f]]
        assert not differing, f"{name}: {differing} differ after {killed} kills"
        assert left[name][1] == notes, f"{name}: FLOPs differ after {killed} kills"
