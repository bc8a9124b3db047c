"""The four stages over the tiny files, with everything left out that a test does not care about."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paydirt import stages
from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse
from paydirt.scoring.base import Job, make_scorer
from paydirt.stages import (
    EvaluateStage,
    ScoreStage,
    SelectStage,
    TrainStage,
    Workspace,
    evaluate,
    score,
    select,
    train,
)

ENCODING = {"template": "tulu", "max_length": 128}
TRAINING = {"method": "full", "learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "save": "no"}


@dataclass(frozen=True)
class Tiny:
    """Paths of the tiny world."""

    root: Path
    model: Path

    @property
    def pool(self) -> dict[str, Any]:
        return {"files": [str(self.root / "pool.jsonl")]}

    @property
    def shuffled(self) -> dict[str, Any]:
        return {"files": [str(self.root / "shuffled.jsonl")]}

    @property
    def target(self) -> dict[str, Any]:
        return {
            "name": "sums_and_capitals",
            "references": str(self.root / "references.jsonl"),
            "test": str(self.root / "test.jsonl"),
        }

    @property
    def model_config(self) -> dict[str, Any]:
        return {"path": str(self.model), "device": "cpu"}

    def score(self, method: Any, out: Path, workspace: Workspace, **changes: Any) -> Artifact:
        return score(self.score_stage(method, **changes), out, workspace)

    def score_stage(self, method: Any, **changes: Any) -> ScoreStage:
        values = {
            "pool": self.pool,
            "target": self.target,
            "method": method,
            "model": self.model_config,
            "encoding": ENCODING,
        }
        return parse(ScoreStage, values | changes)

    def select(
        self,
        scores: Artifact,
        out: Path,
        workspace: Workspace,
        budget: dict[str, Any],
        policy: Any = "top",
        **more: Any,
    ) -> Artifact:
        values = {"pool": self.pool, "scores": str(scores.path), "selection": {"policy": policy}, "budget": budget}
        return select(parse(SelectStage, values | more), out, workspace)

    def train(
        self, out: Path, workspace: Workspace, training: dict[str, Any] | None = None, **changes: Any
    ) -> Artifact:
        values = {
            "pool": self.pool,
            "model": self.model_config,
            "encoding": ENCODING,
            "training": TRAINING | (training or {}),
        }
        return train(parse(TrainStage, values | changes), out, workspace)

    def evaluate(self, out: Path, workspace: Workspace, **changes: Any) -> Artifact:
        values = {"model": self.model_config, "target": self.target, "encoding": ENCODING}
        return evaluate(parse(EvaluateStage, values | changes), out, workspace)

    def job(self, method: Any, out: Path, workspace: Workspace) -> Job:
        """The job that the score stage would give to `method`."""
        stage = self.score_stage(make_scorer(method))
        out.mkdir(parents=True, exist_ok=True)
        pool, target = workspace.pool(stage.pool), workspace.target(stage.target)
        return Job(pool, target, out, workspace.shared, stage.model, stage.encoding, stage.seed, stage.convention)


def set_shard_rows(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let the score stage cut the pool into shards of `rows`."""
    monkeypatch.setattr(stages, "Job", partial(Job, shard_rows=rows))


def files_of(directory: Path) -> dict[str, bytes]:
    """Content of every output file of an artifact, bookkeeping left out."""
    from paydirt.core.artifacts import UNFINGERPRINTED

    found = sorted(p for p in Path(directory).rglob("*") if p.is_file() and p.name not in UNFINGERPRINTED)
    return {str(p.relative_to(directory)): p.read_bytes() for p in found}


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
