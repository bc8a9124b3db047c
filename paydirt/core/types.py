"""The nouns of the pipeline: small frozen records that every stage takes in or hands on.

Nothing here reads a file or imports torch. Arrays that grow with the pool never live in these records; they stay in
memory-mapped artifacts and are reached through `Pool`, `Scores` and `TokenStore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is one of `ROLES`.

    Of an assistant turn all is supervised but its `opening`, a beginning of `content` that is given and not learnt ("The
    answer is:"). Without `end` its end-of-sequence mark is no label either, and left out where nothing follows.
    """

    role: str
    content: str
    opening: str = ""
    end: bool = True

    def __post_init__(self) -> None:
        if self.opening and (self.role != "assistant" or not self.content.startswith(self.opening)):
            raise ValueError(f"opening {self.opening!r} must begin the text of an assistant turn, not {self.content!r}")

    @property
    def identity(self) -> list[object]:
        """What fingerprints hold of a turn: role and text, and the form of its answer where it is not the usual one."""
        form: list[object] = [self.opening, self.end] if self.opening or not self.end else []
        return [self.role, self.content, *form]


@dataclass(frozen=True, slots=True)
class Example:
    """One training conversation, keyed by `id` everywhere. `source` names the data set it came from."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    subset: str = ""

    @property
    def prompt(self) -> str:
        """All that precedes the last assistant turn, joined by blank lines."""
        return "\n\n".join(m.content for m in self.messages[: self.answer_index])

    @property
    def answer(self) -> str:
        """The last assistant turn, its opening included; "" of a prompt alone."""
        return self.messages[self.answer_index].content if self.answered else ""

    @property
    def opening(self) -> str:
        """How the last assistant turn is begun for the model; usually empty."""
        return self.messages[self.answer_index].opening if self.answered else ""

    @property
    def completion(self) -> str:
        """What of the last assistant turn is the model's to say: all that follows the opening."""
        return self.answer[len(self.opening) :]

    @property
    def answer_index(self) -> int:
        """Of the last assistant turn; the end where there is none."""
        return max((i for i, m in enumerate(self.messages) if m.role == "assistant"), default=len(self.messages))

    @property
    def answered(self) -> bool:
        """Whether it has an assistant turn: references may be prompts alone."""
        return self.answer_index < len(self.messages)


@dataclass(frozen=True, slots=True)
class Target:
    """A skill, shown by R reference examples, each belonging to one subtask.

    `subtask_of` [R] names the subtask of each reference, so groups may be of any size. `test` holds disjoint
    evaluation examples where the target brings its own (the built-in benchmark); standard benchmarks leave it empty.
    References may be prompts without an answer, for methods that read no more of them.
    """

    name: str
    references: tuple[Example, ...]
    subtask_of: tuple[str, ...]
    test: tuple[Example, ...] = ()

    def __post_init__(self) -> None:
        if not self.references and self.name:
            raise ValueError(f"target {self.name!r} has no reference examples; give at least one")
        if len(self.references) != len(self.subtask_of):
            raise ValueError(
                f"target {self.name!r}: {len(self.references)} references, {len(self.subtask_of)} subtasks"
            )

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Ids of references that are prompts alone."""
        return tuple(example.id for example in self.references if not example.answered)

    @property
    def subtasks(self) -> tuple[str, ...]:
        """Distinct subtasks in order of first appearance."""
        return tuple(dict.fromkeys(self.subtask_of))

    def by_subtask(self) -> dict[str, list[int]]:
        """Row numbers of the references of each subtask."""
        groups: dict[str, list[int]] = {name: [] for name in self.subtasks}
        for row, name in enumerate(self.subtask_of):
            groups[name].append(row)
        return groups


class Item(NamedTuple):
    """The text of one thing that a model is tested on, and what to call it: `mmlu/test/anatomy/3`.

    `stem` is its question alone, where the text holds options, an answer or a passage beside it.
    """

    id: str
    text: str
    stem: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of work takes: FLOPs (a multiply-add counts 2), tokens read, passes named in `parts`."""

    flops: float = 0.0
    tokens: int = 0
    parts: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        parts = dict(self.parts)
        for name, flops in other.parts.items():
            parts[name] = parts.get(name, 0.0) + flops
        return Cost(self.flops + other.flops, self.tokens + other.tokens, parts)


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One evaluation: `metrics` by name (fractions in [0, 1], losses in nats), `main` the one that studies plot.

    FLOPs and tokens are of the model under test: predicted from lengths, measured None where nothing could be counted.
    """

    target: str
    main: str
    metrics: dict[str, float]
    n: int
    by_subtask: dict[str, float] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    predicted_flops: float = 0.0
    measured_flops: float | None = None
    tokens: int = 0

    @property
    def score(self) -> float:
        return self.metrics[self.main]


NO_TARGET = Target("", (), ())
"""What methods are given that compare with nothing."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; raises ValueError on nothing."""
    if not values:
        raise ValueError("mean of no values")
    return sum(values) / len(values)
