"""Tuned models and what they score: the train and evaluate stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paydirt import stages
from paydirt.api.calls import Encoding, PathLike, place, plain, spoken, workspace
from paydirt.api.made import Made
from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse
from paydirt.execution import Executor
from paydirt.models.load import ModelConfig
from paydirt.stages import EvaluateStage, TrainStage
from paydirt.tasks.benchmark import BENCHMARKS, Benchmark
from paydirt.training.config import TrainConfig

if TYPE_CHECKING:
    from paydirt.api.pool import Pool
    from paydirt.api.selection import Selection
    from paydirt.api.target import Target


class Model(Made):
    """A tuned model. `path` is the artifact of a train stage, `model` under it what transformers loads."""

    stage = "train"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def __repr__(self) -> str:
        of = self.config["model"]["path"]
        return f"Model({of} tuned on {self.notes['examples']} examples, {self.notes['tokens']} tokens; {self.path})"


class Evaluation(Made):
    """What a model scores. `path` is the artifact of an evaluate stage."""

    stage = "evaluate"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.result = stages.read_result(artifact.path)

    @property
    def score(self) -> float:
        """The main metric."""
        return self.result.score

    @property
    def metrics(self) -> dict[str, float]:
        return self.result.metrics

    @property
    def by_subtask(self) -> dict[str, float]:
        return self.result.by_subtask

    def __repr__(self) -> str:
        result = self.result
        return f"Evaluation({result.target}: {result.main} {result.score:.4f} of {result.n} items; {self.path})"


ModelLike = str | os.PathLike[str] | Model | ModelConfig | Mapping[str, Any]
"""A model's directory or hub id, a tuned model, or its path with options: `{"path": ..., "dtype": "bfloat16"}`."""


def model_values(model: ModelLike | None) -> Any:
    """A model in any of its shapes as what a stage reads."""
    if isinstance(model, Model):
        return {**model.config["model"], "path": str(model.model), "tokenizer": None, "revision": None}
    if isinstance(model, Mapping):
        return {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in model.items()}
    return model if isinstance(model, ModelConfig | None) else {"path": os.fspath(model)}


def _file_of(references: Target | PathLike | None) -> str | None:
    """The file that references to watch are in; ValueError for a target that has none of its own."""
    if references is None or isinstance(references, str | os.PathLike):
        return None if references is None else os.fspath(references)
    if references.config.references is None:
        raise ValueError(
            f"references: the target {references.name!r} reads a benchmark's folder; give a file of examples to watch"
        )
    return references.config.references


@spoken
def train(
    data: Selection | Pool,
    model: ModelLike,
    *,
    training: TrainConfig | Mapping[str, Any] | None = None,
    references: Target | PathLike | None = None,
    encoding: Encoding = None,
    seed: int = 0,
    execution: Executor | None = None,
    out: PathLike | None = None,
    force: bool = False,
) -> Model:
    """Fine-tune a model on a selection, or on a whole pool; LoRA unless `training` says `{"method": "full"}`.

    `encoding` is that of the scores that the selection was chosen by, unless given. The loss of `references` (a target's, or
    a file's) is measured while it trains: `training={"report_to": ["tensorboard"], "watch_every": 20, "early_stop": 3}`.
    With `paydirt.Ray(...)` several GPUs or nodes share the training. Raises ValueError as `paydirt train` does.
    """
    from paydirt.api.pool import Pool

    if isinstance(data, Pool):
        config: Any = data.config
        chosen, encoded = None, plain(encoding)
    else:
        config, chosen = data.pool, str(data.path)
        encoded = plain(encoding) or data.scores.config.get("encoding")
    values = {
        "pool": config,
        "selection": chosen,
        "model": model_values(model),
        "encoding": encoded or {},
        "training": plain(training) or {},
        "references": _file_of(references),
        "seed": seed,
    }
    stage = parse(TrainStage, values, where="train")
    space = workspace(out, force, execution)
    if isinstance(data, Pool):
        data.opened(space)
    return Model(stages.train(stage, place("models", out), space))


@spoken
def evaluate(
    model: ModelLike,
    target: Target | None = None,
    benchmark: Benchmark | str | Mapping[str, Any] | None = None,
    *,
    encoding: Encoding = None,
    out: PathLike | None = None,
    force: bool = False,
) -> Evaluation:
    """Measure a model on a target's test examples, or on a benchmark, by default the one that is called like the target.

    `encoding` is that of the training, unless given. Raises ValueError as `paydirt evaluate` does.
    """
    if benchmark is None:
        own = target is not None and not target.test and target.name in BENCHMARKS.names()
        benchmark = target.name if own and target is not None else "exact_match"
    trained = model.config["encoding"] if isinstance(model, Model) else {}
    values = {
        "model": model_values(model),
        "target": target.config if target is not None else None,
        "encoding": plain(encoding) or trained,
        "benchmark": plain(benchmark) if isinstance(benchmark, Mapping) else benchmark,
    }
    stage = parse(EvaluateStage, values, where="evaluate")
    space = workspace(out, force)
    if target is not None:
        target.opened(space)
    return Evaluation(stages.evaluate(stage, place("evaluations", out), space))
