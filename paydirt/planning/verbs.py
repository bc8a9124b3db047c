"""The plan of whatever a call would make: the call runs up to its first artifact that is not there, and no further."""

from __future__ import annotations

from paydirt.core.looking import Look
from paydirt.planning.plan import Plan, Work
from paydirt.planning.stages import Clock, stage_work
from paydirt.planning.study import here
from paydirt.stages import Workspace


def plan_of(look: Look, space: Workspace, measure: bool = False) -> Plan:
    """What a call under `looking` met: artifacts that are there, and those that it would make."""
    clock = Clock(space, measure)
    works = [Work(f"{artifact.manifest['stage']} {artifact.path.name}", 0, 1) for artifact in look.found]
    works += [stage_work(unmade.stage, unmade.config, clock) for unmade in look.unmade]
    known = clock.start()
    start = None if known is None else float(known["seconds"])
    title = "; ".join(str(unmade.out) for unmade in look.unmade) or "nothing to do"
    remarks = tuple(f"{unmade.out} was begun; what is done of it counts" for unmade in look.unmade if unmade.begun)
    return Plan(title, tuple(works), here(clock), start, remarks=remarks)
