"""The plan of whatever a call would make: the call runs up to its first artifact that is not there, and no further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paydirt.core.config import Config, parse
from paydirt.core.looking import Look
from paydirt.planning.clock import Clock
from paydirt.planning.plan import Plan, Work
from paydirt.planning.stages import evaluate_work, score_work, select_work, train_work
from paydirt.planning.study import here
from paydirt.planning.trials import plain_work
from paydirt.replay import STAGES
from paydirt.stages import Workspace

WORKS: dict[str, Callable[..., Work]] = {
    "score": score_work,
    "select": select_work,
    "train": train_work,
    "evaluate": evaluate_work,
}


def plan_of(look: Look, space: Workspace, measure: bool = False) -> Plan:
    """What a call under `looking` met: artifacts that are there, and those that it would make."""
    clock = Clock(space, measure)
    works = [Work(f"{artifact.manifest['stage']} {artifact.path.name}", 0, 1) for artifact in look.found]
    works += [stage_work(unmade.stage, unmade.config, clock) for unmade in look.unmade]
    start = clock.started(works)
    title = "; ".join(str(unmade.out) for unmade in look.unmade) or "nothing to do"
    remarks = tuple(f"{unmade.out} was begun; what is done of it counts" for unmade in look.unmade if unmade.begun)
    return Plan(title, tuple(works), here(clock), start, remarks=remarks)


def stage_work(stage: str, config: Config | dict[str, Any], clock: Clock) -> Work:
    """The work of any stage by its name."""
    if isinstance(config, dict):
        config = parse(STAGES[stage][0], config, where=stage)
    return WORKS[stage](config, clock) if stage in WORKS else plain_work(stage, config, clock)
