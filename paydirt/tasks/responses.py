"""Grade answers that were given elsewhere: a JSONL of prompts with responses, through the same graders as a model's.

What enters: records with `prompt` (or `id`) and `response`, and a benchmark that grades texts. What leaves: an evaluation
artifact like a model's, whose `items.jsonl` holds every verdict. Items without a response are not graded, and counted;
so are all responses that were given, and those that no item asked for. No model of ours was selected for here, so IFEval's
prompts are graded whether they are references or not.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from paydirt.core.artifacts import Artifact, Replace, build, file_digest, write_atomic
from paydirt.core.config import Config, PathText
from paydirt.core.progress import say
from paydirt.core.source import code_digest
from paydirt.data.readers import BadRecord, read_rows
from paydirt.tasks.benchmark import Benchmark, BenchmarkField, make_benchmark
from paydirt.tasks.harness.benchmark import StandardBenchmark
from paydirt.tasks.harness.offline import require_lm_eval

ANSWER_KEYS = ("response", "completion", "output", "answer")
NAME_KEYS = ("prompt", "id", "key")


class GradeStage(Config):
    """Grade recorded answers on a benchmark."""

    responses: PathText = Field(description="JSONL with `prompt` or `id`, and `response`")
    benchmark: BenchmarkField = Field(default_factory=lambda: make_benchmark("ifeval"))


def read_responses(path: Path) -> dict[str, str]:
    """Answers by prompt, id or key; ValueError names the line that has none, or that repeats another."""
    found: dict[str, str] = {}
    for line, record, _ in read_rows(str(path)):
        if isinstance(record, BadRecord):
            raise ValueError(f"{path}:{line}: {record}")
        key = next((k for k in NAME_KEYS if record.get(k) not in (None, "")), "")
        given = record.get(key)
        if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
            raise ValueError(f"{path}:{line}: `{key}` is {json.dumps(given)[:60]}; expected a text or a whole number")
        name = None if given is None else str(given).strip()
        answer = next((record[k] for k in ANSWER_KEYS if isinstance(record.get(k), str)), None)
        if name is None or answer is None:
            raise ValueError(f"{path}:{line}: expected `prompt` (or id) and `response`, found {', '.join(record)}")
        if name in found:
            raise ValueError(f"{path}:{line}: a second response to {name[:60]!r}; keep one")
        found[name] = answer
    if not found:
        raise ValueError(f"{path}: no responses in it")
    return found


def grade(config: GradeStage, out: Path, replace: Replace = "nothing") -> Artifact:
    """Recorded answers to `result.json`. ValueError where nothing fits the benchmark's items."""
    benchmark = config.benchmark
    if not isinstance(benchmark, StandardBenchmark):
        raise ValueError(f"benchmark {benchmark.name!r} asks a model; recorded responses fit ifeval, bbh and tydiqa")
    require_lm_eval()
    options = {"chat_template": False, "include_references": True}
    plain = benchmark.model_copy(update={k: v for k, v in options.items() if k in type(benchmark).model_fields})
    inputs = {
        **plain.inputs(),
        "code": code_digest(type(plain), Benchmark),
        "responses": file_digest(Path(config.responses)),
    }

    def make(part: Path) -> dict[str, Any]:
        degraded = plain.prepare()
        from paydirt.tasks.harness.model import RecordedLM

        lm = RecordedLM(read_responses(Path(config.responses)))
        result = plain.ask(lm, "as recorded", None, part, degraded)
        counts = {
            "responses": len(lm.answers),
            "items_without_response": lm.missing,
            "responses_without_item": len(lm.unused),
        }
        if lm.unused:
            first = next(iter(lm.unused))
            say(
                f"{config.responses}: {len(lm.unused)} of {len(lm.answers)} responses fit no item that was asked and are "
                f"not graded, first {first[:60]!r}"
            )
        result = dataclasses.replace(result, settings={**result.settings, **counts, "prompts": "as recorded"})
        write_atomic(part / "result.json", json.dumps(dataclasses.asdict(result), indent=1, ensure_ascii=False))
        return {"metrics": result.metrics, "n": result.n, "settings": result.settings}

    return build(out, "evaluate", config.to_dict(), inputs, make, plain.identity(), replace=replace, replay="grade")
