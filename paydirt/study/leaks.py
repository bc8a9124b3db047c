"""A study's pool without the items that the study tests on: before anything is scored, and never silently."""

from __future__ import annotations

from pathlib import Path

from paydirt.core.artifacts import Artifact
from paydirt.core.progress import say
from paydirt.core.types import Item
from paydirt.data.curate.decontaminate import decontaminate, reference_items
from paydirt.data.subset import read_config
from paydirt.stages import Workspace
from paydirt.stages_data import DecontaminateStage
from paydirt.study.recipe import Study


def without_leaks(study: Study, out: Path, workspace: Workspace) -> tuple[Study, Artifact | None]:
    """The study on its clean pool, and the report in `out/decontamination`; the same study where it is switched off."""
    if not study.decontaminated:
        if study.evaluation.standard:
            say(f"{study.name}: not decontaminated (decontaminate: false), though it is tested on a standard benchmark")
        return study, None
    items: dict[str, Item] = {}
    for target in study.targets:
        loaded = workspace.target(target)
        tested = study.evaluation.resolved(target).items()
        if not tested and not loaded.test:
            say(
                f"{study.name}: the items that {target.name} is tested on are not known here; only references are looked for"
            )
        for item in [*tested, *reference_items(loaded)]:
            items[item.id] = item
    pool = workspace.pool(study.pool)
    told = DecontaminateStage(
        pool=study.pool, settings=study.decontamination, targets=study.targets, evaluation=study.evaluation
    )
    place = out / "decontamination"
    made = decontaminate(
        pool, study.pool, list(items.values()), study.decontamination, place, told.to_dict(), workspace.replace
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in made.notes["by_kind"].items())
    say(
        f"{study.name}: {made.notes['excluded']} of {len(pool)} examples hold items of what is tested, or references, and "
        f"are left out ({kinds}); see {made.path / 'matches.jsonl'}"
    )
    return study.model_copy(update={"pool": read_config(made.path)}), made
