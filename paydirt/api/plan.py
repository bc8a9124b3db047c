"""What a call or a recipe would take, before it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paydirt.api.calls import PathLike, spoken, workspace
from paydirt.api.study import place_of, read_recipe
from paydirt.core.artifacts import refuse_artifact
from paydirt.core.looking import Unmade, looking
from paydirt.planning.plan import Plan
from paydirt.planning.study import study_plan
from paydirt.planning.verbs import plan_of
from paydirt.study import recipe as recipes


@spoken
def plan(
    what: PathLike | Mapping[str, Any] | recipes.Study | Callable[..., Any],
    *arguments: Any,
    hardware: str | None = None,
    devices: int = 1,
    utilisation: float | None = None,
    probe: bool = True,
    **options: Any,
) -> Plan:
    """FLOPs, time, peak memory, disk and artifacts of a recipe, or of a call: `pay.plan(pay.score, pool, target, "rds")`.

    Time is that of this machine, measured where no plan before has (half a minute, once; `probe=False` does not), or of
    `devices` of a named `hardware`. Raises ValueError as the call itself would.
    """
    if callable(what):
        with looking() as look, suppress(Unmade):  # it is in `look`
            what(*arguments, **options)
        found = plan_of(look, workspace(None, False), probe and hardware is None)
    else:
        study = read_recipe(what)
        place = options.pop("out", None)
        if arguments or options:
            raise ValueError(f"a recipe is planned with `out` alone, not with {', '.join(options) or arguments}")
        folder = Path(os.fspath(place)).expanduser() if place is not None else place_of(study)
        refuse_artifact(folder)
        found = study_plan(study, folder, probe and hardware is None)
    return found if hardware is None else found.on(hardware, devices, utilisation)
