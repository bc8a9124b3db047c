"""The plan of a study: what of it is there, what is to be made, and what that takes.

The study's own places and stages are asked one by one whether they are up to date (`core.looking`). A selection
that is there says which examples are trained on; of one that is not, the share of the pool does, so the FLOPs of its
training are those of texts of mean length. Selections that could turn out the same are counted as different models, those
that must be the same (the whole pool, a method without target for several targets) as one.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse
from paydirt.core.looking import Unmade, looking
from paydirt.cost.facts import Lengths
from paydirt.execution import Local
from paydirt.models.load import ModelConfig
from paydirt.planning.clock import Clock
from paydirt.planning.plan import Plan, Work
from paydirt.planning.stages import evaluate_work, score_work, select_work, train_work
from paydirt.planning.trials import plain_work
from paydirt.selection.budget import Budget
from paydirt.selection.select import taken_ids
from paydirt.stages import Workspace, evaluate, score, select, train
from paydirt.stages_data import DecontaminateStage
from paydirt.study import run as studies
from paydirt.study import steps
from paydirt.study.leaks import without_leaks
from paydirt.study.recipe import MethodEntry, Study
from paydirt.tasks.references import TargetConfig


@dataclass
class _Models:
    """Distinct models: what each is trained on, the targets that it is tested on, and where it is, if it is."""

    lengths: dict[Hashable, Lengths] = field(default_factory=dict)
    shares: dict[Hashable, float] = field(default_factory=dict)
    targets: dict[Hashable, set[str]] = field(default_factory=dict)
    places: dict[Hashable, Path] = field(default_factory=dict)
    there: set[Hashable] = field(default_factory=set)

    def add(self, key: Hashable, lengths: Lengths, share: float, target: str, place: Path | None) -> None:
        self.lengths.setdefault(key, lengths)
        self.shares.setdefault(key, share)
        self.targets.setdefault(key, set()).add(target)
        if place is not None:
            self.places[key] = place


def study_plan(study: Study, out: Path, measure: bool = False) -> Plan:
    """What running the recipe in `out` would take from here."""
    out = Path(out).absolute()
    space = Workspace(out / "shared", replace="same stage")
    works: list[Work] = []
    remarks: list[str] = []
    clock = Clock(space, measure)
    study, cleaning = _cleaned(study, out, clock, remarks)
    works += cleaning
    models = _Models()
    scoring: list[Work] = []
    selecting: dict[Path, Work] = {}
    seen: set[Path] = set()
    for target in study.targets:
        for entry in study.methods:
            for seed in study.seeds:
                stage, place = studies.score_place(study, target, entry, seed, out)
                found = _there(lambda stage=stage, place=place: score(stage, place, space))
                if place not in seen:
                    seen.add(place)
                    label = f"score {entry.label} for {target.name}"
                    made = Work(label, 0, 1) if found else score_work(stage, clock, label)
                    scoring.append(made)
                for fraction in study.fractions:
                    cut, where = studies.cut_place(study, target, entry, seed, Budget(fraction=fraction), place, out)
                    chosen = _there(lambda cut=cut, where=where: select(cut, where, space)) if found else None
                    if where not in selecting:
                        selecting[where] = Work("select", 0, 1) if chosen else select_work(cut, clock)
                    _model(models, study, space, target, entry, seed, fraction, place, chosen, out)
    works += _together(scoring)
    works += _together(list(selecting.values()), "select")
    workers = _workers(study)
    threads = None if workers == 1 else max(1, _cores() // workers)
    shared = clock.with_threads(threads)
    works += _training(study, models, shared, space, workers)
    works += _evaluating(study, models, shared, space, out, workers)
    start = clock.started(works)
    start = None if start is None else start + shared.once
    if start is not None and workers > 1 and any(w.made for w in works[-2:]):
        start *= 2  # the workers import once more, all at once
    rows = len(space.pool(study.pool))
    title = f"{study.name}: {rows:,} examples, {len(models.lengths)} models; {study.convention} FLOPs"
    return Plan(title, tuple(w for w in works if w.made or w.found), here(clock), start, remarks=tuple(remarks))


def _cleaned(study: Study, out: Path, clock: Clock, remarks: list[str]) -> tuple[Study, list[Work]]:
    try:
        with looking():
            study, made = without_leaks(study, out, clock.space)
        return study, [Work("decontaminate", 0, 1)] if made else []
    except Unmade as unmade:
        remarks.append("the pool is counted as it is before benchmark items are left out of it")
        return study, [plain_work("decontaminate", parse(DecontaminateStage, unmade.config), clock)]


def _there(make: Any) -> Artifact | None:
    """The artifact if it is up to date."""
    try:
        with looking():
            return make()
    except Unmade:
        return None


def _model(
    models: _Models, study: Study, space: Workspace, target: TargetConfig, entry: MethodEntry, seed: int, fraction: float,
    scores: Path, chosen: Artifact | None, out: Path,
) -> None:  # fmt: skip
    tokens, pool = space.tokens(study.pool, study.model, study.encoding), space.pool(study.pool)
    usable = tokens.supervised_lengths > 0
    if chosen is not None:
        stage, place = studies.train_place(study, chosen.path, seed, space, out)
        rows = pool.rows_of(sorted(taken_ids(chosen.path)))
        lengths = Lengths.of(tokens.lengths[rows][usable[rows]])
        models.add(place, lengths, stage.share, target.name, place)
        if _there(lambda: train(stage, place, space)):
            models.there.add(place)
        return
    whole = Lengths.of(tokens.lengths[usable])
    count = Budget(fraction=fraction).size(np.ones(len(pool)), pool_size=len(pool))
    count = min(count, int(whole.count))
    drawn = seed if entry.shuffled else None
    key: Hashable = (scores, str(entry.selection.to_dict()), fraction, drawn, seed)
    if count == whole.count:
        key = ("the whole pool", seed)
    ordered = np.sort(np.asarray(whole.each))
    spread = ordered[np.linspace(0, len(ordered) - 1, count).astype(int)]
    models.add(key, Lengths(count, whole.mean * count, spread), fraction, target.name, None)


def _training(study: Study, models: _Models, clock: Clock, space: Workspace, workers: int) -> list[Work]:
    """One row for all models of a share."""
    out = []
    for share in sorted(set(models.shares.values())):
        mine = [key for key, found in models.shares.items() if found == share]
        works = [
            Work("", 0, 1) if key in models.there else train_work(_bare(study), clock, models.lengths[key])
            for key in mine
        ]
        out += _together([replace(w, workers=workers) for w in works], f"train on {share:.1%}")
    return out


def _bare(study: Study) -> Any:
    from paydirt.stages import TrainStage

    return TrainStage(pool=study.pool, model=study.model, encoding=study.encoding, training=study.training,
                      convention=study.convention)  # fmt: skip


def _evaluating(study: Study, models: _Models, clock: Clock, space: Workspace, out: Path, workers: int) -> list[Work]:
    """Of every model on its targets, and of the untuned one on all."""
    works = []
    for target in study.targets:
        stage = steps.evaluate_stage(study, study.model, target)
        each = evaluate_work(stage, clock)
        zero = studies.evaluation_place(out, out / "models" / "zero-shot", target)
        done = [_there(lambda stage=stage, zero=zero: evaluate(stage, zero, space)) is not None]
        for key, names in models.targets.items():
            if target.name in names:
                done.append(key in models.there and _evaluated(study, models.places[key], target, space, out))
        some = [Work(each.what, 0, 1) if there else replace(each, workers=workers) for there in done]
        works += _together(some, each.what)
    return works


def _evaluated(study: Study, place: Path, target: TargetConfig, space: Workspace, out: Path) -> bool:
    tuned: ModelConfig = steps.tuned(study, place)
    stage = steps.evaluate_stage(study, tuned, target)
    return _there(lambda: evaluate(stage, studies.evaluation_place(out, place, target), space)) is not None


def _together(works: list[Work], what: str = "") -> list[Work]:
    """Works of one name as one row."""
    out = []
    for name in dict.fromkeys(what or work.what for work in works):
        mine = [w for w in works if (what or w.what) == name]
        todo = [w for w in mine if w.made]
        unknown_flops, unknown = any(w.flops is None for w in todo), any(w.seconds is None for w in todo)
        out.append(
            Work(
                name,
                sum(w.made for w in mine),
                sum(w.found for w in mine),
                None if unknown_flops else sum(w.flops or 0.0 for w in todo),
                sum(w.tokens for w in todo),
                None if unknown else sum(w.seconds or 0.0 for w in todo),
                max((w.peak_bytes for w in todo if w.peak_bytes), default=None),
                sum(w.disk_bytes for w in todo),
                max((w.workers for w in todo), default=1),
            )
        )
    return out


def _workers(study: Study) -> int:
    """Processes that train at once."""
    if study.execution != "local":
        return study.workers or 1
    training = studies.executors(study)[1]
    if isinstance(training, Local):
        return max(1, len(training.places(1 << 30)) if training.workers is None else training.workers)
    return 1


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def here(clock: Clock) -> str:
    """What hours are of, where no hardware is named."""
    from paydirt.planning.machine import machine

    known = machine()
    device = next((probe.device for probe in clock.probes.values()), "cpu")
    what = f"{known['cores']} cores, {known['processor']}" if device == "cpu" else device
    return f"this machine ({what})"
