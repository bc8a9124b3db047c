"""What a target loader is: a class with a name that turns files into references with subtasks.

A loader subclasses `TargetLoader` in a file of this package and sets `name`; that registers it. It returns pairs
(example, subtask); `load_target` does the rest: limits, the test split, the checks. The loss mask of our encoder covers
the whole assistant turn, so a loader puts into the assistant turn exactly what should be learnt.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from paydirt.config import Config, PathText
from paydirt.data.pool import examples_from_file
from paydirt.registry import Registry, did_you_mean
from paydirt.types import Example, Message, Target

TARGETS: Registry[TargetLoader] = Registry("target", "paydirt.targets")
Reference = tuple[Example, str]


class TargetConfig(Config):
    """The skill to select for."""

    name: str = Field(description="mmlu, bbh, tydiqa, ifeval, or any name of your own with `references`")
    data: PathText | None = Field(
        None, description="folder in the LESS layout (eval/mmlu/dev/*_dev.csv, eval/bbh/... )"
    )
    references: PathText | None = Field(
        None, description="file of reference examples in a pool form, `subtask` optional"
    )
    test: PathText | None = Field(None, description="file of evaluation examples, disjoint from the references")
    limit_per_subtask: int | None = Field(None, ge=1, description="use only the first so many references of a subtask")


class TargetLoader(ABC):
    """Base of target loaders; a subclass with a `name` registers itself."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            TARGETS.add(cls.name, cls)

    @abstractmethod
    def references(self, config: TargetConfig) -> list[Reference]:
        """All references with their subtasks, in a fixed order. ValueError names a missing file and the layout."""


def load_target(config: TargetConfig) -> Target:
    """The target of `config`; ValueError for unknown names, missing files, no references, references in the test."""
    pairs = _loader(config).references(config)
    if config.limit_per_subtask is not None:
        pairs = _limited(pairs, config.limit_per_subtask)
    test = tuple(example for example, _ in examples_from_file(config.test)) if config.test else ()
    _check_disjoint(config, pairs, test)
    return Target(config.name, tuple(e for e, _ in pairs), tuple(s for _, s in pairs), test)


def _loader(config: TargetConfig) -> TargetLoader:
    if config.references is not None:
        return TARGETS.get("jsonl")()
    known = TARGETS.names()
    if config.name not in known:
        hint = did_you_mean(config.name, known)
        raise ValueError(f"unknown target {config.name!r}; {hint} or give `references`, a file of examples")
    return TARGETS.get(config.name)()


def _limited(pairs: list[Reference], limit: int) -> list[Reference]:
    seen: Counter[str] = Counter()
    kept = []
    for example, subtask in pairs:
        seen[subtask] += 1
        if seen[subtask] <= limit:
            kept.append((example, subtask))
    return kept


def _check_disjoint(config: TargetConfig, pairs: list[Reference], test: tuple[Example, ...]) -> None:
    """Evaluating on what selection has seen would flatter every method."""
    tested = {example.messages: example.id for example in test}
    for example, _ in pairs:
        if example.messages in tested:
            raise ValueError(
                f"target {config.name!r}: reference {example.id!r} is also the test example "
                f"{tested[example.messages]!r} of {config.test}; remove it from one of them"
            )


def layout_path(config: TargetConfig, inside: str, layout: str) -> Path:
    """`inside` in the LESS layout: under `<data>` or `<data>/eval`. ValueError naming the path and the layout."""
    if config.data is None:
        raise ValueError(
            f"target {config.name!r}: give `data`, a folder in the LESS layout (holding {layout}), or `references`"
        )
    data = Path(config.data).expanduser()
    tried = [data / "eval" / inside, data / inside]
    found = next((path for path in tried if path.exists()), None)
    if found is None:
        raise ValueError(
            f"target {config.name!r}: no {tried[0]} and no {tried[1]}; the LESS layout holds {layout}; "
            "point `data` at the folder that has it"
        )
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object; ValueError names the place of a fault."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: malformed JSON at column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; convert the file") from None
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{path}: expected a JSON object with one entry for each subtask")
    return value


def reference(target: str, subtask: str, number: int | str, prompt: str, answer: str) -> Reference:
    """A one-turn reference called `<target>/<subtask>/<number>`."""
    if not answer.strip():
        raise ValueError(f"target {target!r}: reference {subtask}/{number} has an empty answer; fix its file")
    messages = (Message("user", prompt), Message("assistant", answer))
    return Example(f"{target}/{subtask}/{number}", messages, target, subtask), subtask
