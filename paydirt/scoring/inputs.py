"""What decides scores beside their config: pool, target, model, code and libraries, of every nested scorer too."""

from __future__ import annotations

from collections.abc import Iterator

from paydirt.core.artifacts import fingerprint
from paydirt.core.config import Config
from paydirt.core.source import code_digest
from paydirt.core.types import Target
from paydirt.models.load import model_fingerprint
from paydirt.scoring.base import MODEL_LIBRARIES, Job, Scorer


def target_fingerprint(target: Target) -> str:
    """Identity of what scorers see of a target: its references and their subtasks, not its test split."""
    rows = [[e.id, s, [m.identity for m in e.messages]] for e, s in zip(target.references, target.subtask_of)]
    return fingerprint(rows)


def nested(config: Config, place: str = "") -> Iterator[tuple[str, Scorer]]:
    """A scorer and all that its fields hold and it runs, each with its place: "" for itself, "stages.0.method." ..."""
    if isinstance(config, Scorer):
        yield place, config
    idle = config.idle if isinstance(config, Scorer) else frozenset()
    for name in (name for name in type(config).model_fields if name not in idle):
        value = getattr(config, name)
        for number, inner in enumerate(value if isinstance(value, list | tuple) else [value]):
            if isinstance(inner, Config):
                at = f"{place}{name}.{number}." if isinstance(value, list | tuple) else f"{place}{name}."
                yield from nested(inner, at)


def is_stochastic(scorer: Scorer) -> bool:
    """Whether the scores depend on the job's seed: by the method itself or one that it uses."""
    return any(inner.stochastic for _, inner in nested(scorer))


def score_libraries(scorer: Scorer, job: Job) -> set[str]:
    """Distributions whose numbers enter the scores, or the lengths beside them."""
    used = {library for _, inner in nested(scorer) for library in inner.libraries}
    if any(inner.needs_model for _, inner in nested(scorer)):
        used |= {*MODEL_LIBRARIES}
    return used | ({"transformers", "tokenizers"} if job.model is not None else set())


def score_inputs(scorer: Scorer, job: Job) -> dict[str, str]:
    """Everything the scores depend on beside config: these decide whether a finished score is current.

    Of every nested scorer too: its own inputs, its version and the digest of its code.
    """
    inputs = {"pool": job.pool.fingerprint}
    for place, inner in nested(scorer):
        inputs |= {f"{place}{name}": value for name, value in inner.inputs(job).items()}
        inputs[f"{place}code"] = f"{inner.name} {inner.version} {code_digest(type(inner), Scorer)}"
    if any(inner.uses_target for _, inner in nested(scorer)):
        inputs["target"] = target_fingerprint(job.target)
    if job.model is not None:
        inputs["encoder"] = job.encoder.fingerprint
    if scorer.needs_model:
        inputs["model"] = model_fingerprint(job.selector.path)
    return inputs


def check_target(scorer: Scorer, target: Target) -> None:
    """ValueError where a method compares with references that are not there, or reads answers that they lack."""
    if not target.references and any(inner.uses_target for _, inner in nested(scorer)):
        raise ValueError(
            f"method {scorer.name!r} compares the pool with references; give a target (--target, with --references or "
            "--data). random, length, ifd and ppl with tune_epochs 0 need none"
        )
    inner = [each for place, each in nested(scorer) if place] or [scorer]
    if (without := target.unanswered) and any(each.reads_answers for each in inner):
        raise ValueError(
            f"method {scorer.name!r} learns from the references' answers, and {len(without)} of {len(target.references)} "
            f"references of {target.name!r} have none (first: {without[0]!r}); add the answers, or take a method that reads "
            "prompts alone: bm25, dsir, embed, rds"
        )
