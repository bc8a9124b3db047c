"""The contract of a scorer, and all that scorers share so that a method stays small.

A scorer is a frozen config with behaviour. Its author declares fields, says what it costs (`price`), what must be
known before any row can be scored (`prepare`) and how a block of rows is scored (`score_rows`). The base class owns
shards, resume, progress, the ledger and the registry; a new file in this package is a new method everywhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BeforeValidator, SerializeAsAny

from paydirt.columns import PoolColumn
from paydirt.core.named import Named, make
from paydirt.core.registry import Registry
from paydirt.core.types import Cost, Target
from paydirt.cost.facts import Facts
from paydirt.cost.methods import SAFETY, as_counted, selection_cost
from paydirt.data.encoding import truncation
from paydirt.scoring.column import ScoreColumn, Scored, ScoreWorker
from paydirt.scoring.job import Job
from paydirt.selection.scores import ROWS, Column, Reduction, reduced, write_columns

__all__ = [
    "MODEL_LIBRARIES",
    "OWN",
    "SCORERS",
    "Job",
    "Method",
    "Scorer",
    "default_policy",
    "make_scorer",
    "scorer_of",
]

NONE = np.zeros(0, dtype=np.int64)  # no rows
OWN = "own"  # place of FLOPs that no artifact or column is charged with
# Libraries whose numbers enter what a model computes: arithmetic, architecture, tokens, adapters.
MODEL_LIBRARIES = ("torch", "transformers", "tokenizers", "peft")
BATCH_TOKENS = 1 << 14  # padded tokens in a batch of a method that has no option for it
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
    source: ClassVar[str] = ""
    """Who published the method."""
    use_when: ClassVar[str] = ""
    known_as: ClassVar[Mapping[str, str]] = {}
    """What others call it, in small letters and digits alone, and how it is asked for here."""
    default_policy: ClassVar[str] = "top"
    reduction: ClassVar[Reduction] = Reduction()
    spread: ClassVar[bool] = False
    """Whether `score_rows` is worth several processes, in each of which `prepare` finds what it left on disk."""

    @property
    def label(self) -> str:
        """How tables call this method."""
        return self.name

    @property
    def idle(self) -> frozenset[str]:
        """Fields with a scorer that these options never run; what it depends on does not count."""
        return frozenset()

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

    def score_rows(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        """Scores [n, C] of those `rows` [n] of the pool, which are among the job's."""
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
        """What `rows` of the pool will be counted at [n] each, by the place that is charged (`OWN`: the job itself).

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
        predicted = self.predict_cost(job)
        column = ScoreColumn(Scored.of(self, job), job.out, job.shard_rows)
        units = column.plan()
        if units or not any(e.finished for e in job.ledger.entries() if e.stage == "score"):
            with job.ledger.record("score", self.label, predicted) as entry:
                entry.measured_flops = 0.0  # a line tells all or nothing: who is stopped here is counted by who goes on
                entry.notes["predicted_parts"] = predicted.parts
                column.worker = ScoreWorker(self, job, self.prepare(job))
                (job.executor.fill if self.spread else PoolColumn.fill)(column, units)
                entry.measured_flops = job.meter.flops + sum(line["flops"] for line in column.lines())
                entry.notes["charges"] = job.meter.charges
        column.finish()
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

    def scored(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        """`score_rows` as [n, C], whatever shape a method's author returns."""
        return np.asarray(self.score_rows(job, state, rows)).reshape(len(rows), -1)

    def values(self, job: Job) -> np.ndarray:
        """Values [n, C] of the rows that the job asks for, in memory, for a scorer that works for another one."""
        state = self.prepare(job)
        return np.concatenate([self.scored(job, state, rows) for rows in job.blocks()])

    def scores(self, job: Job) -> np.ndarray:
        """One score [n] of each row that the job asks for, by the method's own reduction."""
        state, columns = self.prepare(job), self.columns(job.target)
        return np.concatenate(
            [reduced(self.scored(job, state, rows), columns, self.reduction) for rows in job.blocks()]
        )

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


def scorer_of(scored: Mapping[str, Any]) -> str:
    """The method of finished scores by their config; of imported ones, the method of ours that they are of, where known."""
    method = scored.get("method") or {}
    return str(method.get("of") or method.get("name"))


def default_policy(method: str) -> str:
    """The policy that a method's scores are selected by unless another is named; `top` for what is no method of ours."""
    return SCORERS.get(method).default_policy if method in SCORERS.names() else Scorer.default_policy
