"""Cascade: cheap methods decide what dear ones look at, under one budget of selection FLOPs.

Every stage scores what the stage before it kept, and keeps its best share. The last stages are usually `learned` and the
truth that it predicts (`gradient`, `drop`): true scores of random points, a predictor, then true scores of what it expects
most of, round by round, until the budget is spent; everything else keeps its prediction (see `prediction.passes`). Shares
that the recipe leaves open are chosen by what the stages will cost at most. What was dropped ranks below what
was kept, stage by stage.

`budget` is in FLOPs; without it, `share` of what gradients by the settings in `full` would cost over the whole pool by
closed form. It is spent by count and never exceeded: a stage is held to its ceiling (`Scorer.ceiling`) until it has been
counted, rows of the truth to what those before them tell. A budget that cannot be kept to is refused before anything
runs, with the least that can. What was spent is what a study charges.
`cascade.json` beside the scores tells what each stage saw, kept and cost.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from paydirt.core.artifacts import write_atomic
from paydirt.core.config import Config
from paydirt.core.progress import say
from paydirt.core.types import Cost
from paydirt.cost.facts import Facts
from paydirt.cost.methods import selection_cost
from paydirt.prediction.budget import CHEAPER, LEAST, closed_form, feature_ceilings, least_allowance, require
from paydirt.prediction.passes import learn
from paydirt.prediction.truth import Truth
from paydirt.scorers.drop import Drop
from paydirt.scorers.gradient import Gradient
from paydirt.scorers.learned import Learned
from paydirt.scoring.base import Job, Method, Scorer, make_scorer
from paydirt.selection.scores import reduced

COMMON = 0.5  # part of what is left that the next stage may take where others follow it
SMALLEST = 0.01  # share that a stage keeps at least
ACCOUNT = "cascade.json"


class Stage(Config):
    """A method and the share of what it scores that goes on."""

    method: Method
    keep: float | None = Field(None, gt=0, le=1, description="share kept for the next stage; null: by the budget")


def make_stage(values: Any) -> Any:
    """`bm25`, or `{name: bm25, <options>, keep: 0.5}`."""
    if isinstance(values, Stage) or (isinstance(values, dict) and "name" not in values and "method" in values):
        return values  # a method may have an option called `method`
    if isinstance(values, dict):
        return {"method": make_scorer({k: v for k, v in values.items() if k != "keep"}), "keep": values.get("keep")}
    return {"method": make_scorer(values)}


StageField = Annotated[Stage, BeforeValidator(make_stage)]


def default_stages() -> list[Stage]:
    """A predictor from features that cost nothing, and loss drops of what it expects most of."""
    return [Stage(method=Learned(rounds=4, truth=Drop())), Stage(method=Drop())]


class Cascade(Scorer):
    """Stages from cheap to dear, each keeping a share for the next, within a budget."""

    name: ClassVar[str] = "cascade"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "what you give it: a tenth of gradient's by default"
    source: ClassVar[str] = "ours, on arXiv 2402.04333 and 2605.09404"
    use_when: ClassVar[str] = "gradient quality under a budget; one task, or a pool seen once"

    stages: list[StageField] = Field(
        default_factory=default_stages,
        min_length=2,
        description="methods from cheap to dear, each with a share to keep",
    )
    budget: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="selection FLOPs, never exceeded; null: by share"
    )
    share: float = Field(0.1, gt=0, le=1, description="budget as a share of the cost of full")
    full: Gradient = Field(default_factory=Gradient, description="the selection that share is a share of the cost of")

    @field_validator("stages")
    @classmethod
    def _ordered(cls, stages: list[Stage]) -> list[Stage]:
        names = [stage.method.name for stage in stages]
        if "cascade" in names:
            raise ValueError("a cascade cannot be a stage of a cascade; list its stages instead")
        if "learned" in names[:-2]:
            raise ValueError("the stage 'learned' is the last one, or followed by the truth alone, which it predicts")
        if isinstance(before := stages[-2].method, Learned):
            before.predicting(stages[-1].method)
        return stages

    def allowance(self, facts: Facts) -> float:
        """FLOPs that may be spent."""
        return self.budget if self.budget is not None else self.share * selection_cost(self.full, facts).flops

    @property
    def buys(self) -> bool:
        """Whether the last method scores as much as is paid for: gradients always, others where the share before is open."""
        return isinstance(self.final, Gradient) or (bool(self.filters) and self.filters[-1].keep is None)

    @property
    def filters(self) -> list[Stage]:
        """Stages before the last method; `learned` and the truth after it are one."""
        return self.stages[:-2] if self.stages[-2].method.name == "learned" else self.stages[:-1]

    @property
    def final(self) -> Scorer:
        """What scores the survivors: `learned` with the last stage as its truth, or the last stage."""
        last = self.stages[-1].method
        before = self.stages[-2].method
        if isinstance(before, Learned):
            return before.predicting(last)
        return last

    def price(self, facts: Facts) -> Cost:
        """The budget, or less where scoring everything at every stage costs less."""
        most = sum(selection_cost(stage.method, facts).flops for stage in self.filters)
        final = self.final
        if isinstance(final, Learned):
            final = final.model_copy(update={"points": max(LEAST, round(facts.pool.count))})
        most += selection_cost(final, facts).flops
        budget = min(self.allowance(facts), most)
        return Cost(budget, round(facts.pool.total), {"budget": budget})

    def least(self, facts: Facts, rows: int, at: int = 0) -> float:
        """FLOPs that stages from `at` on are sure to keep to on any `rows` examples, each keeping as little as it may."""
        worst = facts.longest(rows)
        if at < len(self.filters):
            stage = self.filters[at]
            size = self._smallest(rows) if stage.keep is None else max(1, round(stage.keep * rows))
            return stage.method.ceiling(worst) + self.least(worst, size, at + 1)
        final = self.final
        if isinstance(final, Learned):
            return least_allowance(final, worst)
        return final.ceiling(worst.longest(1) if self.buys else worst)

    def _smallest(self, rows: int) -> int:
        """What a stage whose share is open keeps at least: as much as what follows can work with."""
        return min(rows, max(2 * LEAST if isinstance(self.final, Learned) else 1, round(SMALLEST * rows)))

    def prepare(self, job: Job) -> np.ndarray:
        """Scores [N], of the job's rows; ValueError before anything is spent where the budget cannot be kept to."""
        allowance = self.allowance(job.facts)
        require(allowance, self.least(job.facts, len(job.rows)), "cascade")
        rows = job.rows
        dropped: list[tuple[np.ndarray, np.ndarray]] = []
        told: list[dict[str, Any]] = []

        def left() -> float:
            return allowance - job.meter.flops

        for number, stage in enumerate(self.filters):
            scores, line = self._run(job, rows, stage.method, f"stage-{number}", left())
            order = np.argsort(-scores, kind="stable")
            if stage.keep is not None:
                size = max(1, round(stage.keep * len(rows)))
            else:
                size = self._size(job.pool_facts.part(rows[order]), number + 1, left())
            told.append(line | {"kept": size})
            dropped.append((rows[order[size:]], scores[order[size:]]))
            ranked, rows = rows[order[:size]], np.sort(rows[order[:size]])
        final = self.final
        if isinstance(final, Learned):
            scores, line = self._learn(final, job, rows, left())
        elif self.buys:
            ranked, rest, scores, line = self._verify(final, job, ranked, left())
            dropped.append((rest, -np.arange(len(rest), dtype=np.float64)))
            rows = ranked
        else:
            scores, line = self._run(job, rows, final, "last", left())
        told.append(line)
        spent = job.meter.flops
        write_atomic(job.out / ACCOUNT, json.dumps({"budget": allowance, "spent": spent, "stages": told}, indent=1))
        say(f"cascade: spent {spent:.3g} of {allowance:.3g} FLOPs; {line['kept']} examples got a score of {final.name}")
        return tiers(len(job.pool), rows, scores, dropped)

    def charged(self, job: Job, predicted: Cost) -> float:
        """What was spent, by count."""
        return float(json.loads((job.out / ACCOUNT).read_text(encoding="utf-8"))["spent"])

    def score_rows(self, job: Job, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[rows]

    def _part(self, job: Job, rows: np.ndarray, name: str) -> Job:
        out = job.scratch / name
        out.mkdir(exist_ok=True)
        return job.asking(rows, out)

    def _run(
        self, job: Job, rows: np.ndarray, method: Scorer, name: str, left: float
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Scores [n] of ascending rows by a method that scores all of them, and its line of the account."""
        part = self._part(job, rows, name)
        ceiling, cost = method.ceiling(part.facts), method.predict_cost(part).flops
        if ceiling > left:
            raise ValueError(
                f"cascade: the stage {method.name!r} may cost {ceiling:.3g} FLOPs for {len(rows)} examples, and "
                f"{left:.3g} of the budget are left; raise the budget or keep less before it"
            )
        scores = method.scores(part)
        if cost and not part.meter.flops:
            part.meter.add(cost)  # a method that counts nothing is charged its closed form
        job.meter.absorb(part.meter)
        return scores, _line(method.name, len(rows), len(rows), cost, part.meter.flops)

    def _size(self, ranked: Facts, following: int, left: float) -> int:
        """How many of the best to keep, so that the next stage takes at most half of what is left where others follow,
        and these can be paid for.

        The last method takes what it can pay for.
        """
        final, lengths = self.final, ranked.pool.each
        assert lengths is not None
        last = following == len(self.filters)
        if last and self.buys:
            return len(lengths)

        def fits(size: int) -> bool:
            facts = ranked.part(np.arange(size))
            if last and isinstance(final, Learned):
                return feature_ceilings(final, facts) <= COMMON * left and self.least(facts, size, following) <= left
            first = self.filters[following].method.ceiling(facts)
            return first <= COMMON * left and self.least(facts, size, following) <= left

        low, high = self._smallest(len(lengths)), len(lengths)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _learn(self, final: Learned, job: Job, rows: np.ndarray, left: float) -> tuple[np.ndarray, dict[str, Any]]:
        """Scores [n] of ascending rows, true or predicted, for at most `left` FLOPs."""
        part = job.asking(rows, job.out)
        outcome = learn(final, part, left)
        job.meter.absorb(part.meter)
        cost = outcome.report["cost"]
        return outcome.scores(), _line(final.name, len(rows), len(outcome.truth), closed_form(cost), cost["counted"])

    def _verify(
        self, final: Scorer, job: Job, ranked: np.ndarray, left: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """True scores of as many of `ranked` as can be paid for: their rows, the other rows, scores [n].

        In a few goes: what the earlier ones were counted at decides how far the later may go.
        """
        part = self._part(job, job.rows, "last")
        truth = Truth(part, final)
        done = 0
        for share in (0.25, 0.6, 1.0, 1.0, 1.0):
            spare = left - part.meter.flops - (0.0 if done else final.fixed_ceiling(part.facts))
            chosen = truth.affordable(ranked[done:], share * spare)
            if not done and not len(chosen):
                chosen = truth.affordable(ranked[:1], spare)
            truth.of(chosen)
            done += len(chosen)
            if not done:
                raise ValueError(
                    f"cascade: {left:.3g} FLOPs are left for {final.name}, whose warm-up and references may cost "
                    f"{final.fixed_ceiling(part.facts):.3g}; raise the budget, or take it cheaper ({CHEAPER})"
                )
        job.meter.absorb(part.meter)
        scores = reduced(truth.known(ranked[:done]), truth.columns, final.reduction)
        return (
            ranked[:done],
            ranked[done:],
            scores,
            _line(final.name, len(ranked), done, truth.predicted, part.meter.flops),
        )


def _line(name: str, seen: int, kept: int, flops: float, counted: float) -> dict[str, Any]:
    return {"method": name, "seen": seen, "kept": kept, "flops": flops, "counted": counted}


def tiers(size: int, kept: np.ndarray, scores: np.ndarray, dropped: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Scores [size]: survivors' own; below, tier by tier, what each stage dropped in the order of its scores."""
    out = np.empty(size)
    out[kept] = scores
    floor = float(scores.min())
    for rows, values in reversed(dropped):
        if len(rows):
            ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
            out[rows] = floor - 2.0 + ranks / len(rows)
            floor -= 2.0
    return out
