"""What a verb shows of the artifact that it made."""

from __future__ import annotations

from paydirt.artifacts import Artifact
from paydirt.progress import results_console

console = results_console()


def report_artifact(artifact: Artifact) -> None:
    """Say what a stage left, or that there was nothing to do."""
    if artifact.fresh:
        console.print(f"wrote {artifact.path}", markup=False, soft_wrap=True)
    else:
        console.print(f"{artifact.path} is up to date; nothing was done", markup=False, soft_wrap=True)
    for key, value in artifact.notes.items():
        if key != "pool" and (not isinstance(value, dict | list) or len(str(value)) < 200):
            console.print(f"  {key}: {value}", markup=False, soft_wrap=True)
