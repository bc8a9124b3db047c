"""The recipe of a study, as YAML holds it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from paydirt.core.config import Config, PathText
from paydirt.core.seeds import draws, varied
from paydirt.data.curate.decontaminate import DecontaminationConfig
from paydirt.data.encoding import EncodingConfig
from paydirt.data.pool import PoolConfig
from paydirt.models.load import ModelConfig
from paydirt.scoring.base import Method, Scorer, make_scorer
from paydirt.scoring.inputs import is_stochastic
from paydirt.selection.budget import Share
from paydirt.selection.policies.base import PolicyField, make_policy
from paydirt.selection.select import ReductionField, SelectionConfig
from paydirt.tasks import TargetConfig
from paydirt.tasks.benchmark import BenchmarkField, make_benchmark
from paydirt.training.config import TrainConfig

ENTRY_KEYS = ("policy", "reduction", "label")


class MethodEntry(Config):
    """A scorer with the policy that turns its scores into a selection, and the name that tables give the pair."""

    scorer: Method
    policy: PolicyField | None = Field(None, description="null: the method's own default")
    reduction: ReductionField = None
    label: str = ""

    @model_validator(mode="after")
    def _named(self) -> MethodEntry:
        if self.policy is None:
            object.__setattr__(self, "policy", make_policy(self.scorer.default_policy))
        assert self.policy is not None
        if not self.label:
            suffix = "" if self.policy.name == "top" else f"-{self.policy.name.replace('_', '-')}"
            object.__setattr__(self, "label", self.scorer.label + suffix)
        return self

    @property
    def selection(self) -> SelectionConfig:
        return SelectionConfig(policy=self.policy, reduction=self.reduction)

    @property
    def stochastic(self) -> bool:
        """Whether the selection depends on the study's seed even where its own seeds are held."""
        return is_stochastic(self.scorer) or self.shuffled

    @property
    def shuffled(self) -> bool:
        """Whether the policy draws."""
        return self.policy is not None and self.policy.draws


def make_entry(values: Any) -> Any:
    """`bm25`, or `{name: bm25, <scorer options>, policy: ..., reduction: ..., label: ...}`."""
    if isinstance(values, MethodEntry) or (isinstance(values, dict) and "scorer" in values):
        return values
    if isinstance(values, Scorer):
        return {"scorer": values}
    if isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, dict):
        raise ValueError("a method is a name, or a mapping with the key 'name' and its options")
    own = {k: v for k, v in values.items() if k in ENTRY_KEYS}
    return {"scorer": make_scorer({k: v for k, v in values.items() if k not in ENTRY_KEYS}), **own}


Entry = Annotated[MethodEntry, BeforeValidator(make_entry)]


class Study(Config):
    """methods x fractions x seeds for each target; zero-shot is always a row."""

    name: str = "study"
    pool: PoolConfig
    targets: list[TargetConfig] = Field(min_length=1)
    model: ModelConfig = Field(description="the model to tune")
    selector: ModelConfig | None = Field(None, description="the model that selects; default: the one to tune")
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    methods: list[Entry] = Field(min_length=1)
    fractions: list[Share] = Field([0.025, 0.05, 0.1, 0.25, 1.0], min_length=1)
    seeds: list[int] = Field([3, 6, 9], min_length=1)
    selection_seeds: Literal["vary", "fixed"] = Field(
        "vary",
        description="seeds of warm-up, tuning, points and projection: vary with the study's seeds, or fixed, which scores "
        "once a method and leaves spread over seeds that covers training alone",
    )
    training: TrainConfig = Field(default_factory=TrainConfig)
    evaluation: BenchmarkField = Field(default_factory=lambda: make_benchmark("exact_match"))
    decontaminate: bool | None = Field(
        None, description="leave benchmark items out of the pool; null: where the evaluation is a standard benchmark"
    )
    decontamination: DecontaminationConfig = Field(default_factory=DecontaminationConfig)
    convention: str = Field("architectural", description="cost convention: architectural, 6NT, matmul")
    truth: PathText | None = Field(None, description="JSONL of {id, score} with the true labels; may hold {target}")
    workers: int | None = Field(
        None, ge=1, description="processes that work at once; null: one a GPU, or up to 4 cores"
    )
    gpus: str | None = Field(None, description="GPUs of this machine that work, as 0,2; null: all")
    execution: Literal["local", "ray"] = Field(
        "local", description="where the work is done: this machine, a Ray cluster"
    )
    address: str | None = Field(
        None, description="of the Ray cluster, as host:6379; null: this machine's, or a new one"
    )

    @field_validator("fractions")
    @classmethod
    def _shares(cls, values: list[float]) -> list[float]:
        return sorted(set(values))

    @model_validator(mode="after")
    def _distinct(self) -> Study:
        for kind, names in (
            ("method label", [m.label for m in self.methods]),
            ("target", [t.name for t in self.targets]),
        ):
            double = {n for n in names if names.count(n) > 1}
            if double:
                raise ValueError(f"two entries have the same {kind} {sorted(double)[0]!r}; give one another label")
        return self

    def scorer_of(self, entry: MethodEntry, seed: int) -> Scorer:
        """The entry's scorer as a run of `seed` uses it."""
        return varied(entry.scorer, seed) if self.selection_seeds == "vary" else entry.scorer

    def selection_seed(self, entry: MethodEntry, seed: int) -> int | None:
        """The seed that a run's selection was drawn with; None where nothing in it is random."""
        if entry.stochastic or (self.selection_seeds == "vary" and draws(entry.scorer)):
            return seed
        return 0 if draws(entry.scorer) else None

    @property
    def selector_model(self) -> ModelConfig:
        return self.selector or self.model

    @property
    def decontaminated(self) -> bool:
        """Whether benchmark items are looked for in the pool: unsaid, when the evaluation is a standard benchmark."""
        return self.evaluation.standard if self.decontaminate is None else self.decontaminate
