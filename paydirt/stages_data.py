"""The stages that make pools of pools, tiny models and graded answers: typed config in, one artifact out.

Each config is complete, so that the `config.yaml` beside what was made runs the stage again, from any directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from paydirt.core.artifacts import Artifact
from paydirt.core.config import Config, PathText
from paydirt.core.types import Item
from paydirt.data.curate.decontaminate import DecontaminationConfig, decontaminate, reference_items
from paydirt.data.curate.dedup import DedupConfig, dedup
from paydirt.data.curate.split import SplitConfig, split
from paydirt.data.pool import PoolConfig
from paydirt.models.tiny import TinyConfig, tiny_model
from paydirt.stages import Workspace
from paydirt.tasks import TargetConfig
from paydirt.tasks.benchmark import BenchmarkField
from paydirt.tasks.contamination import items_against

if TYPE_CHECKING:
    from paydirt.tasks.responses import GradeStage


class DecontaminateStage(Config):
    """A pool without what it shares with tests and references."""

    pool: PoolConfig
    settings: DecontaminationConfig = Field(default_factory=DecontaminationConfig)
    against: list[str] = Field([], description="benchmarks whose items and references to look for")
    data: PathText | None = Field(None, description="folder in the LESS layout that holds their files")
    references: list[PathText] = Field([], description="files of further examples to look for")
    references_split: str = Field("train", description="split of those that are datasets directories; all: every one")
    references_columns: dict[str, str] = Field({}, description="what they call things, such as {prompt: question}")
    targets: list[TargetConfig] = Field([], description="targets whose references and test examples to look for")
    evaluation: BenchmarkField | None = Field(None, description="benchmark that the targets are tested on")

    def items(self, workspace: Workspace) -> dict[str, Item]:
        """What to look for, by id."""
        further = (self.references, self.references_split, self.references_columns)
        found = {item.id: item for item in items_against(self.against, self.data, *further)}
        for target in self.targets:
            loaded = workspace.target(target)
            tested = self.evaluation.resolved(target).items() if self.evaluation else []
            found |= {item.id: item for item in [*tested, *reference_items(loaded)]}
        return found


def run_decontaminate(config: DecontaminateStage, out: Path, workspace: Workspace) -> Artifact:
    """The clean pool and every match (see `paydirt.data.curate.decontaminate`)."""
    pool, items = workspace.pool(config.pool), list(config.items(workspace).values())
    executor = workspace.executor
    executor.check(out.absolute().parent)
    return decontaminate(
        pool, config.pool, items, config.settings, out, config.to_dict(), workspace.replace, executor.map
    )


class DedupStage(DedupConfig):
    """A pool without its near-duplicates."""

    pool: PoolConfig


def run_dedup(config: DedupStage, out: Path, workspace: Workspace) -> Artifact:
    """The pool that stays and what was removed for what (see `paydirt.data.curate.dedup`)."""
    how = DedupConfig(**config.model_dump(exclude={"pool"}))
    pool = workspace.pool(config.pool)
    workspace.executor.check(out.absolute().parent)
    return dedup(pool, config.pool, how, out, workspace.replace, workspace.executor.map)


class SplitStage(SplitConfig):
    """Training points for a predictor, and the pool to select from."""

    pool: PoolConfig


def run_split(config: SplitStage, out: Path, workspace: Workspace) -> Artifact:
    """Both parts as files (see `paydirt.data.curate.split`)."""
    how = SplitConfig(**config.model_dump(exclude={"pool"}))
    return split(workspace.pool(config.pool), how, out, config.to_dict(), workspace.replace)


class TinyStage(TinyConfig):
    """A tiny model with a tokenizer learnt on the pool."""

    pool: PoolConfig
    seed: int = Field(0, ge=0)


def run_tiny(config: TinyStage, out: Path, workspace: Workspace) -> Artifact:
    """The model's directory (see `paydirt.models.tiny`)."""
    how = TinyConfig(**config.model_dump(exclude={"pool", "seed"}))
    return tiny_model(workspace.pool(config.pool), out, config.seed, how, config.to_dict(), workspace.replace)


def run_grade(config: GradeStage, out: Path, workspace: Workspace) -> Artifact:
    """Recorded answers to a result (see `paydirt.tasks.responses`)."""
    from paydirt.tasks.responses import grade

    return grade(config, out, workspace.replace)
