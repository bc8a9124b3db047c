"""What a target loader is: a class with a name that turns files into references with subtasks.

A loader subclasses `TargetLoader` in a file of this package and sets `name`; that registers it. It returns pairs
(example, subtask); `load_target` does the rest: limits, the test split, the checks.

What of a reference is learnt is part of its definition (METHODS section 2). An assistant turn may open with words that
are given and not supervised, and may end without the end-of-sequence mark; the encoder owns the mask that follows. Losses
and gradients are of the supervised part; `rds` represents all tokens of a reference, opening included; `embed` and `bm25`
compare prompts, to which an opening does not belong, and `embed` with `text: full` takes the whole turn. Where a form is a
target's own, `form` names it: `published` (default) supervises the answer alone, `turn` the whole assistant turn and its
end.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from paydirt.core.config import Config, PathText
from paydirt.core.progress import say_once
from paydirt.core.registry import Registry, did_you_mean
from paydirt.core.types import Example, Message, Target
from paydirt.data.columns import check_columns
from paydirt.data.pool import examples_from_file

TARGETS: Registry[TargetLoader] = Registry("target", "paydirt.tasks", "paydirt.targets")
Reference = tuple[Example, str]
PUBLISHED = "published"
FORMS = (PUBLISHED, "turn")


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
    split: str = Field(
        "train", description="split of references and test that are datasets directories; all: every one"
    )
    columns: dict[str, str] = Field(
        {},
        description="what references and test call things, such as {prompt: question, answer: reply}, or prompt alone",
    )
    limit_per_subtask: int | None = Field(None, ge=1, description="use only the first so many references of a subtask")
    form: str | None = Field(
        None, description="mmlu, bbh, tydiqa: wording and supervision, published (default) or turn"
    )

    @model_validator(mode="after")
    def _mapping(self) -> TargetConfig:
        check_columns(self.columns, answers=False)
        return self


class TargetLoader(ABC):
    """Base of target loaders; a subclass with a `name` registers itself."""

    name: ClassVar[str] = ""
    forms: ClassVar[tuple[str, ...]] = ()
    """Names of its forms, the default first; empty where it has only one."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            TARGETS.add(cls.name, cls)

    @abstractmethod
    def references(self, config: TargetConfig) -> list[Reference]:
        """All references with their subtasks, in a fixed order. ValueError names a missing file and the layout."""

    def published(self, config: TargetConfig) -> bool:
        """Whether the form asked for is the published one; ValueError for a form that this target does not have."""
        if config.form is not None and config.form not in self.forms:
            known = f"has {' and '.join(self.forms)}" if self.forms else "has only one; leave `form` out"
            raise ValueError(f"target {config.name!r}: no form {config.form!r}; it {known}")
        return config.form in (None, PUBLISHED)


def load_target(config: TargetConfig) -> Target:
    """The target of `config`; ValueError for unknown names, missing files, no references, references in the test."""
    loader = _loader(config)
    loader.published(config)
    pairs = loader.references(config)
    if config.limit_per_subtask is not None:
        pairs = _limited(pairs, config.limit_per_subtask)
    test = examples_with_form(config.test, True, config.split, config.columns) if config.test else []
    tested = tuple(example for example, _ in test)
    _check_disjoint(config, pairs, tested)
    return Target(config.name, tuple(e for e, _ in pairs), tuple(s for _, s in pairs), tested)


def examples_with_form(
    path: str, answers: bool = True, split: str = "train", columns: Mapping[str, str] | None = None
) -> list[tuple[Example, dict[str, Any]]]:
    """Examples of a file in a pool form, with their records, whose `opening` and `end` say how the answer is supervised.

    Without `answers`, prompts alone are examples too. ValueError names the one whose `opening` does not begin its answer.
    """
    found = []
    for example, record in examples_from_file(path, answers=answers, split=split, columns=columns):
        opening, end = record.get("opening") or "", record.get("end", True)
        if not isinstance(opening, str) or not isinstance(end, bool):
            raise ValueError(f"{path}: example {example.id!r}: `opening` is a text and `end` true or false")
        if opening or not end:
            if not example.answered:
                raise ValueError(
                    f"{path}: example {example.id!r}: has an `opening` or `end`, but no answer to begin or end"
                )
            try:
                last = replace(example.messages[example.answer_index], opening=opening, end=end)
            except ValueError as error:
                raise ValueError(f"{path}: example {example.id!r}: {error}") from None
            before, after = example.messages[: example.answer_index], example.messages[example.answer_index + 1 :]
            example = replace(example, messages=(*before, last, *after))
        found.append((example, record))
    if alone := [record for example, record in found if not example.answered]:
        say_once(
            f"{path}: {len(alone)} of {len(found)} have no answer, and serve methods that read prompts alone; the first has "
            f"the fields {', '.join(map(str, alone[0]))}"
        )
    return found


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
    tested = {_text(example): example.id for example in test}
    prompts = {_text(example)[: example.answer_index]: example.id for example in test}
    for example, _ in pairs:
        if not example.answered and _text(example) in prompts:
            raise ValueError(
                f"target {config.name!r}: reference {example.id!r} is the prompt of the test example "
                f"{prompts[_text(example)]!r} of {config.test}; remove it from one of them"
            )
        if _text(example) in tested:
            raise ValueError(
                f"target {config.name!r}: reference {example.id!r} is also the test example "
                f"{tested[_text(example)]!r} of {config.test}; remove it from one of them"
            )


def _text(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((m.role, m.content) for m in example.messages)


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
    except (ValueError, RecursionError):
        raise ValueError(
            f"{path}: JSON nested too deeply, or an integer of thousands of digits; fix the file"
        ) from None
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{path}: expected a JSON object with one entry for each subtask")
    return value


def reference(
    target: str, subtask: str, number: int | str, prompt: str, answer: str, opening: str = "", end: bool = True
) -> Reference:
    """A one-turn reference called `<target>/<subtask>/<number>`; with an `opening`, a space stands before the answer."""
    if not answer.strip():
        raise ValueError(f"target {target!r}: reference {subtask}/{number} has an empty answer; fix its file")
    whole = f"{opening} {answer.lstrip()}" if opening else answer
    messages = (Message("user", prompt), Message("assistant", whole, opening, end))
    return Example(f"{target}/{subtask}/{number}", messages, target, subtask), subtask
