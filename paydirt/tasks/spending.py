"""What an evaluation costs the model under test: predicted from lengths before it runs, counted while it does.

What enters: the model and, piece by piece, the lengths that it will read and write. What leaves: predicted FLOPs by the
closed forms of `cost.forms` (convention `CONVENTION`), measured FLOPs by operator counts of sampled batches, and tokens
read and written. Reading and writing have meters of their own, since the language head runs on every token of one and on
the last of the other. Graders, which run on the CPU, are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paydirt.core.progress import say
from paydirt.core.types import EvalResult
from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import DEFAULT_CONVENTION, forward_flops, generation_flops
from paydirt.cost.measure import FlopMeter

CONVENTION = DEFAULT_CONVENTION


class Expected:
    """What a model will read and write: texts by their lengths, prompts with the tokens of an answer; FLOPs predicted of it.

    `token_budget` bounds the padded tokens of a batch of prompts, or `rows` are in one. `config` is what transformers says
    of the model. `seconds` is what making the prompts took.
    """

    def __init__(self, architecture: Architecture | None, config: Any = None) -> None:
        self.architecture, self.config = architecture, config
        self.token_budget, self.rows, self.seconds = 8192, 0, 0.0
        self.predicted = 0.0
        self.read: list[list[int]] = []
        self.written: list[tuple[list[int], int]] = []

    def expect_reading(self, lengths: Sequence[int]) -> None:
        """A forward pass over texts of these lengths in tokens."""
        total = sum(lengths)
        self.read.append(list(lengths))
        if total and self.architecture is not None:
            self.predicted += forward_flops(self.architecture, total, total / len(lengths), CONVENTION)

    def expect_writing(self, prompts: Sequence[int], longest: int) -> None:
        """An answer of at most `longest` tokens to each prompt."""
        self.written.append((list(prompts), longest))
        if self.architecture is not None:
            self.predicted += sum(generation_flops(self.architecture, n, longest, CONVENTION) for n in prompts)

    @property
    def foreseen(self) -> int:
        """Tokens to be read, and at most to be written."""
        return sum(map(sum, self.read)) + sum(sum(prompts) + len(prompts) * n for prompts, n in self.written)


class Spending(Expected):
    """Predicted and measured FLOPs of one evaluation; `prompts_cut` counts prompts that did not fit."""

    def __init__(self, model: Any) -> None:
        super().__init__(None, model.config)
        try:
            self.architecture = Architecture.from_config(model.config)
        except ValueError as error:  # an unusual model can be tested though its cost cannot be told beforehand
            say(f"the evaluation's FLOPs are not predicted: {error}")
        self.tokens = 0
        self.prompts_cut = 0
        self.reading, self.writing = FlopMeter(), FlopMeter()

    @property
    def measured(self) -> float:
        return self.reading.flops + self.writing.flops

    def on(self, result: EvalResult) -> EvalResult:
        """The result with what it cost."""
        return replace(
            result, predicted_flops=self.predicted, measured_flops=self.measured, tokens=result.tokens + self.tokens
        )


def read_and_written(made: Any) -> float:
    """Positions that a model computed to make sequences [B, T], prompts included: the last token of each is not read."""
    return float(made.shape[0] * (made.shape[1] - 1))
