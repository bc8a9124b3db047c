"""Run a study: score once a method, select once a fraction, train once a set of examples, evaluate once a model.

The plan is made of stages (`paydirt.stages`) whose artifacts live under the study directory:

    scores/<target>/<method>[-seed]      selections/<target>/<method>-<budget>[-seed]
    models/<set of examples and seed>    evaluations/<model>-<target>      results.parquet  report.html
    decontamination/                     where the evaluation is a standard benchmark: the pool that all of it uses

Two methods that choose the same examples share a model: at 100 % every method does. A killed study continues.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from paydirt.core.artifacts import Artifact, fingerprint, write_atomic
from paydirt.core.config import dump_yaml
from paydirt.core.progress import say
from paydirt.execution import Executor, executor
from paydirt.execution.local import default_workers
from paydirt.scoring.inputs import is_stochastic
from paydirt.selection.budget import Budget
from paydirt.selection.select import taken_ids
from paydirt.stages import (
    ScoreStage,
    SelectStage,
    TrainStage,
    Workspace,
    evaluate,
    score,
    select,
    train,
    train_inputs,
)
from paydirt.study.leaks import without_leaks
from paydirt.study.recipe import MethodEntry, Study
from paydirt.study.results import Run, write_results
from paydirt.study.steps import evaluate_stage, score_stage, select_stage, train_stage, tuned
from paydirt.tasks import TargetConfig
from paydirt.training.launcher import refuse_launcher


@dataclass
class Counter:
    """How many artifacts were made and how many were found."""

    made: int = 0
    found: int = 0

    def add(self, artifact: Artifact) -> Artifact:
        if artifact.fresh:
            self.made += 1
        else:
            self.found += 1
        return artifact


class Pick(NamedTuple):
    """One selection of a study: which examples a method gives for a target, fraction and seed."""

    target: TargetConfig
    entry: MethodEntry
    fraction: float
    seed: int
    scores: Artifact
    selection: Artifact


class TrainTask(NamedTuple):
    """What a worker needs to train one model, unless `stage` is None, and evaluate it on its targets."""

    stage: TrainStage | None
    out: Path
    targets: tuple[TargetConfig, ...]
    study: Study
    shared: Path
    evaluations: Path


def run_study(study: Study, out: Path, execution: Executor | None = None) -> Path:
    """Run (or continue) a study in `out`, by `execution` or as the recipe says; returns the path of its results table."""
    refuse_launcher("a study")
    out = Path(out).absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / "config.yaml", dump_yaml({"stage": "study", **study.to_dict()}))
    except OSError as error:
        raise ValueError(f"{out}: cannot write there ({error.strerror}); choose another --out") from None
    scoring, training = (execution, execution) if execution is not None else executors(study)
    scoring.check(out)
    workspace = Workspace(out / "shared", replace="same stage", executor=scoring)  # the study owns its folder
    counter = Counter()
    study, cleaned = without_leaks(study, out, workspace)
    if cleaned is not None:
        counter.add(cleaned)
    picks = [
        pick
        for target in study.targets
        for entry in study.methods
        for pick in _pick(study, target, entry, out, workspace, counter)
    ]
    tasks, model_of = _plan_training(study, picks, out, workspace)
    lean = _without_methods(study)
    untuned = TrainTask(
        None, out / "models" / "zero-shot", tuple(study.targets), lean, workspace.shared, out / "evaluations"
    )
    say(f"{study.name}: {len(picks)} selections, {len(tasks)} distinct models to tune")
    for made, found in training.map(_train_and_evaluate, [*tasks, untuned], "tuning"):
        counter.made, counter.found = counter.made + made, counter.found + found
    runs = [
        Run(
            p.target.name,
            p.entry,
            p.fraction,
            p.seed,
            p.scores.path,
            p.selection.path,
            m,
            evaluation_place(out, m, p.target),
        )
        for p, m in zip(picks, model_of)
    ]
    zero = {target.name: evaluation_place(out, untuned.out, target) for target in study.targets}
    path = write_results(study, out, runs, zero, workspace.model_fingerprint(study.model))
    say(f"{study.name}: {counter.made} artifacts made, {counter.found} were up to date; results in {path}")
    return path


def _without_methods(study: Study) -> Study:
    """What a worker gets: a method typed into a notebook can't be sent to it, and training asks for none."""
    return study.model_copy(update={"methods": []})


def executors(study: Study) -> tuple[Executor, Executor]:
    """Who scores and who trains. `workers` of a recipe are for trainings, where these run on this machine."""
    asked = (study.execution, study.address)
    if study.execution == "ray":
        both = executor(*asked, study.workers, study.gpus)
        return both, both
    workers = study.workers if study.gpus is not None else study.workers or default_workers()
    return executor(*asked, None, study.gpus), executor(*asked, workers, study.gpus)


def _pick(
    study: Study, target: TargetConfig, entry: MethodEntry, out: Path, workspace: Workspace, counter: Counter
) -> list[Pick]:
    """Score and select for one method and target, at every fraction and seed; equal work is found, not done again."""
    picks = []
    for seed in study.seeds:
        stage, at = score_place(study, target, entry, seed, out)
        scored = counter.add(score(stage, at, workspace))
        for fraction in study.fractions:
            cut, place = cut_place(study, target, entry, seed, Budget(fraction=fraction), scored.path, out)
            picks.append(Pick(target, entry, fraction, seed, scored, counter.add(select(cut, place, workspace))))
    return picks


def score_place(
    study: Study, target: TargetConfig, entry: MethodEntry, seed: int, out: Path
) -> tuple[ScoreStage, Path]:
    """The scoring of one method, target and seed, and its place: the same for all seeds that do not matter to it."""
    scorer = study.scorer_of(entry, seed)
    tag = "" if scorer == entry.scorer and not is_stochastic(scorer) else f"-seed{seed}"
    of_target = target.name if scorer.uses_target else "any"
    kind = f"{scorer.label}-{fingerprint(scorer.to_dict())[:6]}{tag}"
    return score_stage(study, target, scorer, seed), out / "scores" / of_target / kind


def cut_place(
    study: Study, target: TargetConfig, entry: MethodEntry, seed: int, budget: Budget, scores: Path, out: Path
) -> tuple[SelectStage, Path]:
    """The cut of finished scores at a budget, and its place."""
    drawn = study.selection_seed(entry, seed)
    name = f"{entry.label}-{budget.label}{f'-seed{drawn}' if drawn else ''}"
    return select_stage(study, entry, scores, budget, seed), out / "selections" / target.name / name


def _plan_training(
    study: Study, picks: list[Pick], out: Path, workspace: Workspace
) -> tuple[list[TrainTask], list[Path]]:
    """Distinct models to tune, each with the targets to test it on; and the model directory of every pick."""
    workspace.tokens(study.pool, study.model, study.encoding)  # once, before workers ask for it
    tasks: dict[Path, TrainTask] = {}
    model_of = []
    lean = _without_methods(study)
    for pick in picks:
        stage, place = train_place(study, pick.selection.path, pick.seed, workspace, out)
        task = tasks.get(place)
        targets = dict.fromkeys([*(t.name for t in (task.targets if task else ())), pick.target.name])
        chosen = tuple(t for t in study.targets if t.name in targets)
        tasks[place] = TrainTask(stage, place, chosen, lean, workspace.shared, out / "evaluations")
        model_of.append(place)
    # The longest first, so that workers finish together.
    sizes = {task.out: len(taken_ids(Path(task.stage.selection or ""))) for task in tasks.values() if task.stage}
    return sorted(tasks.values(), key=lambda t: (-sizes[t.out], str(t.out))), model_of


def train_place(study: Study, selection: Path, seed: int, workspace: Workspace, out: Path) -> tuple[TrainStage, Path]:
    """The training on a finished selection, and its place: the same for equal sets of examples."""
    stage = train_stage(study, selection, seed)
    pool, encoder = workspace.pool(study.pool), workspace.encoder(study.model, study.encoding)
    inputs = train_inputs(stage, pool, taken_ids(selection), encoder, workspace)
    rate = study.training.rate_for(stage.share)  # two shares asked for can be the same examples, and yet two models
    name = fingerprint([inputs, study.training.to_dict(), study.model.dtype, rate])
    return stage, out / "models" / f"{name}-seed{seed}"


@lru_cache
def _workspace(shared: Path) -> Workspace:
    """One a worker process, so that it opens the pool once, not once a model."""
    return Workspace(shared, replace="same stage")


def _train_and_evaluate(task: TrainTask) -> tuple[int, int]:
    """Tune one model, test it on its targets; returns how many artifacts were made and found."""
    workspace = _workspace(task.shared)
    counter = Counter()
    model = task.study.model
    if task.stage is not None:
        made = counter.add(train(task.stage, task.out, workspace))
        model = tuned(task.study, made.path)
    for target in task.targets:
        place = evaluation_place(task.evaluations.parent, task.out, target)
        counter.add(evaluate(evaluate_stage(task.study, model, target), place, workspace))
    return counter.made, counter.found


def evaluation_place(out: Path, model: Path, target: TargetConfig) -> Path:
    return out / "evaluations" / f"{model.name}-{target.name}"
