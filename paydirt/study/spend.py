"""`paydirt spend`: a recipe and a budget in, the sequence of a careful engineer out, over the ordinary stages.

The policy is `paydirt.analysis.spending`, its world the recipe's (`study.spend_world`). Selecting and training count, as
everywhere here; evaluation is shown apart. What leaves is a study's folder: the results table of what was run, and
`spend.json`, the course with its reasons, which the report shows first.

A killed run is started again with the same command: finished stages are found, are charged the same, and the policy,
which is seeded, takes the same course.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paydirt.analysis.prior import calibration, prior_model
from paydirt.analysis.spending import LEVEL, Spent, Step, WhatIf, opening, spend
from paydirt.core.artifacts import write_atomic
from paydirt.core.config import dump_yaml
from paydirt.stages import Workspace
from paydirt.study.leaks import without_leaks
from paydirt.study.recipe import Study
from paydirt.study.results import RESULTS, write_results
from paydirt.study.schema import ZERO_SHOT
from paydirt.study.spend_words import NOWHERE, Machine, instead, line, needs, paragraph, report_text
from paydirt.study.spend_world import StudyWorld

COURSE = "spend.json"


def open_world(study: Study, target: str | None, out: Path) -> StudyWorld:
    """The recipe's world on one target; ValueError where the recipe has several and none is named."""
    names = [t.name for t in study.targets]
    if target is None and len(names) > 1:
        raise ValueError(
            f"the recipe has {len(names)} targets, {', '.join(names)}; a budget is spent on one: choose with --target"
        )
    found = [t for t in study.targets if t.name == (target or names[0])]
    if not found:
        raise ValueError(f"no target {target!r} in the recipe; it has {', '.join(names)}")
    if (out / RESULTS).exists() and not (out / COURSE).exists():
        raise ValueError(f"{out}: holds the results of a study, which would be lost; choose another --out")
    workspace = Workspace(out / "shared", replace="same stage")
    study, _ = without_leaks(study, out, workspace)
    return StudyWorld(study, found[0], out, workspace)


def plan_text(world: StudyWorld, budget: float, machine: Machine = NOWHERE) -> str:
    """The opening plan, without running anything."""
    model = prior_model(world.panel.task, world.panel.model, world.panel.train_params)
    pilot, final = opening(world, model, budget)
    once = world.training_flops(world.total, world.count)
    lines = [f"budget {budget:.3g} FLOPs{machine.told(budget)}; one training on the whole pool costs {once:.3g}",
             "1. evaluate the untuned model: no FLOPs of the budget"]  # fmt: skip
    if pilot is None:
        lines.append("2. no pilot is worth its cost as things stand")
    else:
        row, worth, flops = pilot
        lines.append(
            f"2. pilot: {world.describe(row)}, {flops:.3g} FLOPs, worth {worth:.2f} points; then what it suggests"
        )
    lines.append(f"3. as things stand, end with {world.describe(final)}")
    return "\n".join([*lines, *needs(world, machine)])


def run_spend(world: StudyWorld, budget: float, tell: Callable[[str], None], machine: Machine = NOWHERE) -> Spent:
    """Spend the budget; leaves `spend.json`, `spend.md` and the results table in the world's folder."""
    model = prior_model(world.panel.task, world.panel.model, world.panel.train_params)

    def on_step(step: Step) -> None:
        tell(line(world, step))

    world.out.mkdir(parents=True, exist_ok=True)
    write_atomic(world.out / "config.yaml", dump_yaml({"stage": "study", **world.study.to_dict()}))
    done = spend(world, model, budget, on_step=on_step, scale=calibration("pilot"))
    # Before the table, which without it would be taken for a study's.
    write_atomic(world.out / COURSE, json.dumps(course(world, done, machine), indent=1, ensure_ascii=False))
    write_atomic(world.out / "spend.md", report_text(world, done, machine))
    identity = world.workspace.model_fingerprint(world.study.model)
    write_results(world.study, world.out, list(world.runs.values()), world.zero_shot, identity)
    return done


def course(world: StudyWorld, done: Spent, machine: Machine = NOWHERE) -> dict[str, Any]:
    """The whole course as plain values; scores in the metric's own unit."""
    run = world.runs.get(done.kept)
    return {
        "target": world.target.name,
        "metric": world.metric,
        "budget": done.budget,
        "flops": done.flops,
        "kept": world.describe(done.kept),
        "kept_run": [run.entry.label, run.fraction] if run else None,
        "score": world.unit.back(done.score),
        "p_good": done.p_good,
        "sure": done.sure,
        "level": LEVEL,
        "steps": [_step(world, s) for s in done.steps],
        "what_if": [_what_if(world, w) for w in done.elsewhere],
        "paragraph": paragraph(world, done, machine),
    }


def _step(world: StudyWorld, step: Step) -> dict[str, Any]:
    told = {"what": world.describe(step.row), "score": world.unit.back(step.score)}
    return asdict(step) | told | {"epochs": world.options[step.row].epochs}


def _what_if(world: StudyWorld, w: WhatIf) -> dict[str, Any]:
    entry, fraction, epochs = world.options[w.row]
    low, high = sorted((world.unit.back(w.low), world.unit.back(w.high)))
    return {
        "budget": w.budget,
        "what": world.describe(w.row),
        "method": entry.label if entry else ZERO_SHOT,
        "fraction": fraction,
        "epochs": epochs,
        "expected": world.unit.back(w.expected),
        "low": low,
        "high": high,
        "text": instead(world, w),
    }
