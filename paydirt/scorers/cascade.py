"""Cascade: cheap methods decide what dear ones look at, under one budget of selection FLOPs.

Every stage scores what the stage before it kept, and keeps its best share. The last stages are usually `learned` and
`gradient`: true influence of random points, a predictor, then true influence of what it expects most of, round by round,
until the budget is spent; everything else keeps its prediction (see `learned_passes`). Shares that the recipe leaves open
are chosen from the closed forms of the stages' costs. What was dropped ranks below what was kept, stage by stage.

`budget` is in FLOPs; without it, `share` of what gradients by the settings in `full` would cost over the whole pool.
`cascade.json` beside the scores tells what each stage saw, kept and cost.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from paydirt.artifacts import write_atomic
from paydirt.config import Config
from paydirt.progress import say
from paydirt.scorers.base import Job, Method, Scorer, make_scorer
from paydirt.scorers.gradient import Gradient
from paydirt.scorers.learned import Learned
from paydirt.scorers.learned_budget import affordable, closed_form, feature_cost
from paydirt.scorers.learned_passes import learn
from paydirt.scorers.truth import Truth
from paydirt.scores import reduced
from paydirt.types import Cost

COMMON = 0.5  # part of what is left that the next stage may take where others follow it


class Stage(Config):
    """A method and the share of what it scores that goes on."""

    method: Method
    keep: float | None = Field(None, gt=0, le=1, description="share kept for the next stage; null: by the budget")


def make_stage(values: Any) -> Any:
    """`bm25`, or `{name: bm25, <options>, keep: 0.5}`."""
    if isinstance(values, Stage) or (isinstance(values, dict) and "method" in values):
        return values
    if isinstance(values, dict):
        return {"method": make_scorer({k: v for k, v in values.items() if k != "keep"}), "keep": values.get("keep")}
    return {"method": make_scorer(values)}


StageField = Annotated[Stage, BeforeValidator(make_stage)]


def default_stages() -> list[Stage]:
    """A predictor from cheap features, and gradients at the last checkpoint of a short warm-up."""
    cheap = Gradient(warmup_epochs=1, checkpoints=1)
    return [Stage(method=Learned(rounds=4, gradient=cheap)), Stage(method=cheap)]


class Cascade(Scorer):
    """Stages from cheap to dear, each keeping a share for the next, within a budget."""

    name: ClassVar[str] = "cascade"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "what you give it: a tenth of gradient's by default"
    use_when: ClassVar[str] = "gradient quality under a budget; one task, or a pool seen once"

    stages: list[StageField] = Field(
        default_factory=default_stages,
        min_length=2,
        description="methods from cheap to dear, each with a share to keep",
    )
    budget: float | None = Field(None, gt=0, description="selection FLOPs, never exceeded; null: by share")
    share: float = Field(0.1, gt=0, le=1, description="budget as a share of the cost of full")
    full: Gradient = Field(default_factory=Gradient, description="the selection that share is a share of the cost of")

    @field_validator("stages")
    @classmethod
    def _ordered(cls, stages: list[Stage]) -> list[Stage]:
        names = [stage.method.name for stage in stages]
        if "cascade" in names:
            raise ValueError("a cascade cannot be a stage of a cascade; list its stages instead")
        if "learned" in names[:-2] or ("learned" in names[:-1] and names[-1] != "gradient"):
            raise ValueError("the stage 'learned' is the last one, or followed by 'gradient' alone, which it predicts")
        return stages

    def allowance(self, job: Job) -> float:
        """FLOPs that may be spent."""
        return self.budget if self.budget is not None else self.share * self.full.predict_cost(job).flops

    @property
    def filters(self) -> list[Stage]:
        """Stages before the last method; `learned` and a `gradient` after it are one."""
        return self.stages[:-2] if self.stages[-2].method.name == "learned" else self.stages[:-1]

    @property
    def final(self) -> Scorer:
        """What scores the survivors: `learned` with the last stage's gradients, or the last stage."""
        last = self.stages[-1].method
        before = self.stages[-2].method
        if isinstance(before, Learned):
            return before.model_copy(update={"gradient": last})
        return last

    def predict_cost(self, job: Job) -> Cost:
        """The budget, or less where scoring everything at every stage costs less."""
        most = sum(stage.method.predict_cost(job).flops for stage in self.filters)
        final = self.final
        if isinstance(final, Learned):
            everything = final.model_copy(update={"points": len(job.pool)})
            most += everything.predict_cost(job).flops
        else:
            most += final.predict_cost(job).flops
        return Cost(min(self.allowance(job), most), job.tokens.total)

    def prepare(self, job: Job) -> np.ndarray:
        """Scores [N] of the whole pool."""
        allowance = self.allowance(job)
        rows, left = np.arange(len(job.pool)), allowance
        dropped: list[tuple[np.ndarray, np.ndarray]] = []
        told: list[dict[str, Any]] = []
        for number, stage in enumerate(self.filters):
            part = self._part(job, rows, f"stage-{number}")
            cost = stage.method.predict_cost(part).flops
            if cost > left:
                raise ValueError(
                    f"cascade: the stage {stage.method.name!r} costs {cost:.3g} FLOPs for {len(rows)} examples, and "
                    f"{left:.3g} of the budget are left; raise the budget or keep less before it"
                )
            scores = run_part(part, stage.method)
            job.meter.absorb(part.meter)
            left -= max(cost, part.meter.flops)
            keep = stage.keep if stage.keep is not None else self._share(part, number + 1, left)
            order = np.argsort(-scores, kind="stable")
            size = max(1, round(keep * len(rows)))
            told.append(_line(stage.method.name, len(rows), size, cost, part.meter.flops))
            dropped.append((rows[order[size:]], scores[order[size:]]))
            ranked, rows = rows[order[:size]], np.sort(rows[order[:size]])
        final = self.final
        if isinstance(final, Learned):
            scores, line = self._learn(final, job, rows, left)
        elif isinstance(final, Gradient):
            ranked, rest, scores, line = self._verify(final, job, ranked, left)
            dropped.append((rest, -np.arange(len(rest), dtype=np.float64)))
            rows = ranked
        else:
            part = self._part(job, rows, "last")
            scores, cost = run_part(part, final), final.predict_cost(part).flops
            job.meter.absorb(part.meter)
            line = _line(final.name, len(rows), len(rows), cost, part.meter.flops)
        told.append(line)
        spent = max(sum(line["flops"] for line in told), sum(line["counted"] for line in told))
        write_atomic(
            job.out / "cascade.json", json.dumps({"budget": allowance, "spent": spent, "stages": told}, indent=1)
        )
        say(f"cascade: spent {spent:.3g} of {allowance:.3g} FLOPs; {line['kept']} examples got a score of {final.name}")
        return tiers(len(job.pool), rows, scores, dropped)

    def score_rows(self, job: Job, state: np.ndarray, start: int, stop: int) -> np.ndarray:
        return state[start:stop]

    def _part(self, job: Job, rows: np.ndarray, name: str) -> Job:
        out = job.scratch / name
        out.mkdir(exist_ok=True)
        return job.part(rows, out)

    def _share(self, part: Job, following: int, left: float) -> float:
        """The share to keep so that what every kept example costs next is at most half of what is left.

        Only gradients, learnt or not, cost more than that by nature; they take what they can pay for.
        """
        final = self.final
        if following < len(self.filters):
            cost = self.filters[following].method.predict_cost(part).flops
        elif isinstance(final, Learned):
            cost = sum(feature_cost(final, part).values())
        else:
            cost = 0.0 if isinstance(final, Gradient) else final.predict_cost(part).flops
        return float(np.clip(COMMON * left / cost, 0.01, 1.0)) if cost else 1.0

    def _learn(self, final: Learned, job: Job, rows: np.ndarray, left: float) -> tuple[np.ndarray, dict[str, Any]]:
        """Scores [n] of ascending rows: true or predicted influence, for at most `left` FLOPs."""
        part = job.part(rows, job.out)
        outcome = learn(final, part, left)
        job.meter.absorb(part.meter)
        cost = outcome.report["cost"]
        return outcome.scores(), _line(final.name, len(rows), len(outcome.truth), closed_form(cost), cost["counted"])

    def _verify(
        self, final: Gradient, job: Job, ranked: np.ndarray, left: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """True influence of as many of `ranked` as can be paid for: their rows, the other rows, scores [n].

        In two goes: what the first is counted at decides how far the second may go.
        """
        part = self._part(job, np.arange(len(job.pool)), "last")
        truth = Truth(part, final)
        done = 0
        for share in (0.3, 1.0):
            counted = part.meter.flops
            true = left - max(truth.predicted, counted)
            true *= min(1.0, truth.predicted / counted) if counted else share
            chosen = affordable(truth, ranked[done:], true)
            truth.of(chosen)
            done += len(chosen)
        if not done:
            raise ValueError(
                f"cascade: {left:.3g} FLOPs are left for {final.name}, whose warm-up and references alone cost "
                f"{truth.fixed:.3g}; raise the budget, or use fewer warmup_epochs or a smaller warmup_fraction"
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


def run_part(part: Job, method: Scorer) -> np.ndarray:
    """One score [n] of every row of a part, by the method's own reduction."""
    return reduced(method.values(part), method.columns(part.target), method.reduction)


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
