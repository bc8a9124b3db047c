"""What a budget buys: the price of selecting and training before anything runs, and the advisor's answer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from paydirt.analysis.advisor import Advice
from paydirt.api.calls import Encoding, PathLike, plain, spoken
from paydirt.api.model import ModelLike, model_values
from paydirt.api.pool import Pool
from paydirt.api.study import Study
from paydirt.api.tables import Tabular
from paydirt.api.target import Target
from paydirt.core.artifacts import cache_root
from paydirt.core.config import parse
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import EncoderFacts, Facts, told
from paydirt.cost.forms import training_flops
from paydirt.cost.hardware import hours, money
from paydirt.cost.lookup import within
from paydirt.cost.methods import ALIASES, selection_cost
from paydirt.models.load import ModelConfig
from paydirt.scoring.base import Job, Scorer, make_scorer
from paydirt.selection.budget import share
from paydirt.stages import ScoreStage, Workspace


class Line(NamedTuple):
    """One part of a price; hours and money where the hardware is named and its rent known."""

    part: str
    flops: float
    hours: float | None = None
    usd: float | None = None


@dataclass(frozen=True, repr=False)
class Quote(Tabular):
    """What a method, and training on what it chooses, would cost: parts, then the sum of both."""

    method: str
    convention: str
    fraction: float
    lines: tuple[Line, ...]

    @property
    def selecting(self) -> float:
        """FLOPs."""
        return self.lines[0].flops

    @property
    def training(self) -> float:
        """FLOPs."""
        return self.lines[-2].flops

    @property
    def total(self) -> float:
        """FLOPs."""
        return self.lines[-1].flops

    def to_arrow(self) -> pa.Table:
        return pa.Table.from_pylist([line._asdict() for line in self.lines])

    def __repr__(self) -> str:
        parts = f"{self.selecting:.4g} to select, {self.training:.4g} to train on {self.fraction:.1%}"
        return f"Quote({self.method}: {self.total:.4g} FLOPs, {parts}; {self.convention})"


def quote(
    scorer: Scorer,
    facts: Facts,
    architecture: Architecture,
    *,
    fraction: float = 0.05,
    lora: bool = True,
    hardware: str | None = None,
    devices: int = 1,
    utilisation: float | None = None,
) -> Quote:
    """The closed form that `--dry-run` and a study use, for facts that were told or counted."""
    within("--fraction", fraction, 1e-9, 1)
    if facts.encoder is None:
        facts = replace(facts, encoder=_read_encoder(facts))
    selecting = selection_cost(scorer, facts)
    none = not facts.references.count
    if none and selecting.flops != selection_cost(scorer, replace(facts, references=facts.pool)).flops:
        raise ValueError(f"what {scorer.name} costs depends on the references; give --references")
    training = training_flops(architecture, fraction * facts.pool.total, facts.pool.mean, facts.convention, lora=lora)
    rows = [("select", selecting.flops), *((f"  {k}", v) for k, v in selecting.parts.items())]
    rows += [(f"train on {fraction:.1%}", training), ("both", selecting.flops + training)]
    if hardware is None:
        return Quote(scorer.name, facts.convention, fraction, tuple(Line(*row) for row in rows))
    how: dict[str, Any] = {"count": devices, "mfu": utilisation}
    lines = (Line(part, n, hours(n, hardware, **how), money(n, hardware, **how)) for part, n in rows)
    return Quote(scorer.name, facts.convention, fraction, tuple(lines))


def examples_of(tokens: float, examples: float | None, seq_len: float | None) -> float:
    """Examples in a pool: attention's cost depends on how long they are."""
    within("--pool-tokens", tokens, 1, 1e18)
    if examples is None:
        if seq_len is None:
            raise ValueError("how long examples are decides what they cost; give --pool-examples (or --seq-len)")
        return tokens / within("--seq-len", seq_len, 1, min(1e9, tokens))
    within("--pool-examples", examples, 1, min(1e15, tokens))
    if seq_len is not None and not 0.99 < seq_len * examples / tokens < 1.01:
        raise ValueError(
            f"--seq-len {seq_len:g} and --pool-examples {examples:g} disagree: {tokens:g} tokens make "
            f"{tokens / examples:.4g} an example; give one of the two"
        )
    return examples


def _read_encoder(facts: Facts) -> Any:
    """An encoder's size from the encoder itself, as scoring reads it; lengths as the selector's, truncated."""

    def encoder(settings: Any) -> EncoderFacts:
        try:
            parameters = settings.parameters()
        except ValueError as error:
            raise ValueError(f"{error}; or say how many parameters it has (--encoder-params)") from None
        most = settings.max_tokens
        return EncoderFacts(parameters, facts.pool.capped(most), facts.references.capped(most))

    return encoder


@spoken
def cost(
    method: Scorer | str | Mapping[str, Any],
    pool: Pool | None = None,
    target: Target | None = None,
    *,
    model: ModelLike,
    selector: ModelLike | None = None,
    encoding: Encoding = None,
    pool_tokens: float | None = None,
    pool_examples: float | None = None,
    seq_len: float | None = None,
    references: int = 0,
    reference_tokens: float | None = None,
    subtasks: int = 1,
    answer_tokens: float | None = None,
    encoder_params: float | None = None,
    tasks: int = 1,
    fraction: float | str = 0.05,
    lora: bool = True,
    convention: str = "architectural",
    hardware: str | None = None,
    devices: int = 1,
    utilisation: float | None = None,
) -> Quote:
    """What selecting by a method and training on `fraction` of the pool would cost; nothing is run.

    For a pool and a target that are there, from their real lengths (they are encoded); else from numbers, as `paydirt
    cost`. `model` is what is tuned, `selector` (default: the same) what selects; a config.json is enough for numbers.
    """
    if isinstance(method, str):
        method = ALIASES.get(method.lower(), method)
    scorer: Scorer = make_scorer(plain(method) if isinstance(method, Mapping) else method)
    arch = Architecture.from_config(_path(model))
    if pool is not None and target is not None:
        values = {
            "pool": pool.config,
            "target": target.config,
            "method": scorer,
            "model": model_values(selector or model),
            "encoding": plain(encoding) or {},
            "convention": convention,
        }
        facts = _counted(parse(ScoreStage, values, where="cost"), pool, target, tasks)
    elif pool is not None or target is not None or pool_tokens is None:
        raise ValueError("a cost is that of a pool and a target, or of numbers: give both objects, or pool_tokens")
    else:
        facts = told(
            pool_tokens,
            examples_of(pool_tokens, pool_examples, seq_len),
            references,
            reference_tokens,
            subtasks=subtasks,
            architecture=Architecture.from_config(_path(selector)) if selector else arch,
            answer_tokens=answer_tokens,
            encoder_parameters=encoder_params,
            convention=convention,
            tasks=tasks,
        )
    how: dict[str, Any] = {"hardware": hardware, "devices": devices, "utilisation": utilisation}
    return quote(scorer, facts, arch, fraction=share(fraction), lora=lora, **how)


def _counted(stage: ScoreStage, pool: Pool, target: Target, tasks: int) -> Facts:
    """Facts of the score stage: the lengths of the encoded pool and references."""
    space, shared = Workspace(), cache_root()
    rows, shown = pool.opened(space), target.opened(space)
    job = Job(rows, shown, shared, shared, stage.model, stage.encoding, stage.seed, stage.convention)
    return replace(job.facts, tasks=tasks)


def _path(model: ModelLike) -> str:
    """Where a model's config.json lies."""
    values = model_values(model)
    return str(values.path if isinstance(values, ModelConfig) else os.fspath(values["path"]))


@spoken
def advise(
    *,
    pool_tokens: float,
    pool_examples: float | None = None,
    train_params: float | None = None,
    model_config: PathLike | None = None,
    budget: float | None = None,
    hardware: str | None = None,
    hours: float | None = None,
    devices: int = 1,
    references: float | None = None,
    tasks: int = 1,
    task: str = "",
    model: str = "",
    selector_params: Sequence[float] = (),
    results: Study | PathLike | Sequence[PathLike] | None = None,
    published: bool = True,
    lora: bool = False,
    metric: str | None = None,
    seq_len: float | None = None,
    utilisation: float | None = None,
    price: float | None = None,
    level: float = 0.8,
) -> Advice:
    """What a budget should buy: methods, selectors and shares of the pool by expected score, with how sure that is.

    Give `budget` in FLOPs a task, or `hardware` with `hours`; what is tuned by `train_params` or its `model_config`.
    `references` 0 leaves out methods that need them. `task` and `model` are names in the results; `price` is US dollars an
    hour and device. Raises ValueError as `paydirt advise` does.
    """
    from paydirt.analysis.advisor import advise as ask
    from paydirt.analysis.published import results_of
    from paydirt.analysis.strategies import Job as Plan

    architecture = Architecture.from_config(os.fspath(model_config)) if model_config is not None else None
    if train_params is None and architecture is None:
        raise ValueError("say what is to be tuned: --train-params 7e9, or --model-config path/to/config.json")
    plan = Plan(
        train_params=train_params
        if train_params is not None
        else float(architecture.parameters if architecture else 0),
        pool_tokens=pool_tokens,
        references=references,
        tasks=tasks,
        task=task,
        model=model,
        pool_examples=pool_examples,
        selector_params=tuple(selector_params),
        seq_len=seq_len,
        lora=lora,
        train_architecture=architecture,
    )
    found = [results.path] if isinstance(results, Study) else results
    files = [found] if isinstance(found, str | os.PathLike) else list(found or ())
    return ask(
        plan,
        budget,
        results=results_of(files, pool_tokens, pool_examples) if files else None,
        hardware=hardware,
        wall_hours=hours,
        devices=devices,
        use_published=published,
        level=level,
        metric=metric,
        utilisation=utilisation,
        usd_per_hour=price,
    )
