"""The whole pipeline on one page: score, select, train, evaluate.

Each stage is a plain function: a typed config in, one artifact directory out. The config is complete, so the
`config.yaml` that every artifact holds runs the stage again (`paydirt run DIR/config.yaml`). A stage whose inputs have not
changed does nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from paydirt.core.artifacts import (
    Artifact,
    build,
    fingerprint,
    open_artifact,
    read_json,
    reading,
    write_atomic,
)
from paydirt.core.config import Aside, Config, PathText, deciding
from paydirt.core.progress import say
from paydirt.core.source import code_digest
from paydirt.core.types import NO_TARGET, Cost, EvalResult, Target
from paydirt.data.columns import check_columns
from paydirt.data.encoding import Encoded, Encoder, EncodingConfig
from paydirt.data.pool import Pool, PoolConfig
from paydirt.models.load import ModelConfig
from paydirt.scoring.base import MODEL_LIBRARIES, Job, Method, default_policy, scorer_of
from paydirt.scoring.inputs import (
    check_target,
    is_stochastic,
    nested,
    score_inputs,
    score_libraries,
    target_fingerprint,
)
from paydirt.selection.budget import Budget
from paydirt.selection.combine import OtherScores, Weighted
from paydirt.selection.scores import Scores
from paydirt.selection.select import SelectionConfig, check_pool, choose, requested_fraction, taken_ids, write_selection
from paydirt.tasks import TargetConfig
from paydirt.tasks.benchmark import Benchmark, BenchmarkField, make_benchmark
from paydirt.tasks.references import examples_with_form
from paydirt.training.config import VERSION as TRAINING_VERSION
from paydirt.training.config import TrainConfig
from paydirt.training.shared import examples_fingerprint
from paydirt.workspace import Workspace as Workspace

# Raised when a stage's own code gives other bytes for the same config and inputs: what older code made is then stale.
# (Scorers, policies and benchmarks count by their own code, encoders and columns by versions of their own.)
SCORE_VERSION = 2
SELECT_VERSION = 2
EVALUATE_VERSION = 1
# Beside a model's libraries: peft and accelerate hold the training loop's arithmetic, numpy its order of examples.
TRAIN_LIBRARIES = (*MODEL_LIBRARIES, "accelerate", "numpy")


class ScoreStage(Config):
    """Score every pool example for a target."""

    pool: PoolConfig
    target: TargetConfig | None = Field(None, description="null for a method that compares with no references")
    method: Method
    model: ModelConfig | None = Field(None, description="selector model; gives token counts to every method")
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    seed: int = 0
    convention: str = Field("architectural", description="cost convention: architectural, 6NT, matmul")


def score(config: ScoreStage, out: Path, workspace: Workspace) -> Artifact:
    """Pool and target to similarities on disk (see `paydirt.selection.scores`)."""
    job = job_of(config, workspace, out)
    pool, target = job.pool, job.target
    check_target(config.method, target)
    job.executor, job.inputs = workspace.executor, score_inputs(config.method, job)
    identity: dict[str, Any] = {"method": deciding(config.method)}
    if is_stochastic(config.method):
        identity["seed"] = config.seed
    if any(inner.needs_model for _, inner in nested(config.method)) and config.model is not None:
        identity["model"] = workspace.model_identity(config.model)
        identity["convention"] = config.convention  # the manifest states the cost; shared stores make this cheap
    identity["shard_rows"] = job.shard_rows

    def make(part: Path) -> dict[str, Any]:
        job.out = part
        return {**config.method.run(job), "pool": pool.account()}

    return build(
        out,
        "score",
        config.to_dict(),
        job.inputs,
        make,
        identity,
        version=SCORE_VERSION,
        libraries=[*score_libraries(config.method, job)],
        replace=workspace.replace,
    )


def target_of(config: ScoreStage, workspace: Workspace) -> Target:
    """The references to compare with, which may be none."""
    return workspace.target(config.target) if config.target is not None else NO_TARGET


def predict_score(config: ScoreStage, workspace: Workspace) -> Cost:
    """What `score` would cost, without running it."""
    return config.method.predict_cost(job_of(config, workspace, workspace.shared))


def job_of(config: ScoreStage, workspace: Workspace, out: Path) -> Job:
    """What the method of `config` is given; asked for facts alone, it writes nothing to `out`."""
    pool, target = workspace.pool(config.pool), target_of(config, workspace)
    return Job(pool, target, out, workspace.shared, config.model, config.encoding, config.seed, config.convention)


class SelectStage(Config):
    """Choose a subset by finished scores."""

    pool: PoolConfig
    scores: PathText = Field(description="directory of finished scores")
    weight: float = Field(1.0, gt=0, description="of these scores' target beside others")
    others: list[OtherScores] = Field(default_factory=list, description="scores of the same pool for other targets")
    selection: SelectionConfig = Field(default_factory=SelectionConfig)
    budget: Budget
    seed: int = 0
    flops_per_token: float | None = Field(None, gt=0, description="training FLOPs of one token, for a FLOPs budget")


def select(config: SelectStage, out: Path, workspace: Workspace) -> Artifact:
    """Scores and a budget to a ranked JSONL (see `paydirt.selection.select`)."""
    scored = open_artifact(Path(config.scores), "score")
    pool = workspace.pool(config.pool)
    others = [open_artifact(Path(other.scores), "score") for other in config.others]
    for each in [scored, *others]:
        check_pool(each, pool)
    places = [each.path.resolve() for each in [scored, *others]]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise ValueError(f"{twice}: given twice; a target counts for more by its weight, not by coming again")
    with reading(scored.path, "manifest.json"):
        unit = scored.notes["token_unit"]
    config.budget.check_unit(unit)
    if not others and (config.weight != 1 or config.selection.combine != "turns"):
        raise ValueError("weight and combine are of several targets; give scores of others too, or leave them out")
    method = scorer_of(scored.config)
    selection = config.selection.resolved(default_policy(method))
    policy = selection.policy
    assert policy is not None
    if config.selection.policy is None and policy.name != "top":
        say(f"select: by the policy {policy.name}, the default of {method}")
    if config.seed and not policy.draws:
        say(f"select: the policy {policy.name} draws nothing, so the seed {config.seed} changes nothing")
    config = config.model_copy(update={"selection": selection, "seed": config.seed if policy.draws else 0})
    identity = {k: v for k, v in deciding(config).items() if k != "pool"}  # which an input stands for

    def make(part: Path) -> dict[str, Any]:
        scores = Scores(scored.path)
        several = [Weighted(Scores(other.path), given.weight) for other, given in zip(others, config.others)]
        chosen = choose(
            scores,
            config.selection,
            config.budget,
            config.seed,
            config.flops_per_token,
            pool=pool,
            shared=workspace.shared,
            others=several,
            weight=config.weight,
        )
        notes = write_selection(part, pool, scores, chosen, config.budget)
        return notes | {"token_unit": unit, "pool": pool.account()}

    inputs = {
        "pool": pool.fingerprint,
        "records": open_artifact(pool.path, "pool").fingerprint,  # whole, fields that no score sees included
        "scores": scored.fingerprint,
        **{f"scores.{number}": other.fingerprint for number, other in enumerate(others, 2)},
        **selection.inputs(workspace.shared),
    }
    return build(
        out,
        "select",
        config.to_dict(),
        inputs,
        make,
        identity,
        version=SELECT_VERSION,
        libraries=["numpy", *policy.libraries],  # orders, means and random permutations
        replace=workspace.replace,
    )


class TrainStage(Config):
    """Fine-tune a model on a pool, or on the part of it that a selection names."""

    pool: PoolConfig
    selection: PathText | None = Field(
        None, description="directory of a finished selection; null trains on the whole pool"
    )
    model: ModelConfig
    encoding: EncodingConfig = Field(default_factory=EncodingConfig)
    training: TrainConfig = Field(default_factory=TrainConfig)
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of its pool that the data was chosen as; null: as the selection says, else 1",
    )
    references: PathText | None = Field(
        None, description="file of examples whose loss is measured while training, for people and for early_stop"
    )
    references_split: str = Field(
        "train", description="their split, where that is a datasets directory; all: every one"
    )
    references_columns: dict[str, str] = Field({}, description="what they call things, such as {prompt: q, answer: a}")
    seed: int = 0
    convention: Annotated[str, Aside("of the ledger's prediction alone; the notes state every convention")] = (
        "architectural"
    )

    @property
    def share(self) -> float:
        """The requested share: a rounded count over the pool may be above it, and learning rates go by it."""
        if self.fraction is not None:
            return self.fraction
        return requested_fraction(Path(self.selection)) if self.selection else 1.0


def train(config: TrainStage, out: Path, workspace: Workspace) -> Artifact:
    """Model and data to a tuned model in `out/model` (see `paydirt.training.train`).

    By the workspace's executor: in this process (which may be one of a launcher's), or by several on a Ray cluster.
    """
    pool = workspace.pool(config.pool)
    ids = _chosen_ids(config, pool)
    encoder = workspace.encoder(config.model, config.encoding)
    inputs = train_inputs(config, pool, ids, encoder, workspace)
    if references := watched_examples(config, encoder):
        inputs["references"] = examples_fingerprint(references, [str(n) for n in range(len(references))])
    identity = {
        "training": deciding(config.training),
        "learning_rate": config.training.rate_for(config.share),
        "seed": config.seed,
        "model": workspace.model_identity(config.model),
    }

    def make(part: Path) -> dict[str, Any]:
        workspace.tokens(config.pool, config.model, config.encoding)  # once, before several processes ask for them
        work = partial(_tune, config, part, workspace)
        read = [
            path
            for path in (config.model.path, config.model.tokenizer, config.selection, config.references, str(pool.path))
            if path
        ]
        notes = workspace.executor.together(work, config.model.device, part, workspace.shared, inputs=read)
        return {**notes, "pool": pool.account()}

    return build(
        out,
        "train",
        config.to_dict(),
        inputs,
        make,
        identity,
        collective=True,
        version=TRAINING_VERSION,
        libraries=TRAIN_LIBRARIES,
        replace=workspace.replace,
    )


def _chosen_ids(config: TrainStage, pool: Pool) -> list[str]:
    return taken_ids(open_artifact(Path(config.selection), "select").path) if config.selection else pool.ids()


def watched_examples(config: TrainStage, encoder: Encoder) -> list[Encoded]:
    """The references whose loss is measured while training."""
    if config.references is None:
        return []
    check_columns(config.references_columns)
    found = examples_with_form(config.references, True, config.references_split, config.references_columns)
    shown = [example for example, _ in found]
    return [one for one in encoder.encode_examples(shown) if one.n_supervised]


def _tune(config: TrainStage, part: Path, workspace: Workspace) -> dict[str, Any]:
    """The training itself, in every process that shares it; its notes."""
    from paydirt.training.train import Rows, train_model

    pool, encoder = workspace.pool(config.pool), workspace.encoder(config.model, config.encoding)
    return train_model(
        part,
        config.model,
        encoder,
        Rows(
            workspace.tokens(config.pool, config.model, config.encoding),
            pool.rows_of(sorted(_chosen_ids(config, pool))),
        ),
        config.training,
        seed=config.seed,
        fraction=config.share,
        convention=config.convention,
        references=watched_examples(config, encoder),
    )


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
    from paydirt.models.load import prove_adapter, resolve_device

    benchmark = config.benchmark.resolved(config.target)
    target = workspace.target(config.target) if config.target else None
    encoder = workspace.encoder(config.model, config.encoding)
    inputs = {
        "model": workspace.model_fingerprint(config.model),
        "encoder": encoder.fingerprint,
        "code": code_digest(type(benchmark), Benchmark),
        **benchmark.inputs(),
    }
    identity: dict[str, Any] = {
        "benchmark": benchmark.identity(),
        "model": workspace.model_identity(config.model),
    }
    if target is not None:
        tests = [[e.id, e.subset, [m.identity for m in e.messages]] for e in target.test]
        inputs |= {"target": target_fingerprint(target), "test": fingerprint(tests)}
        identity["name"] = target.name
    name = target.name if target else benchmark.name

    def make(part: Path) -> dict[str, Any]:
        with Ledger(part).record("evaluate", name, device=resolve_device(config.model.device)) as entry:
            model = benchmark.load(config.model)
            prove_adapter(model, config.model.path)
            result = benchmark.run(model, encoder, target, part)
            entry.predicted_flops, entry.measured_flops = result.predicted_flops, result.measured_flops
            entry.tokens = result.tokens
        write_atomic(part / "result.json", json.dumps(asdict(result), indent=1, ensure_ascii=False))
        return {"metrics": result.metrics, "n": result.n, "settings": result.settings}

    return build(
        out,
        "evaluate",
        config.to_dict(),
        inputs,
        make,
        identity,
        version=EVALUATE_VERSION,
        libraries=MODEL_LIBRARIES,  # the graders' versions are among the benchmark's inputs
        replace=workspace.replace,
    )


def read_result(directory: Path) -> EvalResult:
    """The result of a finished evaluation."""
    artifact = open_artifact(directory, "evaluate")
    values = read_json(artifact.path, "result.json")
    with reading(artifact.path, "result.json"):
        result = EvalResult(**values)
        float(result.score)
    return result


STAGES: dict[str, tuple[type[Config], Callable[[Any, Path, Workspace], Artifact]]] = {
    "score": (ScoreStage, score),
    "select": (SelectStage, select),
    "train": (TrainStage, train),
    "evaluate": (EvaluateStage, evaluate),
}
