"""The contract of a policy: turn scores into an order of pool rows, best first.

A policy never sees the budget, only `limit`, the most rows that will be kept: orders are the same for every budget, so
selections are nested. Ties are broken by example id. Who computes more than comparisons (sums, neighbours, draws) works on
rows in order of their ids, so that the pool's row order decides no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as default
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny

from paydirt.core.named import Named, make
from paydirt.core.registry import Registry
from paydirt.core.source import code_digest
from paydirt.selection.scores import Reduction, Scores
from paydirt.selection.vectors import OWN, ROWS, SIMILARITIES, Blocks, Vectors, open_vectors

BLOCK = 1 << 22  # similarities held at a time, in numbers


@dataclass(frozen=True)
class Ranking:
    """What a policy may look at: `rows` are the eligible pool rows; score float64 [N] and the stored similarities.

    `reduction` is the one that made `score`: the selection's own, where it has one, else the method's. A policy leaves
    what the manifest should say in `remarks`, and in `found["mass"]` [N] how much of the target each row stands for.
    """

    scores: Scores
    score: np.ndarray
    rows: np.ndarray
    reduction: Reduction = default(default_factory=Reduction)
    remarks: dict[str, Any] = default(default_factory=dict)
    found: dict[str, np.ndarray] = default(default_factory=dict)
    shared: Path | None = None
    field: Callable[[str], np.ndarray] | None = None

    @property
    def ids(self) -> np.ndarray:
        return self.scores.ids

    @property
    def sources(self) -> np.ndarray:
        return self.scores.sources

    def groups(self, by: str) -> np.ndarray:
        """Group [N] of every row: its source, the subtask it is best for, or the value of a field of its record."""
        if by == "source":
            return self.sources
        if by == "subtask":
            names = np.asarray(self.scores.subtasks, dtype=object)
            return names[self.scores.reduce(self.reduction)[1].argmax(axis=1)]
        if self.field is None:
            raise ValueError(f"quota by {by!r}: the pool's records are not at hand; share by source or subtask")
        return self.field(by)

    @cached_property
    def by_id(self) -> np.ndarray:
        """The eligible rows in order of their ids."""
        return self.rows[np.argsort(self.ids[self.rows].astype(str), kind="stable")]

    def similarities(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Similarities float32 [n, C] of `by_id`, a block at a time with its place there."""
        step = max(1, BLOCK // len(self.scores.columns))
        for start in range(0, len(self.by_id), step):
            part = slice(start, min(start + step, len(self.by_id)))
            yield part, self.scores.take(self.by_id[part])

    @contextmanager
    def unit_vectors(self, place: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Unit vectors [n, d] of `rows` from `place` (see `selection.vectors`), mapped."""
        if place != SIMILARITIES:
            place = str(self.scores.path) if place == OWN else place
            with open_vectors(place, self.shared).unit(self.ids[rows].tolist()) as vectors:
                yield vectors
            return
        if len(self.scores.columns) < 2:
            raise ValueError(
                f"vectors: {SIMILARITIES} needs scores with several columns, and these have one; as vectors (--vectors) "
                "give finished scores of embed, rds or gradient (with its store) of the same pool, or a parquet file with "
                "the columns id and vector"
            )
        mean = sum((block.sum(axis=0, dtype=np.float64) for _, block in self.similarities()), np.zeros(1)) / len(
            self.rows
        )

        def blocks() -> Blocks:
            for start in range(0, len(rows), ROWS):
                part = rows[start : start + ROWS]
                yield self.ids[part].tolist(), self.scores.take(part) - mean

        with Vectors(SIMILARITIES, "", blocks).unit(self.ids[rows].tolist()) as vectors:
            yield vectors

    def best_first(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`rows` by descending `values` [len(rows)]; equal values by id."""
        order = np.argsort(-values, kind="stable")
        ranked, sorted_values = rows[order], values[order]
        edges = np.flatnonzero(np.diff(sorted_values) != 0) + 1
        starts, stops = np.r_[0, edges], np.r_[edges, len(ranked)]
        for start, stop in zip(starts, stops):
            if stop - start > 1:
                run = ranked[start:stop]
                ranked[start:stop] = run[np.argsort(self.ids[run].astype(str), kind="stable")]
        return ranked


POLICIES: Registry[Policy] = Registry("policy", "paydirt.selection.policies", "paydirt.policies")


class Policy(Named):
    """Base of every selection policy."""

    registry: ClassVar = POLICIES
    cost_note: ClassVar[str] = ""
    """What the order costs beside reading the scores, in N examples, R references, d numbers a vector, k chosen."""
    source: ClassVar[str] = ""
    """Who published the rule."""
    use_when: ClassVar[str] = ""
    known_as: ClassVar[Mapping[str, str]] = {}
    """What others call it, in small letters and digits alone, and how it is asked for here."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions beside numpy whose numbers enter the order."""

    @property
    def draws(self) -> bool:
        """Whether the order depends on the seed."""
        return False

    @property
    def repeats(self) -> bool:
        """Whether the order may name a row more than once."""
        return False

    @property
    def reads(self) -> frozenset[str]:
        """Which parts of a reduction the order depends on: within, across, both or neither."""
        return frozenset({"within", "across"})

    def inputs(self, shared: Path | None) -> dict[str, str]:
        """Fingerprints of what the order depends on beside the scores."""
        place = getattr(self, "vectors", SIMILARITIES)
        if place == OWN:  # which the scores decide, an input themselves
            return {"vectors": OWN}
        return {} if place == SIMILARITIES else {"vectors": open_vectors(place, shared).fingerprint}

    def order(self, ranking: Ranking, limit: int, seed: int) -> np.ndarray:
        """At least `limit` of `ranking.rows`, best first; each once, unless the policy `repeats`."""
        raise NotImplementedError(f"{type(self).__name__} must define order")


def make_policy(values: Any) -> Any:
    """A policy from `{name: ..., option: ...}` or a bare name."""
    return make(POLICIES, values)


PolicyField = Annotated[SerializeAsAny[Policy], BeforeValidator(make_policy)]


def policy_inputs(policy: Policy, shared: Path | None) -> dict[str, str]:
    """What an order depends on beside scores and settings: the code of the policy and of those inside it, and vectors."""
    inner, found = getattr(policy, "policy", None), {}
    if isinstance(inner, Policy):
        found = {f"inner.{name}": value for name, value in policy_inputs(inner, shared).items()}
    return {"policy": code_digest(type(policy), Policy), **policy.inputs(shared), **found}


def policies_markdown() -> str:
    """The table of policies, from what each says of itself; the README holds the same text, and a test compares."""
    lines = ["| policy | order | cost | published | use it |", "| --- | --- | --- | --- | --- |"]
    for name in POLICIES.names():
        policy = POLICIES.get(name)
        what = (policy.__doc__ or "").strip().splitlines()[0].rstrip(".")
        lines.append(f"| `{name}` | {what} | {policy.cost_note} | {policy.source} | {policy.use_when} |")
    return "\n".join([*lines, *POLICIES.origins()])
