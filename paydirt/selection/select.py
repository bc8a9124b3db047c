"""The select stage: scores, a policy and a budget to a JSONL of chosen examples in rank order.

Leaves `selection.jsonl` (the pool's own records, all original fields), `scores.parquet` (id, source, tokens, score,
per-subtask scores, rank; rank is null for what was not chosen) and `selection.json` (ids in rank order, counts).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field

from paydirt.artifacts import MANIFEST, Artifact, damaged, open_artifact, read_json, write_atomic
from paydirt.config import Config
from paydirt.data.dedup import exact_repeats
from paydirt.data.pool import Pool
from paydirt.progress import say
from paydirt.scores import Across, Reduction, Scores, Statistic
from paydirt.selection.budget import Budget
from paydirt.selection.policies.base import Policy, PolicyField, Ranking, make_policy

BLOCK = 4096


class ReductionChoice(Config):
    """What a selection changes of its method's reduction; null keeps the method's own."""

    within: Statistic | None = Field(None, description="over the references of a subtask")
    across: Across | None = Field(None, description="over subtasks, or pooled")

    def of(self, own: Reduction) -> Reduction:
        """The method's reduction with these changes."""
        return own.model_copy(update={k: v for k, v in self if v is not None})


def _choice(values: Any) -> Any:
    """A whole reduction as a choice of what it was told."""
    return values.model_dump(exclude_unset=True) if isinstance(values, Reduction) else values


ReductionField = Annotated[ReductionChoice | None, BeforeValidator(_choice)]


class SelectionConfig(Config):
    """How scores become a selection."""

    policy: PolicyField | None = Field(None, description="order of the pool; null: the method's own default")
    reduction: ReductionField = Field(None, description="how similarities become one score; null: the method's own")

    def resolved(self, default_policy: str) -> SelectionConfig:
        """The same with a policy."""
        return self if self.policy else self.model_copy(update={"policy": make_policy(default_policy)})


@dataclass(frozen=True)
class Selection:
    """Chosen rows in rank order, and the scores they were chosen by."""

    rows: np.ndarray
    score: np.ndarray
    by_subtask: np.ndarray
    excluded: int


def choose(
    scores: Scores, config: SelectionConfig, budget: Budget, seed: int = 0, flops_per_token: float | None = None
) -> Selection:
    """Rank the pool and cut the ranking. Examples without a supervised token cannot train and are left out, counted.

    Raises ValueError where a setting could change nothing: what a user asks for and does not get must not pass in silence.
    """
    policy = config.policy or make_policy("top")
    reduction = config.reduction.of(scores.reduction) if config.reduction else scores.reduction
    _refuse_idle(scores, config, policy)
    if flops_per_token is not None and budget.flops is None:
        raise ValueError("flops_per_token is the price of a FLOPs budget; give the budget as flops, or leave it out")
    score, by_subtask = scores.reduce(reduction)
    supervised = scores.rows["supervised"]
    known = supervised.null_count == 0
    eligible = np.flatnonzero(supervised.to_numpy() > 0) if known else np.arange(len(scores))
    if not len(eligible):
        raise ValueError("no example of the pool has a supervised token; check the chat template and max_length")
    ranking = Ranking(scores, score, eligible, reduction)
    order = policy.order(ranking, len(eligible), seed)
    size = budget.size(scores.tokens[order], flops_per_token, len(eligible))
    return Selection(order[:size], score, by_subtask, len(scores) - len(eligible))


def _refuse_idle(scores: Scores, config: SelectionConfig, policy: Policy) -> None:
    """ValueError for a change of the reduction that nothing would read."""
    if config.reduction is None:
        return
    given = [name for name, value in config.reduction if value is not None]
    if idle := [name for name in given if name not in policy.reads]:
        raise ValueError(f"{' and '.join(idle)}: the policy {policy.name} does not read it; leave it out")
    if given and len(scores.columns) == 1:
        raise ValueError(
            f"{' and '.join(given)}: these scores are one number an example, so there is nothing to reduce; leave it out"
        )


def write_selection(part: Path, pool: Pool, scores: Scores, selection: Selection, budget: Budget) -> dict[str, Any]:
    """Write the three files; returns notes for the manifest.

    `fraction` is the share of the pool that was *asked for*, which decides learning rates; a rounded count over the pool
    may be above it. Where the budget was of another kind it is the share that was reached.
    """
    ids = scores.ids[selection.rows]
    rows = pool.rows_of(ids)  # the pool may hold the same examples in another order than when it was scored
    with open(part / "selection.jsonl", "w", encoding="utf-8") as handle:
        for start in range(0, len(rows), BLOCK):
            for record in pool.records(rows[start : start + BLOCK]):
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_table(part / "scores.parquet", scores, selection)
    summary = {
        "examples": len(ids),
        "tokens": int(scores.tokens[selection.rows].sum()),
        "fraction": budget.fraction if budget.fraction is not None else len(ids) / len(scores),
        "excluded_without_supervised_tokens": selection.excluded,
    }
    write_atomic(part / "selection.json", json.dumps({**summary, "ids": list(ids)}, ensure_ascii=False))
    repeats = exact_repeats(pool, rows)
    if repeats:
        say(f"{repeats} of {len(rows)} chosen examples repeat another word for word; `paydirt dedup` leaves such out")
    return {**summary, "exact_repeats": repeats}


def write_table(path: Path, scores: Scores, selection: Selection) -> None:
    """Every pool example with its scores and rank, in row order, streamed."""
    rank = np.full(len(scores), -1, dtype=np.int64)
    rank[selection.rows] = np.arange(1, len(selection.rows) + 1)
    names = [f"score[{name}]" for name in scores.subtasks] if scores.pairwise else []
    fields = [("id", pa.string()), ("source", pa.string()), ("tokens", pa.int64()), ("score", pa.float64())]
    schema = pa.schema([*fields, *((n, pa.float32()) for n in names), ("rank", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(scores), 1 << 16):
            part = slice(start, min(start + (1 << 16), len(scores)))
            ranks = pa.array(rank[part], mask=rank[part] < 0)
            columns = [
                scores.rows[n].slice(start, part.stop - start).combine_chunks() for n in ("id", "source", "tokens")
            ]
            columns.append(pa.array(selection.score[part]))
            columns += [pa.array(selection.by_subtask[part, i]) for i in range(len(names))]
            writer.write_table(pa.table([*columns, ranks], schema=schema))


def selected_ids(directory: Path) -> list[str]:
    """Ids in rank order of a finished selection."""
    directory = Path(directory)
    ids = read_json(directory, "selection.json").get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise damaged(directory, "selection.json holds no list of ids, each a text")
    return ids


def requested_fraction(selection: Path) -> float:
    """Share of the pool that a finished selection was asked to be; selections of older versions have it in their config."""
    chosen = open_artifact(selection, "select")
    noted = chosen.notes.get("fraction", (chosen.manifest["config"].get("budget") or {}).get("fraction"))
    if not isinstance(noted, int | float) or not 0 < noted <= 1:
        raise ValueError(
            f"{selection}: its manifest states no fraction in (0, 1] ({noted!r}); run `paydirt select` again"
        )
    return float(noted)


def fraction_beside(file: Path) -> float | None:
    """The requested fraction where `file` is the JSONL of a selection (or of its export); None for any other file."""
    folder = Path(file).absolute().parent
    if not (folder / MANIFEST).is_file():
        return None
    artifact = Artifact(folder)
    if Path(file).name not in artifact.manifest.get("outputs", {}):
        return None
    if artifact.manifest.get("stage") == "select":
        return requested_fraction(folder)
    exported = artifact.manifest.get("stage") == "export"
    noted = artifact.notes.get("fractions", {}).get(Path(file).stem) if exported else None
    return float(noted) if noted else None
