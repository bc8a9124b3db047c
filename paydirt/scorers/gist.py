"""GIST: cosine with a target's mean gradient inside the space that the references' gradients span.

Plain gradients at one warm-up checkpoint (arXiv 2602.18584; METHODS section 8). With G [R, D] the references' gradients,
G = U S V^T and the k largest directions kept, an example becomes V_k^T z and the references the rows of U_k S_k; its score
for a subtask is the cosine with the mean of that subtask's rows.

Nothing D wide is needed: V_k = G^T U_k S_k^-1, so V_k^T z = S_k^-1 U_k^T (G z), and U, S come from the Gram matrix G G^T
[R, R]. The inner products G z [n, R] are what `gradient` computes from its store: a store of plain gradients gives both.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from paydirt.core.types import Cost, Target
from paydirt.cost.facts import Facts
from paydirt.cost.methods import selection_cost
from paydirt.scorers.gradient import Gradient
from paydirt.scoring.base import Job, Scorer
from paydirt.selection.scores import Column, Reduction

NEGLIGIBLE = 1e-10  # share of the largest eigenvalue (1e-5 of the singular value) below which a direction is rounding
PLAIN = {"direction": "sgd", "checkpoints": 1}


class Gist(Scorer):
    """Cosine with subtasks' mean gradients in the references' main directions (GIST)."""

    name: ClassVar[str] = "gist"
    libraries: ClassVar = ("numpy", "scipy")
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    spread: ClassVar[bool] = True
    cost_note: ClassVar[str] = "warm-up + 4 P T (LoRA), one checkpoint; nothing where a plain-gradient store is there"
    source: ClassVar[str] = "GIST (arXiv 2602.18584)"
    use_when: ClassVar[str] = "plain gradients (direction sgd) are stored already"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="max")

    directions: int = Field(150, ge=1, description="main directions of the references' gradients kept, at most R")
    gradient: Gradient = Field(
        default_factory=lambda: Gradient(**PLAIN),  # type: ignore[arg-type]
        description="the store: direction sgd, one checkpoint",
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """What a recipe says of the store is added to what the definition needs."""
        given = values.get("gradient") if isinstance(values, dict) else None
        return {**values, "gradient": PLAIN | given} if isinstance(given, dict) else values

    @model_validator(mode="after")
    def _one_plain_checkpoint(self) -> Gist:
        made = self.gradient
        if made.direction != "sgd" or made.passes != 1 or made.per != "reference":
            raise ValueError(
                f"gist works on plain gradients at one checkpoint, each reference's own; gradient has direction "
                f"{made.direction}, {made.passes} checkpoints, per {made.per}: give sgd, checkpoints 1, per reference"
            )
        return self

    def columns(self, target: Target) -> list[Column]:
        return [Column(name, name) for name in target.subtasks]

    def price(self, facts: Facts) -> Cost:
        """The store and its inner products; then [R, k] and [k, S] an example."""
        cost = selection_cost(self.gradient, facts)
        kept = min(self.directions, facts.references.count)
        turning = 2.0 * facts.pool.count * kept * (facts.references.count + facts.subtasks)
        return cost + Cost(turning, 0, {"directions": turning})

    def ceiling(self, facts: Facts) -> float:
        return self.gradient.ceiling(facts) + self.price(facts).parts["directions"]

    def prepare(self, job: Job) -> _State:
        from paydirt.scoring import gradient_passes as passes

        [step] = passes.checkpoints(self.gradient, job)
        gradients = passes.reference_features(self.gradient, job, step).numpy().astype(np.float64)
        space = Space.of(gradients @ gradients.T, job.target.by_subtask().values(), self.directions)
        job.remarks["gist"] = {"directions": space.turn.shape[1], "references": len(gradients)}
        return _State(self.gradient.prepare(job), np.linalg.norm(gradients, axis=1), space)

    def score_rows(self, job: Job, state: _State, rows: np.ndarray) -> np.ndarray:
        cosines = self.gradient.score_rows(job, state.inner, rows)  # of unit rows: z's length falls out later
        references, kept = state.space.turn.shape
        job.meter.add(2.0 * len(cosines) * kept * (references + len(self.columns(job.target))))
        return state.space.cosines(cosines * state.norms)


class Space(NamedTuple):
    """`turn` [R, k] takes inner products with the references to coordinates; `means` [S, k] are unit subtask means."""

    turn: np.ndarray
    means: np.ndarray

    @classmethod
    def of(cls, gram: np.ndarray, subtasks: Any, most: int) -> Space:
        """From the references' Gram matrix [R, R] and the row numbers of each subtask; at most `most` directions."""
        from scipy.linalg import eigh

        values, vectors = eigh(np.asarray(gram, dtype=np.float64))
        order = np.argsort(-values, kind="stable")[:most]
        order = order[values[order] > NEGLIGIBLE * max(values[order[0]], np.finfo(np.float64).tiny)]
        singular, left = np.sqrt(values[order]), vectors[:, order]
        rows = left * singular
        return cls(left / singular, _unit(np.stack([rows[list(group)].mean(axis=0) for group in subtasks])))

    def cosines(self, products: np.ndarray) -> np.ndarray:
        """Inner products with the references [n, R] -> cosines with subtask means [n, S]; zeros stay zeros."""
        # einsum, unlike a matrix product, sums a row alike whatever rows stand beside it
        coordinates = _unit(np.einsum("nr,rk->nk", np.asarray(products, dtype=np.float64), self.turn))
        return np.einsum("nk,sk->ns", coordinates, self.means)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)


class _State(NamedTuple):
    """What `gradient` needs, the references' norms [R], and the space."""

    inner: Any
    norms: np.ndarray
    space: Space
