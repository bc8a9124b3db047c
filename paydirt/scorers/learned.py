"""Learned: a dear score of some thousand points, the truth, predicted for all others from cheap features.

Document 001 splits a source in two, computes true influence on one part, and predicts the other's from a frozen encoder
(METHODS section 2): `mode: regress` uses the prediction as the score, `mode: classify` predicts three levels of
equal size and computes true gradients for what is predicted high. Here the truth is any method, priced by its own cost
model; the points stay candidates, with their true score; and of a truth that tells references apart, what is predicted may
be the score for every subtask or reference, not only its aggregate. With
`rounds` above 1 later points are chosen where the predictor expects most (`explore: high`) or its folds disagree
(`uncertain`); `verify` computes the truth of the best predicted.

The landmark form of influence distillation (arXiv 2505.19051) is `learner: landmark` with `features: [jvp]`, `predict:
references` and 4,096 points, selected by `round_robin` over references.

Diagnostics on points that the predictor has not seen are written beside the scores, and a predictor that is no better
than its cheapest feature is refused. The work is in `prediction.passes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field, field_validator, model_validator

from paydirt.core.registry import did_you_mean
from paydirt.core.source import code_digest
from paydirt.core.types import Cost, Target
from paydirt.cost.facts import Facts
from paydirt.prediction.learners import LEARNERS, Learner
from paydirt.scorers.drop import Drop
from paydirt.scorers.embed import Embed
from paydirt.scorers.gradient import Gradient
from paydirt.scorers.rds import RDS
from paydirt.scoring.base import Job, Method, Scorer
from paydirt.selection.scores import Column, Reduction

if TYPE_CHECKING:
    from paydirt.prediction.passes import Outcome

BERT = "bert"  # the one learner that reads texts instead of features


def _known_learner(name: str) -> str:
    known = [*LEARNERS.names(), BERT]
    if name not in known:
        raise ValueError(f"unknown learner {name!r}; {did_you_mean(name, known)}")
    return name


FeatureName = Literal["words", "length", "source", "bm25", "embed", "rds", "loss", "proxy", "jvp"]
FREE: tuple[FeatureName, ...] = ("words", "length", "source", "bm25")  # features that cost no FLOPs


class Learned(Scorer):
    """A dear score (influence, loss drop) of some points, predicted for the rest from cheap features."""

    name: ClassVar[str] = "learned"
    libraries: ClassVar = ("numpy", "scipy", "scikit-learn")
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "the truth's, for the points alone; features from 0 to 2 P T"
    source: ClassVar[str] = "a pipeline on LESS's code; landmark: arXiv 2505.19051"
    known_as: ClassVar = {
        "influencedistillation": "learned with the learner landmark and the features [jvp]",
        "classification": "learned with mode classify",
        "regression": "learned with mode regress",
    }
    use_when: ClassVar[str] = "the truth's quality over a pool that is too large for it"

    mode: Literal["regress", "classify"] = Field("regress", description="predict the score, or its level of three")
    points: int = Field(3000, ge=20, description="examples whose truth is computed to learn from")
    points_seed: int = Field(0, description="of the points' choice and of the learner")
    rounds: int = Field(1, ge=1, description="the points are computed in so many; the first at random")
    explore: Literal["high", "uncertain", "random"] = Field("high", description="which points later rounds take")
    verify: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the pool to verify, best predicted first; null: regress 0, classify all high",
    )
    predict: Literal["score", "subtasks", "references"] = Field(
        "score", description="one number, or the truth for every subtask or reference"
    )
    aggregation: Literal["own", "subtasks", "mean", "max", "min"] = Field(
        "own",
        description="of a truth that tells references apart: its own way, LESS's best subtask mean, or a statistic over "
        "all references",
    )
    features: tuple[FeatureName, ...] | None = Field(
        None,
        description="words, length, source, bm25, embed, rds, loss, jvp, proxy (of the truth gradient alone); null: the "
        "free ones, and the proxy where there is one",
    )
    learner: Annotated[str, AfterValidator(_known_learner)] = Field(
        "kernel",
        description="kernel (ridge), landmark, ridge, boosting (trees), mlp (512 units), bert (a fine-tuned encoder), or a "
        "plugin's",
    )
    folds: int = Field(5, ge=2, description="parts of the points for the diagnostics: each predicted by the others")
    refuse: bool = Field(True, description="stop where the predictor does not beat its cheapest feature")
    proxy_tokens: int | None = Field(
        None, ge=8, description="of each example, for the feature proxy; null: 64, or what a budget can pay for"
    )
    proxy_layers: int | None = Field(None, ge=1, description="last layers, for the feature proxy")
    jvp_blocks: int = Field(4, ge=1, description="first blocks whose derivative is the feature jvp")
    jvp_directions: int = Field(2, ge=1, description="random directions of the weights for the feature jvp")
    truth: Method = Field(default_factory=Drop, description="what is predicted: any method, with its options")
    embed: Embed = Field(default_factory=Embed, description="encoder of the feature embed, and of the learner bert")
    rds: RDS = Field(default_factory=RDS, description="settings of the feature rds")

    @property
    def pairwise(self) -> bool:  # type: ignore[override]
        """Whether a column stands for a subtask or reference."""
        return self.predict != "score"

    @field_validator("truth", mode="before")
    @classmethod
    def _default_truth(cls, values: Any) -> Any:
        """Options without a name are the default truth's."""
        if isinstance(values, dict) and "name" not in values:
            factory: Any = cls.model_fields["truth"].default_factory
            return {"name": factory().name, **values}
        return values

    @model_validator(mode="after")
    def _truth_serves(self) -> Learned:
        truth = self.truth
        if truth.name in ("learned", "cascade"):
            raise ValueError(f"{truth.name!r} predicts a truth and is none; give the method that it predicts")
        if not truth.pairwise and (self.predict != "score" or self.aggregation not in ("own", "subtasks")):
            raise ValueError(
                f"the truth {truth.name!r} is one number an example; leave predict and aggregation out, or take a truth "
                "that tells references apart (gradient, rds, embed)"
            )
        if "proxy" in (self.features or ()) and not isinstance(truth, Gradient):
            raise ValueError(f"the feature 'proxy' is cheap gradients, and the truth is {truth.name!r}; leave it out")
        return self

    @property
    def chosen(self) -> tuple[FeatureName, ...]:
        """The features."""
        if self.features is not None:
            return self.features
        return (*FREE, "proxy") if isinstance(self.truth, Gradient) else FREE

    @property
    def idle(self) -> frozenset[str]:
        """Encoders of features that are not asked for."""
        used = {*self.chosen, *(["embed"] if self.learner == "bert" else [])}
        return frozenset({"embed", "rds"} - used)

    def predicting(self, truth: Scorer) -> Learned:
        """The same for another truth."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | {"truth": truth})

    @property
    def proxy(self) -> Gradient:
        """The cheap gradients that are a feature: the last checkpoint, few tokens, perhaps few layers."""
        assert isinstance(self.truth, Gradient)
        cheap = {"max_tokens": self.proxy_tokens or 64, "layers": self.proxy_layers, "checkpoints": 1, "per": "subtask"}
        return self.truth.model_copy(update=cheap)

    @property
    def reduction(self) -> Reduction:  # type: ignore[override]
        """How the predicted columns become one score."""
        if self.aggregation == "own":
            return self.truth.reduction
        if self.aggregation == "subtasks":
            return Reduction(within="mean", across="max")
        return Reduction(within=self.aggregation, across="pooled")

    def columns(self, target: Target) -> list[Column]:
        if self.predict == "score":
            return [Column("score", "all")]
        if self.predict == "subtasks":
            return [Column(name, name) for name in target.subtasks]
        return super().columns(target)

    def inputs(self, job: Job) -> dict[str, str]:
        """The learner's code, which may be another distribution's."""
        if self.learner == BERT:
            return {}
        learner: type = LEARNERS.get(self.learner)
        return {"learner": code_digest(learner, Learner)}

    def price(self, facts: Facts) -> Cost:
        """Truth of the points and of what is verified, the features of the whole pool, and the learner."""
        from paydirt.prediction.budget import price

        return price(self, facts)

    def prepare(self, job: Job) -> Outcome:
        from paydirt.prediction.passes import learn

        return learn(self, job)

    def score_rows(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        return state.values(rows)
