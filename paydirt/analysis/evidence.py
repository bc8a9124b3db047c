"""What is known about a job before it is decided: its own panel, other panels, the published prior; all in one unit.

Enters: a `Job` and the user's results. Leaves: `Evidence`: a model of everything but the job's own panel, the own
panel's points, what it measured (zero-shot, selection costs, on which pool), and notes of what was matched, left out or
assumed.

Scores of a task are brought to percent by a unit of that task: shares of 1 times 100, percents as they are, anything else
(losses, points of a game) standardised by its own median and spread. One panel holds one metric; several are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from paydirt.analysis.completion import complete, pool_sizes
from paydirt.analysis.names import fold, near
from paydirt.analysis.points import Points, join, points
from paydirt.analysis.posterior import Model, learn, nearest
from paydirt.analysis.prior import known_without, levels, prior_model
from paydirt.analysis.published import SOURCE, TARGETED_SOURCE
from paydirt.analysis.results import Panel, Results, panels
from paydirt.analysis.strategies import Job

MOST_PANELS = 200


@dataclass(frozen=True, slots=True)
class Unit:
    """percent = factor x score + shift."""

    factor: float = 1.0
    shift: float = 0.0

    def to(self, at: Points) -> Points:
        return Points(*(
            at.y * self.factor + self.shift if n == "y" else at.seed_sd * self.factor if n == "seed_sd" else getattr(at, n)
            for n in Points.__slots__
        ))  # fmt: skip

    def back(self, percent: float) -> float:
        return (percent - self.shift) / self.factor


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """`kind` says what is known of the panel itself: nothing (`prior`), its `zero-shot`, or runs (`pilot`)."""

    panel: Panel
    own: Points
    model: Model
    unit: Unit
    pool: float  # examples in the pool of the own panel's runs
    pilot_tokens: float | None  # tokens in it, where that is known
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        if self.panel.curves:
            return "pilot"
        return "zero-shot" if len(self.panel.zero_shot) else "prior"


def gather(job: Job, results: Results | None, use_published: bool, metric: str | None = None) -> Evidence:
    """Sort the user's results into the job's own panel and others, and learn from the others and the published ones.

    Raises ValueError when a task's rows are of several metrics and `metric` names none of them.
    """
    notes = [f"prior: {SOURCE}; {TARGETED_SOURCE}"] if use_published else ["no published prior"]
    mine: list[Panel] = []
    pools: dict[tuple[str, str], tuple[float, float]] = {}
    if results is not None:
        results = one_metric(on_pool(results, job), metric, job.task)
        notes += results.notes
        mine, pools = panels(results), pool_sizes(results)
    match, said = match_panel(job, mine)
    notes = said + notes
    own = match or Panel(job.task or "this task", job.model or "this model", job.train_params)
    if match and not np.isfinite(own.train_params):
        own = Panel(own.task, own.model, job.train_params, own.curves, own.zero_shot)
    others = [p for p in mine if p is not match]
    units = {fold(p.task): unit_of([q for q in mine if fold(q.task) == fold(p.task)]) for p in mine}
    unit = units.get(fold(own.task), Unit())
    if unit not in (Unit(), Unit(100.0)):
        notes.append(
            f"scores of {own.task} are no shares or percents; they are standardised by their own median and spread"
        )
    sizes = {k: v[0] for k, v in pools.items()}
    known = [units[fold(p.task)].to(points([p], 1.0, sizes)) for p in _closest(own, others)]
    every = known[0] if known else points([])
    for one in known[1:]:
        every = join(every, one)
    pool, tokens = pools.get((own.task, own.model), (float("nan"), float("nan")))
    pool = pool if pool > 0 else job.examples
    here = unit.to(points([own], 1.0, {(own.task, own.model): pool}))
    model = _learn(own, every, here, use_published)
    if len(model.known) < sum(len(c) for p in others for c in p.curves.values()):
        notes.append(f"of {len(others)} other panels the most similar were learned from ({len(model.known)} points)")
    return Evidence(own, here, model, unit, pool, tokens if tokens > 0 else None, tuple(notes))


def _learn(own: Panel, others: Points, here: Points, use_published: bool) -> Model:
    like = here if len(here) else points([replace(own, zero_shot=np.zeros(1))])
    if not use_published:
        return learn(nearest(others, like), levels())
    if not len(others):
        return prior_model(own.task, own.model, own.train_params)
    return learn(join(known_without(own.task, own.model, own.train_params), nearest(others, like)), levels())


def _closest(panel: Panel, others: Sequence[Panel]) -> list[Panel]:
    """At most `MOST_PANELS`, the own task's first: a table of thousands need not be turned into points as a whole."""
    return sorted(others, key=lambda p: fold(p.task) != fold(panel.task))[:MOST_PANELS]


def on_pool(results: Results, job: Job) -> Results:
    """Rows whose pool nobody told are placed on the job's, instead of on their panel's largest run."""
    if not any("pool size unknown" in note for note in results.notes):
        return results
    n = {k: v.copy() for k, v in results.numbers.items()}
    placed = np.isnan(n["pool_examples"]) & np.isnan(n["pool_tokens"])
    placed &= np.isfinite(n["n_examples"]) | np.isfinite(n["tokens"])
    n["fraction"][placed] = np.nan
    notes = tuple(note for note in results.notes if "pool size unknown" not in note)
    again = Results(
        results.codes, results.levels, n, (*notes, f"{int(placed.sum())} rows are placed on this job's pool")
    )
    return complete(again, job.pool_tokens, job.examples)


def one_metric(results: Results, metric: str | None = None, task: str = "") -> Results:
    """The rows of one metric a task, where `metric` is asked for; other tasks' metrics stay apart as they are.

    Rows of a task that was measured in several metrics are named "task (metric)" (`results`). ValueError naming the
    metrics when they are the job's own task's and none of them is asked for.
    """
    if not len(results):
        return results
    metrics, full = results.text("metric"), results.text("task")
    ends = [f" ({m or 'not stated'})" for m in metrics]
    base = np.array([t[: -len(e)] if t.endswith(e) else t for t, e in zip(full, ends)], dtype=object)
    keep, named = np.ones(len(results), dtype=bool), full.copy()
    for one in dict.fromkeys(base):
        rows = base == one
        found = sorted({str(m) for m, t in zip(metrics[rows], full[rows]) if t != one})
        if not found:
            continue
        asked = [f for f in found if metric and fold(f) == fold(metric)]
        if asked:
            keep &= ~rows | (metrics == asked[0])
            named[rows] = one
        elif fold(task) == fold(one) or (not task and len(set(base)) == 1):
            hint = f" ({metric!r} is none of them)" if metric else ""
            listed = ", ".join(f or "not stated" for f in found)
            raise ValueError(
                f"results of task {one!r} are of {len(found)} metrics, {listed}{hint}; scores of two metrics are never "
                f"averaged: choose one with --metric"
            )
    dropped = int((~keep).sum())
    if not dropped:
        return results
    levels = tuple(dict.fromkeys(named[keep]))
    at = {name: code for code, name in enumerate(levels)}
    kept = results.where(keep)
    codes = {**kept.codes, "task": np.array([at[name] for name in named[keep]], dtype=np.int64)}
    note = f"{dropped} rows of other metrics than {metric} left out"
    return Results(codes, {**kept.levels, "task": levels}, kept.numbers, (*kept.notes, note))


def match_panel(job: Job, mine: Sequence[Panel]) -> tuple[Panel | None, list[str]]:
    """The panel that is the job's own, by folded names (by parameters where no model is named); else what was meant."""
    if not mine:
        return None, []
    task, model = fold(job.task), fold(job.model)
    if len(mine) == 1 and not task and not model:
        return mine[0], []  # a pilot of one panel is the job's own
    on_task = [p for p in mine if task and fold(p.task) == task]
    if task and not on_task:
        meant = near(job.task, {p.task for p in mine})
        seen = f"did you mean {meant!r}?" if meant else f"they are on {', '.join(sorted({p.task for p in mine})[:8])}"
        return None, [f"the results hold nothing on task {job.task!r}; {seen}"]
    if not task and model:
        on_task = [p for p in mine if fold(_bare(p.model)) == model]
        if len({fold(p.task) for p in on_task}) > 1:
            return None, [f"the results hold several tasks on model {job.model!r}; name one with --task"]
    if model:
        found = [p for p in on_task if fold(p.model) == model or fold(_bare(p.model)) == model]
        if not found:
            meant = near(job.model, {_bare(p.model) for p in mine})
            seen = (
                f"did you mean {meant!r}?" if meant else f"they are of {', '.join(sorted({p.model for p in mine})[:8])}"
            )
            return None, [f"the results hold nothing of model {job.model!r}{f' on {job.task}' if task else ''}; {seen}"]
    else:
        found = [p for p in on_task if abs(p.train_params - job.train_params) < 0.02 * job.train_params]
        if not found and len(on_task) == 1 and not np.isfinite(on_task[0].train_params):
            found = on_task
    if len(found) > 1:
        names = ", ".join(repr(p.model) for p in found)
        return found[0], [
            f"{len(found)} panels fit this job ({names}); the first counts as its own; name one with --model"
        ]
    return (found[0], []) if found else (None, [])


def _bare(model: str) -> str:
    """A model's name without the pool or the size that was put behind it to tell two apart."""
    return re.sub(r" \((\d[\d.e+]*B|not stated)\)$", "", model.split(" [")[0])


def unit_of(found: Sequence[Panel]) -> Unit:
    """The unit of one task's scores, from all its panels."""
    every = [s for p in found for c in p.curves.values() for s in c.scores] + [p.zero_shot for p in found]
    values = np.concatenate([v for v in every if len(v)]) if any(len(v) for v in every) else np.array([])
    if not len(values) or (values.min() >= 0 and 1 < values.max() <= 100):
        return Unit()
    if values.min() >= 0 and values.max() <= 1:
        return Unit(100.0)
    middle = float(np.median(values))
    spread = 1.48 * float(np.median(np.abs(values - middle))) or float(values.std())
    factor = 4.0 / spread if spread > 0 else 1.0
    return Unit(factor, 50.0 - factor * middle)
