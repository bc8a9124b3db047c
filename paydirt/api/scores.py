"""Scores of a pool for a target: one call of the score stage, and what can be asked of what it leaves."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paydirt import stages
from paydirt.api.calls import Encoding, PathLike, place, plain, spoken, workspace
from paydirt.api.made import Made
from paydirt.api.model import ModelLike, model_values
from paydirt.api.pool import Pool
from paydirt.api.tables import Tabular
from paydirt.api.target import Target
from paydirt.core.artifacts import Artifact, again
from paydirt.core.config import parse
from paydirt.core.registry import did_you_mean
from paydirt.execution import Executor
from paydirt.scoring.base import Scorer
from paydirt.scoring.inputs import target_fingerprint
from paydirt.selection import scores as stored
from paydirt.stages import ScoreStage
from paydirt.tasks import TargetConfig, load_target


class Nearest(NamedTuple):
    """A reference and how alike it is to an example, in the unit of the method."""

    reference: str
    subtask: str
    similarity: float
    text: str


class Scores(Made, Tabular):
    """One row for every example of a pool. `path` is the artifact of a score stage."""

    stage = "score"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._scores = stored.Scores(artifact.path)

    @property
    def method(self) -> str:
        """Name of the method; `published` of scores that were imported."""
        return str((self.config.get("method") or {}).get("name", "published"))

    @property
    def ids(self) -> list[str]:
        return self._scores.ids.tolist()

    @property
    def subtasks(self) -> list[str]:
        return self._scores.subtasks

    def __len__(self) -> int:
        return len(self._scores)

    @spoken
    def to_arrow(self) -> pa.Table:
        """id, source, length (`tokens`), score, and of pairwise methods a score for each subtask; rows as in the pool."""
        score, parts = self._scores.reduce()
        table = self._scores.rows.append_column("score", pa.array(score))
        for number, name in enumerate(self.subtasks if self._scores.pairwise else []):
            table = table.append_column(f"score[{name}]", pa.array(parts[:, number]))
        return table

    @spoken
    def explain(self, id: str, count: int = 5) -> list[Nearest]:
        """The `count` references that an example is most like, nearest first.

        Raises ValueError for a method that compares with no single reference, and for an id that was not scored.
        """
        columns = self._scores.columns
        if not self._scores.pairwise or all(column.id == column.subtask for column in columns):
            kept = "one column a subtask" if self._scores.pairwise else "one number an example"
            raise ValueError(
                f"{self.method} leaves {kept}, so no reference is nearest; methods that compare with single references "
                "are embed, rds and gradient (per: reference)"
            )
        row = pc.index(self._scores.rows["id"], pa.scalar(id, pa.string())).as_py()
        if row < 0:
            raise ValueError(
                f"no example {id!r} among these {len(self)} scores; {did_you_mean(id, self.ids[:100_000])}"
            )
        values, texts = self._scores.row(row), self._texts
        order = np.argsort(-values, kind="stable")[: max(1, count)]
        return [Nearest(columns[i].id, columns[i].subtask, float(values[i]), texts[columns[i].id]) for i in order]

    @cached_property
    def _texts(self) -> dict[str, str]:
        """Text of each reference; ValueError where the target's files are others now."""
        target = load_target(parse(TargetConfig, self.config["target"], where=str(self.path)))
        if self.artifact.manifest["inputs"].get("target") != target_fingerprint(target):
            raise ValueError(f"{self.path}: the references of {target.name!r} have changed since; {again(self.path)}")
        return {e.id: "\n".join(m.content for m in e.messages) for e in target.references}

    def __repr__(self) -> str:
        published = "no target" if "method" in self.config else "a published target"
        target = (self.config.get("target") or {}).get("name", published)
        flops = float(self.notes.get("charged_flops", 0.0))
        return f"Scores({self.method} of {len(self)} examples for {target}, {flops:.3g} FLOPs; {self.path})"


@spoken
def score(
    pool: Pool,
    target: Target | None,
    method: Scorer | str | dict[str, Any],
    *,
    model: ModelLike | None = None,
    encoding: Encoding = None,
    seed: int = 0,
    convention: str = "architectural",
    execution: Executor | None = None,
    out: PathLike | None = None,
    force: bool = False,
) -> Scores:
    """Score every example of a pool for a target, or find the scores that this has given before.

    `target` is None for a method that compares with nothing (random, length). `model` is the selector; methods that run
    none take its tokenizer for lengths. `execution` says where passes over the pool run: `paydirt.Local(workers=4)`,
    `paydirt.Local(gpus=(0, 2))`, `paydirt.Ray("auto")`. `out` names the place, where `force` replaces what is there.
    Raises ValueError as `paydirt score` does.
    """
    values = {
        "pool": pool.config,
        "target": None if target is None else target.config,
        "method": plain(method) if isinstance(method, dict) else method,
        "model": model_values(model),
        "encoding": plain(encoding) or {},
        "seed": seed,
        "convention": convention,
    }
    stage = parse(ScoreStage, values, where="score")
    space = workspace(out, force, execution)
    pool.opened(space)
    if target is not None:
        target.opened(space)
    return Scores(stages.score(stage, place("scores", out), space))
