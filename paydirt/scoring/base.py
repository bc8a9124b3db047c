"""The contract of a scorer, and all that scorers share so that a method stays small.

A scorer is a frozen config with behaviour. Its author declares fields, says what it costs (`price`), what must be
known before any row can be scored (`prepare`) and how a block of rows is scored (`score_rows`). The base class owns
shards, resume, progress, the ledger and the registry; a new file in this package is a new method everywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, SerializeAsAny

from paydirt.columns import PoolColumn, Spec, TokensRef
from paydirt.core.named import Named, make
from paydirt.core.progress import track
from paydirt.core.registry import Registry
from paydirt.core.types import Cost, Target
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import EncoderFacts, Facts, Lengths
from paydirt.cost.ledger import Entry, Ledger
from paydirt.cost.measure import FlopMeter
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.data.encoding import Encoded, Encoder, EncodingConfig, truncation
from paydirt.data.pool import Pool, PoolPart
from paydirt.data.tokens import TokenPart, TokenStore, token_store
from paydirt.execution import Executor, Local
from paydirt.models.load import ModelConfig, architecture_of, load_tokenizer
from paydirt.selection.scores import ROWS, Column, Reduction, shard_path, write_columns, write_shard

SHARD_ROWS = 4096
NONE = np.zeros(0, dtype=np.int64)  # rows of an empty part
OWN = "own"  # place of FLOPs that no artifact or column is charged with
# Libraries whose numbers enter what a model computes: arithmetic, architecture, tokens, adapters.
MODEL_LIBRARIES = ("torch", "transformers", "tokenizers", "peft")
BATCH_TOKENS = 1 << 14  # padded tokens in a batch of a method that has no option for it
KNOWN = (
    "encoder",
    "tokens",
    "references",
    "shown",
    "architecture",
    "facts",
)  # what a job of the same pool need not find again


@dataclass
class Job:
    """What a scorer is given: pool, target, selector model, where to keep things.

    `out` is the score directory being made; `scratch` goes when the work is done; `shared` holds artifacts that other
    scores may use too (token stores, gradient stores, tuned models).
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
    whole: Job | None = None
    remarks: dict[str, Any] = field(default_factory=dict)  # what a method found worth noting in the manifest

    @property
    def root(self) -> Job:
        """The job of the whole pool: this one, unless it is a part."""
        return self.whole or self

    def part(self, rows: np.ndarray, out: Path) -> Job:
        """The same job for some rows of its pool (ascending), with a meter of its own; all rows are no part, but the pool.

        A part of a part is a part of the whole.
        """
        if len(rows) == len(self.pool):
            same = replace(self, out=out, meter=FlopMeter())
            same.__dict__.update({k: self.__dict__[k] for k in KNOWN if k in self.__dict__})
            return same
        rows = self.pool.rows[rows] if isinstance(self.pool, PoolPart) else rows
        pool = self.root.pool.part(rows)
        made = replace(self, pool=pool, out=out, meter=FlopMeter(), whole=self.root)
        if self.model is not None:
            for known in ("encoder", "references", "architecture"):
                made.__dict__[known] = getattr(self, known)
        return made

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
        if isinstance(self.pool, PoolPart) and self.whole is not None:
            return TokenPart(self.whole.tokens, self.pool.rows)
        return token_store(self.pool, self.encoder, self.shared)

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
        """What the price of a selection depends on, from the real lengths of this pool and its references.

        Without a model nothing is tokenised, and only the numbers of examples are known.
        """
        if isinstance(self.pool, PoolPart) and self.whole is not None:
            return self.whole.facts.part(self.pool.rows)
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

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows of the whole pool that the job's rows [start, stop) are."""
        stop = len(self.pool) if stop is None else stop
        return self.pool.rows[start:stop] if isinstance(self.pool, PoolPart) else np.arange(start, stop)

    def column(self, spec: Spec) -> PoolColumn:
        """The column of `spec` in the shared place."""
        return PoolColumn(spec, self.shared, self.root.shard_rows)

    def filled(self, column: PoolColumn) -> PoolColumn:
        """The column with all of the job's rows, which are charged whoever computed them."""
        rows = self.rows()
        if units := column.plan(rows):
            self.executor.fill(column, units)
        self.meter.charge_rows(column.place, rows, column.flops(rows), len(column))
        return column

    @property
    def tokens_ref(self) -> TokensRef:
        """The whole pool's tokens, for a column's spec."""
        return TokensRef.of(self.root.tokens, self.root.pool, self.encoder.fingerprint)

    def lengths(self) -> tuple[np.ndarray, str]:
        """Length [N] of every example and its unit: tokens with a model, else whitespace-separated words."""
        if self.model is not None:
            return self.tokens.lengths, "tokens"
        counts = [len(t.split()) for start, stop in self.shards() for t in self.pool.texts(start, stop, "full")]
        return np.asarray(counts, dtype=np.int64), "words"

    def shards(self) -> list[tuple[int, int]]:
        n = len(self.pool)
        return [(start, min(start + self.shard_rows, n)) for start in range(0, n, self.shard_rows)]


SCORERS: Registry[Scorer] = Registry("method", "paydirt.scorers", "paydirt.scorers")


class Scorer(Named):
    """Base of every scoring method. Higher scores are better."""

    registry: ClassVar = SCORERS
    version: ClassVar[int] = 1
    """To be raised when the method gives other numbers for a reason that its own file does not show."""
    code_rooms: ClassVar[tuple[str, ...]] = ("paydirt.scoring", "paydirt.prediction")
    """Packages whose code counts, where a method names it, as if it stood in the method's own file."""
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    """Distributions whose numbers enter the scores, beside those of a model (`MODEL_LIBRARIES`)."""
    needs_model: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    pairwise: ClassVar[bool] = False
    uses_target: ClassVar[bool] = True
    cost_note: ClassVar[str] = ""
    use_when: ClassVar[str] = ""
    default_policy: ClassVar[str] = "top"
    reduction: ClassVar[Reduction] = Reduction()

    @property
    def label(self) -> str:
        """How tables call this method."""
        return self.name

    # ---- what the author of a method writes ---------------------------------------------------------------------
    def columns(self, target: Target) -> list[Column]:
        """What the columns stand for: each reference when pairwise, else one column."""
        if not self.pairwise:
            return [Column("score", "all")]
        return [Column(e.id, s) for e, s in zip(target.references, target.subtask_of)]

    @property
    def reads_answers(self) -> bool:
        """Whether the references' answers enter; else they may be prompts alone. What it holds is asked by itself."""
        return self.uses_target

    def price(self, facts: Facts) -> Cost:
        """Selection FLOPs by closed form, from lengths alone; methods that use no accelerator keep this zero.

        Ask for it by `paydirt.cost.methods.selection_cost`, which checks what comes out.
        """
        return Cost()

    def inputs(self, job: Job) -> dict[str, str]:
        """Fingerprints of files beyond pool, target and model that the scores depend on."""
        return {}

    def prepare(self, job: Job) -> Any:
        """Whatever must be known before rows are scored; must itself continue after a kill (use `job.scratch`)."""
        return None

    def score_rows(self, job: Job, state: Any, start: int, stop: int) -> np.ndarray:
        """Scores [stop - start, C] of those pool rows."""
        raise NotImplementedError(f"{type(self).__name__} must define score_rows")

    # ---- what the base owns ------------------------------------------------------------------------------------
    def predict_cost(self, job: Job) -> Cost:
        """Selection FLOPs before anything runs: the price by the job's real lengths."""
        return selection_cost(self, job.facts)

    def kept_bytes(self, facts: Facts) -> float:
        """Bytes on disk of what the work leaves beside the scores (columns, tuned models), by lengths alone.

        Of this method itself: those that it holds are asked one by one.
        """
        return 0.0

    def ceiling(self, facts: Facts) -> float:
        """FLOPs that a count of this selection will not exceed: what a budget must hold ready for it."""
        return SAFETY * self.padding(facts) * selection_cost(self, as_counted(facts)).flops

    # ---- for who buys scores row by row: see `paydirt.prediction.truth` ------------------------------------------
    def fixed_price(self, facts: Facts) -> Cost:
        """What is paid however few examples are scored (a tuning, the references' vectors): the price of none."""
        return selection_cost(self, facts.part(NONE))

    def fixed_ceiling(self, facts: Facts, warmup: bool = True) -> float:
        """What the count of that will not exceed; without the `warmup` where it is paid already."""
        return self.ceiling(facts.part(NONE))

    def row_charges(self, job: Job, rows: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """What `rows` of the job's pool will be counted at [n] each, by the place that is charged (`OWN`: the job itself).

        None where only the ceiling is known; asked for after some rows were scored.
        """
        return None

    def raw_values(self, job: Job) -> np.ndarray:
        """What is known of each row alone [N, ...], which `among` makes values of."""
        return self.values(job)

    def among(self, raw: np.ndarray) -> np.ndarray:
        """Values [N, C] of rows among each other, for a method whose values are ranks."""
        return raw

    def padding(self, facts: Facts) -> float:
        """Padded tokens over tokens of a pass over pool and references, in batches of like lengths."""
        most = getattr(self, "token_budget", BATCH_TOKENS)
        return max(facts.pool.packed(most), facts.references.packed(most))

    def charged(self, job: Job, predicted: Cost) -> float:
        """FLOPs that a study charges for these finished scores: the closed form, unless a budget was spent by count."""
        return predicted.flops

    def run(self, job: Job) -> dict[str, Any]:
        """Score the whole pool into `job.out`, shard by shard, continuing where a killed run stopped."""
        unit = self._write_rows(job)
        write_columns(job.out, self.columns(job.target), self.pairwise, job.shard_rows, self.reduction)
        (job.out / "values").mkdir(exist_ok=True)
        missing = [i for i in range(len(job.shards())) if not shard_path(job.out, i).exists()]
        predicted = self.predict_cost(job)
        if missing:
            with job.ledger.record("score", self.label, predicted) as entry:
                entry.notes["predicted_parts"] = predicted.parts
                self._score(job, missing, entry)
        shutil.rmtree(job.out / "scratch", ignore_errors=True)
        notes = {"examples": len(job.pool), "columns": len(self.columns(job.target)), "token_unit": unit}
        if job.model is not None:
            notes["encoding"] = job.tokens.notes
        for known in ("references", "shown"):
            if known in job.__dict__:  # of a method that read them; others never encode references
                notes["references"] = truncation(job.__dict__[known])
        if self.needs_model:
            notes["selector_params"] = job.architecture.parameters
        notes |= job.remarks
        notes["predicted_flops"] = predicted.flops
        notes["charged_flops"] = self.charged(job, predicted)
        notes["charges"] = {k: v for e in job.ledger.entries() for k, v in e.notes.get("charges", {}).items()}
        return notes

    def _score(self, job: Job, missing: list[int], entry: Entry) -> None:
        state = self.prepare(job)
        shards = job.shards()
        for i in track(
            missing, f"scoring {self.label}", job.shard_rows, min(len(job.pool), len(missing) * job.shard_rows)
        ):
            values = np.asarray(self.score_rows(job, state, *shards[i]))
            write_shard(job.out, i, values.reshape(shards[i][1] - shards[i][0], -1))
        entry.measured_flops = job.meter.flops
        entry.notes["charges"] = job.meter.charges

    def values(self, job: Job) -> np.ndarray:
        """Values [N, C] of the job's pool in memory, for a scorer that works for another one."""
        state = self.prepare(job)
        parts = [np.asarray(self.score_rows(job, state, start, stop)) for start, stop in job.shards()]
        return np.concatenate([part.reshape(len(part), -1) for part in parts])

    def _write_rows(self, job: Job) -> str:
        """`rows.parquet`: id, source, tokens, supervised tokens (null without a tokenizer), in row order."""
        lengths, unit = job.lengths()
        supervised = job.tokens.supervised_lengths if job.model is not None else None
        path = job.out / "rows.parquet"
        if path.exists():
            return unit
        schema = ROWS
        part = path.with_suffix(".part")
        with pq.ParquetWriter(part, schema) as writer:
            for start, stop in job.shards():
                known = supervised[start:stop] if supervised is not None else [None] * (stop - start)
                columns = [job.pool.ids(start, stop), job.pool.sources(start, stop), lengths[start:stop], known]
                writer.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema)], schema=schema))
        part.rename(path)
        return unit


def make_scorer(values: Any) -> Any:
    """A scorer from `{name: ..., option: ...}` or a bare name; ValueError with a suggestion for what is unknown."""
    return make(SCORERS, values)


Method = Annotated[SerializeAsAny[Scorer], BeforeValidator(make_scorer)]


def default_policy(method: str) -> str:
    """The policy that a method's scores are selected by unless another is named; `top` for imported scores."""
    return SCORERS.get(method).default_policy if method in SCORERS.names() else Scorer.default_policy
