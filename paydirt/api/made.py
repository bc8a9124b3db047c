"""What a call hands back: an artifact of one stage, with its place, its config and what its stage counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

from paydirt.api.calls import PathLike, spoken
from paydirt.core.artifacts import Artifact, open_artifact

M = TypeVar("M", bound="Made")


class Made:
    """A finished artifact of the stage `stage`, under `path`."""

    stage: ClassVar[str]

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @classmethod
    @spoken
    def open(cls: type[M], path: PathLike) -> M:
        """A finished one, whoever made it: this API, the command or a study."""
        return cls(open_artifact(Path(path).absolute(), cls.stage))

    @property
    def path(self) -> Path:
        return self.artifact.path

    @property
    def config(self) -> dict[str, Any]:
        """All that made it, as `config.yaml` holds it."""
        return self.artifact.config

    @property
    def notes(self) -> dict[str, Any]:
        """What the stage counted: cost, tokens, what was cut or left out."""
        return self.artifact.notes
