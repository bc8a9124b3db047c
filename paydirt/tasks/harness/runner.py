"""Run lm-eval tasks on one model and sum up: per task the mean of every metric with its standard error, and each item.

lm-eval builds the prompts, asks the model, extracts and grades; here the graded items are only counted. Standard errors
are of the mean over items, sd / sqrt(n), as lm-eval's own; a micro average weighs tasks by their items, a macro average
does not. Both treat the tasks as given, so their errors combine those of the tasks and not the choice of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

SEED = 1234  # of the choice of shots, as lm-eval's own; ours are taken in order
GRADING_SEED = 0  # lm-eval's own: a few of its graders draw at random


@dataclass
class TaskScore:
    """One task: mean and standard error of each metric over its n items, and the items as they were graded."""

    name: str
    n: int
    metrics: dict[str, float]
    stderr: dict[str, float]
    items: list[dict[str, Any]] = field(default_factory=list)
    first_prompt: str = ""
    version: str = ""
    generation: dict[str, Any] = field(default_factory=dict)


@lru_cache
def task_manager(folder: str | None) -> Any:
    """lm-eval's task index: of one folder of its tasks, or of all (which takes it a while)."""
    import lm_eval.tasks

    if folder is None:
        return lm_eval.tasks.TaskManager()
    place = Path(lm_eval.tasks.__file__).parent / folder
    return lm_eval.tasks.TaskManager(include_path=str(place), include_defaults=False)


def build_tasks(folder: str | None, specs: Sequence[dict[str, Any]]) -> list[Any]:
    """lm-eval's tasks with our changes on top of its own YAML. ValueError names a task that it does not have."""
    manager = task_manager(folder)
    missing = [s["task"] for s in specs if s["task"] not in manager.all_tasks]
    if missing:
        from paydirt.core.registry import did_you_mean

        raise ValueError(f"lm-eval has no task {missing[0]!r}; {did_you_mean(missing[0], manager.all_tasks)}")
    # lm-eval merges overrides into a registered task only where it is a member of a group.
    try:
        loaded = manager.load([{"group": "paydirt", "task": list(specs)}])
    except (OSError, ImportError) as error:  # no network, no cache, or a package that only this task needs
        names = ", ".join(str(spec["task"]) for spec in specs[:3])
        raise ValueError(f"lm-eval cannot load {names}: {str(error).splitlines()[0][:200]}") from error
    return list(loaded["tasks"].values())


def cap_generation(tasks: Sequence[Any], longest: int | None, room: int | None) -> list[str]:
    """Bound the tokens a model may generate, to half of what it can hold at most; returns what was lowered, in words."""
    lowered = []
    for task in tasks:
        if task.get_config("output_type") != "generate_until":
            continue
        kwargs = dict(task.get_config("generation_kwargs") or {})
        wanted = longest or int(kwargs.get("max_gen_toks", 256))
        allowed = wanted if room is None else min(wanted, room // 2)
        if allowed < wanted:
            lowered.append(f"{task.task_name}: {wanted} -> {allowed}")
        task.set_config(key="generation_kwargs", value={**kwargs, "max_gen_toks": allowed})
    return lowered


def foresee(lm: Any, tasks: Sequence[Any], *, chat: bool, multiturn: bool, limit: int | None) -> None:
    """Put to `lm` the requests that `run_tasks` would, in the same lots; nothing is graded."""
    from lm_eval.evaluator_utils import get_sample_size

    lots: dict[str, list[Any]] = {}
    for task in tasks:
        _settle(task)
        task.build_all_requests(
            limit=get_sample_size(task, limit),
            rank=lm.rank,
            world_size=lm.world_size,
            apply_chat_template=chat,
            fewshot_as_multiturn=multiturn,
            chat_template=lm.apply_chat_template if chat else None,
            tokenizer_name=lm.tokenizer_name if chat else "",
        )
        for request in task.instances:
            lots.setdefault(request.request_type, []).extend([request] * request.repeats)
    for kind, requests in lots.items():
        getattr(lm, kind)(requests)


def _settle(task: Any) -> None:
    """How shots are drawn."""
    task.set_fewshot_seed(seed=SEED)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)


def run_tasks(lm: Any, tasks: Sequence[Any], *, chat: bool, multiturn: bool, limit: int | None) -> list[TaskScore]:
    """Ask and grade: every task's items, the first `limit` of each; of a recorded model those that it has answers to."""
    import random

    from lm_eval.evaluator import evaluate

    random.seed(GRADING_SEED)
    by_name = {task.task_name: task for task in tasks}
    for task in tasks:
        _settle(task)
    found = evaluate(
        lm=lm,
        task_dict={"tasks": by_name, "groups": {}, "group_map": {}},
        limit=limit,
        bootstrap_iters=0,
        apply_chat_template=chat,
        fewshot_as_multiturn=multiturn,
    )
    answered = getattr(lm, "has_answer", None)
    kept = {
        name: [s for s in samples if answered is None or answered(s["doc"])]
        for name, samples in found["samples"].items()
    }
    scores = [_score(by_name[name], samples) for name, samples in kept.items() if samples]
    if not scores:
        raise ValueError("no recorded response fits an item of the benchmark; check `prompt` or `id`")
    return scores


def _score(task: Any, samples: list[dict[str, Any]]) -> TaskScore:
    names = samples[0]["metrics"]
    items = [_item(sample, names) for sample in samples]
    mean_, stderr = {}, {}
    for name in names:
        mean_[name], stderr[name] = ratio([sample[name] for sample in samples])
    return TaskScore(
        task.task_name,
        len(items),
        mean_,
        stderr,
        items,
        str(samples[0]["arguments"][0][0]),
        str(task.VERSION),
        dict(task.get_config("generation_kwargs") or {}),
    )


def _item(sample: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    doc = sample["doc"]
    answer = sample["filtered_resps"][0]
    return {
        "id": str(doc.get("id", doc.get("key", sample["doc_id"]))),
        "target": sample["target"],
        "answer": answer if isinstance(answer, str) else [float(part[0]) for part in sample["filtered_resps"]],
        "response": sample["resps"][0][0] if isinstance(answer, str) else None,
        **{name: _plain(sample[name]) for name in names},
    }


def _plain(value: Any) -> Any:
    return [bool(v) for v in value] if isinstance(value, list) else float(value)


def ratio(values: Sequence[Any]) -> tuple[float, float]:
    """Mean and standard error of items; where an item is a list of verdicts, the share of all verdicts.

    Verdicts of one item stand and fall together, so the error of a share is that of a ratio of sums over n items:
    sqrt(n / (n - 1) sum (x_i - r m_i)^2) / sum m_i; with one verdict each this is sd / sqrt(n). NaN for one item.
    """
    hits = [float(sum(v)) if isinstance(v, list) else float(v) for v in values]
    sizes = [len(v) if isinstance(v, list) else 1 for v in values]
    n, total = len(hits), sum(sizes)
    share = sum(hits) / total
    if n < 2:
        return share, math.nan
    spread = sum((x - share * m) ** 2 for x, m in zip(hits, sizes))
    return share, math.sqrt(n / (n - 1) * spread) / total


def average(scores: Sequence[TaskScore], metric: str, weigh: Callable[[TaskScore], float]) -> tuple[float, float]:
    """Mean over tasks with weights, and its standard error sqrt(sum w_i^2 se_i^2); NaN where a task's is."""
    weights = [weigh(score) for score in scores]
    total = sum(weights)
    value = sum(w * s.metrics[metric] for w, s in zip(weights, scores)) / total
    return value, math.sqrt(sum((w * s.stderr[metric]) ** 2 for w, s in zip(weights, scores))) / total


def micro(scores: Sequence[TaskScore], metric: str) -> tuple[float, float]:
    """Every item counts the same."""
    return average(scores, metric, lambda score: score.n)


def macro(scores: Sequence[TaskScore], metric: str) -> tuple[float, float]:
    """Every task counts the same."""
    return average(scores, metric, lambda score: 1.0)


def named(metric: str, found: tuple[float, float]) -> dict[str, float]:
    """A value and its standard error as metrics; an error that one item cannot have is left out, never NaN."""
    value, error = found
    return {metric: value} | ({f"{metric}_stderr": error} if math.isfinite(error) else {})
