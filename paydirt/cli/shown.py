"""What every verb shows of the artifact that it made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paydirt.core.artifacts import Artifact
from paydirt.core.progress import results_console
from paydirt.core.units import lines_of_notes

console = results_console()


def say_artifact(artifact: Artifact, notes: Mapping[str, Any] | None = None) -> None:
    """What was made or that there was nothing to do; then its notes (default: the manifest's, in words).

    What became of the pool's records is said at the end of the command, of every pool that it opened.
    """
    state = "wrote {}" if artifact.fresh else "{} is up to date; nothing was done"
    console.print(state.format(artifact.path), markup=False, soft_wrap=True)
    told = {key: value for key, value in artifact.notes.items() if key != "pool"} if notes is None else notes
    for line in lines_of_notes(told):
        console.print(f"  {line}", markup=False, soft_wrap=True)
