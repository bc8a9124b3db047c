"""What the price of a selection depends on, beside the method's own settings: lengths, references, models.

In: lengths of a real pool (`Job.facts`), or a count and a total that somebody told (`paydirt cost`, the advisor). Out: one
frozen `Facts`, which `paydirt.cost.methods.selection_cost` prices, whoever asks. Lengths are in tokens after truncation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import DEFAULT_CONVENTION
from paydirt.cost.lookup import within

MOST_TOKENS = 1e18
MOST_EXAMPLES = 1e15


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many texts and how many tokens; `each` [count] where every length is known."""

    count: float
    total: float
    each: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        within("examples", self.count, 0, MOST_EXAMPLES)
        within("tokens", self.total, 0, MOST_TOKENS)

    @classmethod
    def of(cls, each: Any) -> Lengths:
        """Of known lengths [n]."""
        lengths = np.asarray(each, dtype=np.int64)
        return cls(len(lengths), int(lengths.sum()), lengths)

    @property
    def mean(self) -> float:
        """Tokens a text; 0 of none."""
        return self.total / self.count if self.count else 0.0

    def capped(self, most: float | None) -> Lengths:
        """With at most `most` tokens of each. Of a count and a total it is the most that it can be."""
        if most is None:
            return self
        if self.each is not None:
            return Lengths.of(np.minimum(self.each, int(most)))
        return Lengths(self.count, min(self.total, most * self.count))

    def share(self, share: float) -> Lengths:
        """That share of them, of mean length."""
        return Lengths(self.count * share, self.total * share)

    def longest(self, count: int) -> Lengths:
        """No `count` of them hold more tokens: the longest, or texts of mean length where only that is known."""
        if self.each is not None and count < len(self.each):
            return Lengths.of(np.partition(self.each, len(self.each) - count)[len(self.each) - count :])
        return self if count >= self.count else self.share(count / self.count)

    def at(self, rows: np.ndarray) -> Lengths:
        """Those of some rows; mean ones where only the mean is known."""
        return Lengths.of(self.each[rows]) if self.each is not None else self.longest(len(rows))

    def padded(self, batch: int) -> float:
        """Tokens that random batches of `batch` pad to, over the tokens there are: the expected longest over the mean."""
        if self.each is None or not self.total:
            return 1.0
        if batch >= len(self.each):
            return float(self.each.max() / self.mean)
        ordered = np.sort(self.each)
        below = (np.arange(len(ordered) + 1) / len(ordered)) ** batch
        return float((ordered * np.diff(below)).sum() / self.mean)

    def packed(self, most: float) -> float:
        """Padded tokens over tokens where like lengths are packed into batches of at most `most` padded tokens.

        Next to 1 for a pool; a handful of unlike texts in one batch pad to the longest.
        """
        if self.each is None or not self.total:
            return 1.0
        falling, at, padded = np.sort(self.each)[::-1], 0, 0.0
        while at < len(falling) and falling[at]:
            rows = min(len(falling) - at, max(1, int(most // falling[at])))
            padded += float(falling[at]) * rows
            at += rows
        return padded / self.total


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """A sentence encoder: the parameters that multiply every token, and lengths in its own tokens."""

    parameters: float
    pool: Lengths
    references: Lengths


@dataclass(frozen=True)
class Facts:
    """One selection to be priced.

    `architecture` is the selector's. `answers` are the supervised tokens of the pool. `whole` is the pool that a warm-up
    draws from, where `pool` is a part of it. `encoder` gives, for the settings of `embed`, what its encoder would read.
    `tasks` share one gradient store: each is charged its part of it.
    """

    pool: Lengths
    references: Lengths
    subtasks: int = 1
    architecture: Architecture | None = None
    answers: Lengths | None = None
    encoder: Callable[[Any], EncoderFacts] | None = field(default=None, repr=False, compare=False)
    whole: Lengths | None = None
    convention: str = DEFAULT_CONVENTION
    tasks: int = 1

    def __post_init__(self) -> None:
        within("subtasks", self.subtasks, 1, MOST_EXAMPLES)
        within("tasks", self.tasks, 1, 1e9)

    @property
    def root(self) -> Lengths:
        """The whole pool."""
        return self.whole or self.pool

    @property
    def model(self) -> Architecture:
        """The selector's architecture; ValueError where there is none."""
        if self.architecture is None:
            raise ValueError("this method reads the pool with a model; give the selector's (--selector, or --model)")
        return self.architecture

    @property
    def answer_lengths(self) -> Lengths:
        """Supervised tokens; ValueError where nobody told."""
        if self.answers is None:
            raise ValueError("this method reads answers alone; say how many tokens they hold (--answer-tokens)")
        return self.answers

    def encoder_of(self, settings: Any) -> EncoderFacts:
        """What the encoder of `embed` would read; ValueError where nobody told its size."""
        if self.encoder is None:
            raise ValueError(
                f"the encoder {settings.encoder!r} is not known here; say how many parameters it has (--encoder-params)"
            )
        return self.encoder(settings)

    def part(self, rows: np.ndarray) -> Facts:
        """The same for some rows of the pool; warm-ups still draw from the whole."""
        return self._narrowed(lambda lengths: lengths.at(rows))

    def longest(self, count: int) -> Facts:
        """No `count` rows of the pool cost more."""
        return self._narrowed(lambda lengths: lengths.longest(count))

    def _narrowed(self, cut: Callable[[Lengths], Lengths]) -> Facts:
        encoder, answers = self.encoder, self.answers

        def narrowed(settings: Any) -> EncoderFacts:
            assert encoder is not None
            known = encoder(settings)
            return replace(known, pool=cut(known.pool))

        return replace(
            self,
            pool=cut(self.pool),
            whole=self.root,
            answers=cut(answers) if answers is not None else None,
            encoder=narrowed if encoder is not None else None,
        )


def told(
    pool_tokens: float,
    pool_examples: float,
    references: float = 0.0,
    reference_tokens: float | None = None,
    *,
    subtasks: int = 1,
    architecture: Architecture | None = None,
    answer_tokens: float | None = None,
    encoder_parameters: float | None = None,
    convention: str = DEFAULT_CONVENTION,
    tasks: int = 1,
) -> Facts:
    """Facts from counts and totals. References are as long as the pool's examples, an encoder's tokens the selector's,
    unless told."""
    within("pool tokens", pool_tokens, 1, MOST_TOKENS)
    within("pool examples", pool_examples, 1, min(MOST_EXAMPLES, pool_tokens))
    within("references", references, 0, MOST_EXAMPLES)
    pool = Lengths(pool_examples, pool_tokens)
    if reference_tokens is not None:
        within("reference tokens", reference_tokens, references, MOST_TOKENS)
    shown = Lengths(references, references * pool.mean if reference_tokens is None else reference_tokens)
    if reference_tokens and not references:
        raise ValueError(f"{reference_tokens:g} reference tokens of no references; say how many references there are")
    if answer_tokens is not None:
        within("answer tokens", answer_tokens, 1, pool_tokens)
    if encoder_parameters is not None:
        within("encoder parameters", encoder_parameters, 1, 1e15)
    parameters = math.nan if encoder_parameters is None else encoder_parameters

    def encoder(settings: Any) -> EncoderFacts:
        most = settings.max_tokens
        return EncoderFacts(parameters, pool.capped(most), shown.capped(most))

    return Facts(
        pool,
        shown,
        subtasks,
        architecture,
        None if answer_tokens is None else Lengths(pool_examples, answer_tokens),
        None if encoder_parameters is None else encoder,
        convention=convention,
        tasks=tasks,
    )
