"""The whole pipeline on one page: score, select, train, evaluate.

Each stage is a plain function: a typed config in, one artifact directory out. The config is complete, so the
`config.yaml` that every artifact holds runs the stage again (`paydirt run DIR/config.yaml`). A stage whose inputs have not
changed does nothing. `Workspace` remembers what is open, so that a study opens its pool once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from paydirt.artifacts import Artifact, build, cache_root, fingerprint, open_artifact, write_atomic
from paydirt.config import Config
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.data.tokens import TokenStore, token_store
from paydirt.evaluation.base import BenchmarkField, make_benchmark
from paydirt.models.load import ModelConfig, load_tokenizer, model_fingerprint
from paydirt.scorers.base import Job, Method, score_inputs, target_fingerprint
from paydirt.scores import Scores
from paydirt.selection.budget import Budget
from paydirt.selection.select import SelectionConfig, choose, selected_ids, write_selection
from paydirt.targets import TargetConfig, load_target
from paydirt.training.config import TrainConfig
from paydirt.types import Cost, EvalResult, Target

T = TypeVar("T")


@dataclass
class Workspace:
    """Where shared artifacts live, and what is already open: pools, targets, encoders."""

    shared: Path = field(default_factory=cache_root)
    _open: dict[str, Any] = field(default_factory=dict)

    def _once(self, kind: str, config: Config, make: Callable[[], T]) -> T:
        key = f"{kind}:{fingerprint(config.to_dict())}"
        if key not in self._open:
            self._open[key] = make()
        return self._open[key]

    def pool(self, config: PoolConfig) -> Pool:
        return self._once("pool", config, lambda: open_pool(config, self.shared))

    def target(self, config: TargetConfig) -> Target:
        return self._once("target", config, lambda: load_target(config))

    def encoder(self, model: ModelConfig, encoding: EncodingConfig) -> Encoder:
        tokenizer = self._once("tokenizer", model, lambda: load_tokenizer(model))
        return self._once(f"encoder {fingerprint(encoding.to_dict())}", model, lambda: Encoder(tokenizer, encoding))

    def tokens(self, pool: PoolConfig, model: ModelConfig, encoding: EncodingConfig) -> TokenStore:
        encoder = self.encoder(model, encoding)
        return self._once(
            f"tokens {encoder.fingerprint}", pool, lambda: token_store(self.pool(pool), encoder, self.shared)
        )

    def model_fingerprint(self, model: ModelConfig) -> str:
        return self._once("model", model, lambda: model_fingerprint(model.path))


class ScoreStage(Config):
    """Score every pool example for a target."""

    pool: PoolConfig
    target: TargetConfig
    method: Method
    model: ModelConfig | None = Field(None, description="selector model; gives token counts to every method")
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    seed: int = 0
    convention: str = Field("architectural", description="cost convention: architectural, 6NT, matmul")


def score(config: ScoreStage, out: Path, workspace: Workspace) -> Artifact:
    """Pool and target to similarities on disk (see `paydirt.scores`)."""
    pool, target = workspace.pool(config.pool), workspace.target(config.target)
    job = Job(pool, target, out, workspace.shared, config.model, config.encoding, config.seed, config.convention)
    identity: dict[str, Any] = {"method": config.method.to_dict()}
    if config.method.stochastic:
        identity["seed"] = config.seed
    if config.method.needs_model and config.model is not None:
        identity |= {"dtype": config.model.dtype, "quantization": config.model.quantization}
        identity["convention"] = config.convention  # the manifest states the cost; shared stores make this cheap

    def make(part: Path) -> dict[str, Any]:
        job.out = part
        return config.method.run(job)

    return build(out, "score", config.to_dict(), score_inputs(config.method, job), make, identity)


def predict_score(config: ScoreStage, workspace: Workspace) -> Cost:
    """What `score` would cost, without running it."""
    pool, target = workspace.pool(config.pool), workspace.target(config.target)
    shared = workspace.shared
    job = Job(pool, target, shared, shared, config.model, config.encoding, config.seed, config.convention)
    return config.method.predict_cost(job)


class SelectStage(Config):
    """Choose a subset by finished scores."""

    pool: PoolConfig
    scores: str = Field(description="directory of finished scores")
    selection: SelectionConfig = Field(default_factory=SelectionConfig)
    budget: Budget
    seed: int = 0
    flops_per_token: float | None = Field(None, description="training FLOPs of one token, for a FLOPs budget")


def select(config: SelectStage, out: Path, workspace: Workspace) -> Artifact:
    """Scores and a budget to a ranked JSONL (see `paydirt.selection.select`)."""
    scored = open_artifact(Path(config.scores), "score")
    pool = workspace.pool(config.pool)
    identity = {k: v for k, v in config.to_dict().items() if k not in ("pool", "scores")}

    config.budget.check_unit(scored.notes["token_unit"])

    def make(part: Path) -> dict[str, Any]:
        scores = Scores(scored.path)
        chosen = choose(scores, config.selection, config.budget, config.seed, config.flops_per_token)
        return write_selection(part, pool, scores, chosen) | {"token_unit": scored.notes["token_unit"]}

    inputs = {"pool": pool.fingerprint, "scores": scored.fingerprint}
    return build(out, "select", config.to_dict(), inputs, make, identity)


class TrainStage(Config):
    """Fine-tune a model on a pool, or on the part of it that a selection names."""

    pool: PoolConfig
    selection: str | None = Field(None, description="directory of a finished selection; null trains on the whole pool")
    model: ModelConfig
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    training: TrainConfig = Field(default_factory=TrainConfig)
    seed: int = 0
    convention: str = "architectural"


def train(config: TrainStage, out: Path, workspace: Workspace) -> Artifact:
    """Model and data to a tuned model in `out/model` (see `paydirt.training.train`)."""
    from paydirt.training.train import Rows, train_model

    pool = workspace.pool(config.pool)
    ids = selected_ids(Path(config.selection)) if config.selection else pool.ids()
    encoder = workspace.encoder(config.model, config.encoding)
    inputs = train_inputs(config, pool, ids, encoder, workspace)
    identity = {"training": config.training.to_dict(), "seed": config.seed, "dtype": config.model.dtype}

    def make(part: Path) -> dict[str, Any]:
        tokens = workspace.tokens(config.pool, config.model, config.encoding)
        rows = pool.rows_of(sorted(ids))
        fraction = len(rows) / len(pool)
        return train_model(
            part,
            config.model,
            encoder,
            Rows(tokens, rows),
            config.training,
            seed=config.seed,
            fraction=fraction,
            convention=config.convention,
        )

    return build(out, "train", config.to_dict(), inputs, make, identity, collective=True)


def train_inputs(
    config: TrainStage, pool: Pool, ids: list[str], encoder: Encoder, workspace: Workspace
) -> dict[str, str]:
    """What a tuned model depends on beside its config: the set of examples, whatever their order."""
    return {
        "pool": pool.fingerprint,
        "examples": fingerprint(sorted(ids)),
        "encoder": encoder.fingerprint,
        "model": workspace.model_fingerprint(config.model),
    }


class EvaluateStage(Config):
    """Measure a model on a benchmark."""

    model: ModelConfig
    target: TargetConfig | None = Field(None, description="null for a benchmark that brings its own items")
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    benchmark: BenchmarkField = Field(default_factory=lambda: make_benchmark("exact_match"))


def evaluate(config: EvaluateStage, out: Path, workspace: Workspace) -> Artifact:
    """Model and benchmark to `result.json`; standard benchmarks also leave every item with its verdict."""
    from paydirt.cost.ledger import Ledger
    from paydirt.models.load import resolve_device

    benchmark = config.benchmark.resolved(config.target)
    target = workspace.target(config.target) if config.target else None
    encoder = workspace.encoder(config.model, config.encoding)
    inputs = {
        "model": workspace.model_fingerprint(config.model),
        "encoder": encoder.fingerprint,
        **benchmark.inputs(),
    }
    identity: dict[str, Any] = {"benchmark": benchmark.identity(), "dtype": config.model.dtype}
    if target is not None:
        tests = [[e.id, e.subset, [[m.role, m.content] for m in e.messages]] for e in target.test]
        inputs |= {"target": target_fingerprint(target), "test": fingerprint(tests)}
        identity["name"] = target.name
    name = target.name if target else benchmark.name

    def make(part: Path) -> dict[str, Any]:
        with Ledger(part).record("evaluate", name, device=resolve_device(config.model.device)):
            result = benchmark.run(benchmark.load(config.model), encoder, target, part)
        write_atomic(part / "result.json", json.dumps(asdict(result), indent=1, ensure_ascii=False))
        return {"metrics": result.metrics, "n": result.n, "settings": result.settings}

    return build(out, "evaluate", config.to_dict(), inputs, make, identity)


def read_result(directory: Path) -> EvalResult:
    """The result of a finished evaluation."""
    artifact = open_artifact(directory, "evaluate")
    return EvalResult(**json.loads((artifact.path / "result.json").read_text(encoding="utf-8")))


STAGES: dict[str, tuple[type[Config], Callable[[Any, Path, Workspace], Artifact]]] = {
    "score": (ScoreStage, score),
    "select": (SelectStage, select),
    "train": (TrainStage, train),
    "evaluate": (EvaluateStage, evaluate),
}
