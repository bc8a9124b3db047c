"""The steps of a recipe as stages: what a study and a budget that spends itself both run, asked for in one place."""

from __future__ import annotations

from pathlib import Path

from paydirt.models.load import ModelConfig
from paydirt.scoring.base import Scorer
from paydirt.selection.budget import Budget
from paydirt.stages import EvaluateStage, ScoreStage, SelectStage, TrainStage
from paydirt.study.recipe import MethodEntry, Study
from paydirt.tasks import TargetConfig


def score_stage(study: Study, target: TargetConfig, scorer: Scorer, seed: int = 0) -> ScoreStage:
    return ScoreStage(
        pool=study.pool,
        target=target,
        method=scorer,
        model=study.selector_model,
        encoding=study.encoding,
        seed=seed,
        convention=study.convention,
    )


def select_stage(study: Study, entry: MethodEntry, scores: Path, budget: Budget, seed: int) -> SelectStage:
    """The seed counts where the entry's order is drawn."""
    drawn = seed if entry.shuffled else 0
    return SelectStage(pool=study.pool, scores=str(scores), selection=entry.selection, budget=budget, seed=drawn)


def train_stage(study: Study, selection: Path, seed: int) -> TrainStage:
    return TrainStage(
        pool=study.pool,
        selection=str(selection),
        model=study.model,
        encoding=study.encoding,
        training=study.training,
        seed=seed,
        convention=study.convention,
    )


def evaluate_stage(study: Study, model: ModelConfig, target: TargetConfig) -> EvaluateStage:
    return EvaluateStage(model=model, target=target, encoding=study.encoding, benchmark=study.evaluation)


def tuned(study: Study, trained: Path) -> ModelConfig:
    """The model that a training of the study left in the artifact `trained`."""
    return study.model.model_copy(update={"path": str(trained / "model"), "tokenizer": None})
