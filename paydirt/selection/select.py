"""The select stage: scores, a policy and a budget to a JSONL of chosen examples in rank order.

Leaves `selection.jsonl` (the pool's own records, all original fields, each once; in the order of a curriculum where one is
asked for), `scores.parquet` (id, source, tokens, score, per-subtask scores, rank, times, weight, order; null for what was
not chosen) and `selection.json` (ids in rank order, counts, and how often each was taken where that is not once).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field, model_validator

from paydirt.core.artifacts import MANIFEST, Artifact, again, damaged, open_artifact, read_json, write_atomic
from paydirt.core.config import Config, PathText
from paydirt.core.progress import say
from paydirt.data.curate.dedup import exact_repeats
from paydirt.data.pool import Pool
from paydirt.selection.budget import Budget
from paydirt.selection.combine import Combine, Weighted, combined, distinct_names
from paydirt.selection.curriculum import Curriculum, check, positions
from paydirt.selection.fields import field_values
from paydirt.selection.policies.base import Policy, PolicyField, Ranking, make_policy, policy_inputs
from paydirt.selection.scores import Across, Reduction, Scores, Statistic

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
    combine: Combine = Field("turns", description="several targets: turns by weight, or weighted sums of ranks")
    curriculum: Curriculum | None = Field(None, description="order to train in: best_last, short_first, easy_first")
    difficulty: PathText | None = Field(None, description="easy_first: finished scores, low for what is easy")

    @model_validator(mode="after")
    def _of_curriculum(self) -> SelectionConfig:
        check(self.curriculum, self.difficulty)
        return self

    def inputs(self, shared: Path | None) -> dict[str, str]:
        """What a selection depends on beside scores, pool and settings, once it has a policy."""
        assert self.policy is not None
        found = policy_inputs(self.policy, shared)
        if self.difficulty:
            found["difficulty"] = open_artifact(Path(self.difficulty), "score").fingerprint
        return found

    def resolved(self, default_policy: str) -> SelectionConfig:
        """The same with a policy."""
        return self if self.policy else self.model_copy(update={"policy": make_policy(default_policy)})


@dataclass(frozen=True)
class Selection:
    """Chosen rows in rank order, and the scores they were chosen by.

    `by_subtask` [N, S] has a column for each of `names`; `times` [k] is how often each row was taken, `weight` [k] how much
    it counts (mean 1 over `rows`); `order` [k] numbers the rows in the order to train in.
    """

    rows: np.ndarray
    score: np.ndarray
    by_subtask: np.ndarray
    excluded: int
    names: list[str]
    times: np.ndarray
    weight: np.ndarray
    order: np.ndarray | None = None
    remarks: dict[str, Any] = field(default_factory=dict)


def choose(
    scores: Scores,
    config: SelectionConfig,
    budget: Budget,
    seed: int = 0,
    flops_per_token: float | None = None,
    pool: Pool | None = None,
    shared: Path | None = None,
    others: Sequence[Weighted] = (),
    weight: float = 1.0,
) -> Selection:
    """Rank the pool and cut the ranking. Examples without a supervised token cannot train and are left out, counted.

    `others` are scores of the same pool for other targets, each with a weight beside this one's `weight`. `pool` is asked
    for fields of its records, `shared` for vectors. Raises ValueError where a setting could change nothing: what a user asks
    for and does not get must not pass in silence.
    """
    policy = config.policy or make_policy("top")
    if flops_per_token is not None and budget.flops is None:
        raise ValueError("flops_per_token is the price of a FLOPs budget; give the budget as flops, or leave it out")
    eligible = _eligible(scores)
    most = budget.most(scores.tokens[eligible], flops_per_token, policy.repeats)
    rankings = []
    for each in [scores, *(other.scores for other in others)]:
        reduction = config.reduction.of(each.reduction) if config.reduction else each.reduction
        _refuse_idle(each, config, policy)
        score, by_subtask = each.reduce(reduction)
        rows = eligible if each is scores else _same_rows(scores, each, eligible)
        find = None if pool is None else partial(field_values, pool, each.ids)
        rankings.append((Ranking(each, score, rows, reduction, shared=shared, field=find), by_subtask))
    ranking, by_subtask = rankings[0]
    score, names = ranking.score, scores.subtasks if scores.pairwise else []
    if others:
        weights = [weight, *(other.weight for other in others)]
        order, score, by_subtask = combined([r for r, _ in rankings], policy, config.combine, weights, most, seed)
        names = distinct_names([scores, *(other.scores for other in others)])
    else:
        order = policy.order(ranking, most, seed)
    size = budget.size(scores.tokens[order], flops_per_token, len(eligible))
    rows, times = _counted(order[:size])
    made = Selection(rows, score, by_subtask, len(scores) - len(eligible), names, times, times / times.mean())
    if (mass := ranking.found.get("mass")) is not None and not others and not policy.repeats:
        made = replace(made, weight=mass[rows] / (mass[rows].mean() or 1.0))
        if beyond := int((mass[rows] == 0).sum()):
            ranking.remarks["beyond_mass"] = beyond
            say(f"{beyond} of {size} chosen examples receive no mass; they follow by their highest similarity")
    return replace(made, remarks=ranking.remarks, order=positions(scores, rows, config.curriculum, config.difficulty))


def _eligible(scores: Scores) -> np.ndarray:
    """Rows that can train; ValueError for none."""
    supervised = scores.rows["supervised"]
    known = supervised.null_count == 0
    eligible = np.flatnonzero(supervised.to_numpy() > 0) if known else np.arange(len(scores))
    if not len(eligible):
        raise ValueError("no example of the pool has a supervised token; check the chat template and max_length")
    return eligible


def _same_rows(scores: Scores, other: Scores, rows: np.ndarray) -> np.ndarray:
    """The rows of `other` that hold the examples of `rows`; ValueError where it was made of another pool."""
    place = {id: row for row, id in enumerate(other.ids.tolist())}
    try:
        found = np.asarray([place[id] for id in scores.ids[rows].tolist()], dtype=np.int64)
    except KeyError as missing:
        raise ValueError(f"{other.path}: has no score for {missing}; score the same pool for every target") from None
    if len(other) != len(scores):
        raise ValueError(
            f"{other.path}: scores {len(other)} examples, {scores.path} {len(scores)}; score the same pool"
        )
    return found


def _counted(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows [k] in order of first appearance, and how often each appears."""
    rows, first, times = np.unique(order, return_index=True, return_counts=True)
    by_rank = np.argsort(first, kind="stable")
    return rows[by_rank], times[by_rank]


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
    read = rows if selection.order is None else rows[np.argsort(selection.order)]
    with open(part / "selection.jsonl", "w", encoding="utf-8") as handle:
        for start in range(0, len(read), BLOCK):
            for record in pool.records(read[start : start + BLOCK]):
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_table(part / "scores.parquet", scores, selection)
    taken = int(selection.times.sum())
    summary = {
        "examples": len(ids),
        "tokens": int((scores.tokens[selection.rows] * selection.times).sum()),
        "fraction": budget.fraction if budget.fraction is not None else min(1.0, taken / len(scores)),
        "excluded_without_supervised_tokens": selection.excluded,
    }
    summary |= {"taken": taken} if taken > len(ids) else {}
    repeated = {"times": selection.times.tolist()} if taken > len(ids) else {}
    write_atomic(part / "selection.json", json.dumps({**summary, **repeated, "ids": list(ids)}, ensure_ascii=False))
    repeats = exact_repeats(pool, rows)
    if repeats:
        say(f"{repeats} of {len(rows)} chosen examples repeat another word for word; `paydirt dedup` leaves such out")
    return {**summary, **selection.remarks, "exact_repeats": repeats}


def write_table(path: Path, scores: Scores, selection: Selection) -> None:
    """Every pool example with its scores and, where chosen, rank, times, weight and order; in row order, streamed."""
    n, chosen = len(scores), selection.rows
    ranks = np.arange(1, len(chosen) + 1)
    order = ranks if selection.order is None else selection.order
    own: dict[str, np.ndarray] = {}
    for name, values in {"rank": ranks, "times": selection.times, "weight": selection.weight, "order": order}.items():
        own[name] = np.zeros(n, dtype=np.float64 if name == "weight" else np.int64)
        own[name][chosen] = values
    absent = np.ones(n, dtype=bool)
    absent[chosen] = False
    names = [f"score[{name}]" for name in selection.names]
    fields = [("id", pa.string()), ("source", pa.string()), ("tokens", pa.int64()), ("score", pa.float64())]
    fields += [(name, pa.float32()) for name in names]
    schema = pa.schema([*fields, *((k, pa.float64() if k == "weight" else pa.int64()) for k in own)])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 1 << 16):
            part = slice(start, min(start + (1 << 16), n))
            columns = [
                scores.rows[k].slice(start, part.stop - start).combine_chunks() for k in ("id", "source", "tokens")
            ]
            columns.append(pa.array(selection.score[part]))
            columns += [pa.array(selection.by_subtask[part, i], pa.float32()) for i in range(len(names))]
            columns += [pa.array(values[part], mask=absent[part]) for values in own.values()]
            writer.write_table(pa.table(columns, schema=schema))


def selected_ids(directory: Path) -> list[str]:
    """Ids in rank order of a finished selection; ValueError names what in its file is no list of ids."""
    directory = Path(directory)
    ids = read_json(directory, "selection.json").get("ids")
    if not isinstance(ids, list):
        raise damaged(directory, f"selection.json: `ids` is of type {type(ids).__name__}, not a list")
    for place, id in enumerate(ids):
        if not isinstance(id, str):
            raise damaged(directory, f"selection.json: ids[{place}] is {str(id)[:60]!r}, not a text")
    if not ids:
        raise damaged(directory, "selection.json: `ids` is empty")
    return ids


def taken_ids(directory: Path) -> list[str]:
    """Ids of a finished selection in rank order, each as often as it was taken."""
    ids = selected_ids(directory)
    times = read_json(directory, "selection.json").get("times")
    if times is None:
        return ids
    if not isinstance(times, list) or len(times) != len(ids) or not all(type(n) is int and n > 0 for n in times):
        raise damaged(directory, "selection.json holds no count for each of its ids")
    return [id for id, n in zip(ids, times) for _ in range(n)]


def requested_fraction(selection: Path) -> float:
    """Share of the pool that a finished selection was asked to be; selections of older versions have it in their config."""
    chosen = open_artifact(selection, "select")
    noted = chosen.notes.get("fraction", (chosen.manifest["config"].get("budget") or {}).get("fraction"))
    if not isinstance(noted, int | float) or not 0 < noted <= 1:
        raise ValueError(
            f"{selection}: its manifest states no fraction in (0, 1] ({noted!r}); run `paydirt select` again"
        )
    return float(noted)


def selection_of(place: Path) -> Artifact | None:
    """The finished selection that `place` is the directory or the JSONL of; None for anything else."""
    folder = place.absolute() if place.is_dir() else place.absolute().parent
    if (place.is_file() and place.name != "selection.jsonl") or not (folder / MANIFEST).is_file():
        return None
    return open_artifact(folder, "select") if Artifact(folder).manifest.get("stage") == "select" else None


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


def check_pool(scored: Artifact, pool: Pool) -> None:
    """ValueError where the pool is not the one that was scored: what has changed, and the command that mends it."""
    if scored.manifest["inputs"].get("pool") == pool.fingerprint:
        return
    then = set(Scores(scored.path).ids.tolist())
    now = set(pool.ids())
    kinds = ((then - now, "examples are gone"), (now - then, "examples are new"))
    changes = [f"{len(ids)} {what} (first: {min(ids)!r})" for ids, what in kinds if ids]
    raise ValueError(
        f"{scored.path}: was made of another pool than is there now: "
        f"{', '.join(changes) or f'texts or sources have changed under the same {len(now)} ids'}; {again(scored.path)}"
    )
