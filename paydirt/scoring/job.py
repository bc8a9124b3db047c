"""What a scorer is given: a pool and the rows of it that are asked for, a target, a selector model, where to keep things.

Columns are of the whole pool, whatever rows are asked for; so are tokens, words' frequencies and the warm-up of gradients. A
method that works under a budget asks for some rows (`Job.asking`), and shares what is computed with all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.columns import SHARD_ROWS, PoolColumn, Spec, TokensRef, TokenStore, token_store
from paydirt.core.types import Target
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import EncoderFacts, Facts, Lengths
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import FlopMeter
from paydirt.data.encoding import Encoded, Encoder, EncodingConfig
from paydirt.data.pool import Pool
from paydirt.execution import Executor, Local
from paydirt.models.load import ModelConfig, architecture_of, load_tokenizer

# What another job of the same pool need not find again.
KNOWN = ("encoder", "tokens", "references", "shown", "architecture", "pool_facts")


@dataclass
class Job:
    """Pool, target, selector model, and the rows to score.

    `out` is the score directory being made; `scratch` goes when the work is done; `shared` holds what other scores may
    use too (columns, tuned models).
    """

    pool: Pool
    target: Target
    out: Path
    shared: Path
    model: ModelConfig | None = None
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    seed: int = 0
    convention: str = "architectural"
    meter: FlopMeter = field(default_factory=FlopMeter)
    shard_rows: int = SHARD_ROWS
    executor: Executor = field(default_factory=Local)
    inputs: dict[str, str] = field(default_factory=dict)  # fingerprints of all that the scores depend on
    chosen: np.ndarray | None = None  # rows that are asked for, ascending; None: all
    remarks: dict[str, Any] = field(default_factory=dict)  # what a method found worth noting in the manifest

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of the pool that are asked for, ascending."""
        return np.arange(len(self.pool)) if self.chosen is None else self.chosen

    def asking(self, rows: np.ndarray, out: Path) -> Job:
        """The same job for `rows` of the pool, with a place and a meter of its own."""
        chosen = None if len(rows) == len(self.pool) else np.sort(rows).astype(np.int64)
        if chosen is not None and self.model is not None:  # found once, for all who ask
            for name in KNOWN:
                getattr(self, name)
        made = replace(self, out=out, meter=FlopMeter(), chosen=chosen)
        made.__dict__.update({name: self.__dict__[name] for name in KNOWN if name in self.__dict__})
        return made

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows` stand among those that are asked for [n]."""
        return rows if self.chosen is None else np.searchsorted(self.chosen, rows)

    def shards(self) -> list[tuple[int, int]]:
        """First and last row, exclusive, of each shard of the pool."""
        n = len(self.pool)
        return [(start, min(start + self.shard_rows, n)) for start in range(0, n, self.shard_rows)]

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows that are asked for, shard by shard."""
        edges = np.searchsorted(self.rows, [stop for _, stop in self.shards()])
        for start, stop in zip([0, *edges[:-1]], edges):
            if start < stop:
                yield self.rows[start:stop]

    @property
    def scratch(self) -> Path:
        path = self.out / "scratch"
        path.mkdir(exist_ok=True)
        return path

    @property
    def selector(self) -> ModelConfig:
        """The selector model; ValueError when the recipe names none."""
        if self.model is None:
            raise ValueError("this method needs a selector model; give --model (recipe key `model`)")
        return self.model

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(load_tokenizer(self.selector), self.encoding)

    @cached_property
    def tokens(self) -> TokenStore:
        """The encoded pool, memory-mapped."""
        return token_store(self.pool, self.encoder, self.shared, self.selector, self.executor.fill, self.shard_rows)

    @property
    def tokens_ref(self) -> TokensRef:
        """The pool's tokens, for a column's spec."""
        return TokensRef.of(self.tokens, self.pool, self.encoder.fingerprint)

    @cached_property
    def references(self) -> list[Encoded]:
        """The encoded references [R]; ValueError names one that has nothing to learn from."""
        return self.encoder.encode_references(self.target)

    @cached_property
    def shown(self) -> list[Encoded]:
        """The encoded references [R], of which some may be prompts alone."""
        return self.encoder.encode_references(self.target, answers=False)

    @cached_property
    def architecture(self) -> Architecture:
        """Architectural facts of the selector model, for cost."""
        return architecture_of(self.selector)

    @cached_property
    def facts(self) -> Facts:
        """What the price of scoring the rows that are asked for depends on."""
        return self.pool_facts if self.chosen is None else self.pool_facts.part(self.chosen)

    @cached_property
    def pool_facts(self) -> Facts:
        """Facts of the whole pool, from its real lengths and its references'.

        Without a model nothing is tokenised, and only the numbers of examples are known.
        """
        known: dict[Any, EncoderFacts] = {}

        def encoder(settings: Any) -> EncoderFacts:
            if settings not in known:
                known[settings] = settings.encoder_facts(self)
            return known[settings]

        subtasks = max(1, len(self.target.subtasks))
        if self.model is None:
            pool, references = Lengths(len(self.pool), 0), Lengths(len(self.target.references), 0)
            return Facts(pool, references, subtasks, encoder=encoder, convention=self.convention)
        return Facts(
            Lengths.of(self.tokens.lengths),
            # Lengths alone: whether a reference can be learnt from is asked by methods that learn from it.
            Lengths.of([len(e.ids) for e in self.encoder.encode_examples(self.target.references)]),
            subtasks,
            self.architecture,
            Lengths.of(self.tokens.supervised_lengths),
            encoder,
            convention=self.convention,
        )

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.out)

    def column(self, spec: Spec) -> PoolColumn:
        """The column of `spec` in the shared place."""
        return PoolColumn(spec, self.shared, self.shard_rows)

    def filled(self, column: PoolColumn) -> PoolColumn:
        """The column with all rows that are asked for, which are charged whoever computed them."""
        if units := column.plan(None if self.chosen is None else self.chosen):
            self.executor.fill(column, units)
        self.meter.charge_rows(column.place, self.rows, column.flops(self.rows), len(column))
        return column

    def lengths(self) -> tuple[np.ndarray, str]:
        """Length [N] of every example and its unit: tokens with a model, else whitespace-separated words."""
        if self.model is not None:
            return self.tokens.lengths, "tokens"
        counts = [len(t.split()) for start, stop in self.shards() for t in self.pool.texts(start, stop, "full")]
        return np.asarray(counts, dtype=np.int64), "words"
