"""Every stage by the name that `config.yaml` gives it, so that `paydirt run DIR/config.yaml` makes any artifact again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from paydirt import stages_data as data
from paydirt.core.artifacts import Artifact
from paydirt.core.config import Config
from paydirt.interop.export import ExportStage, run_export
from paydirt.interop.gradient_folders import GradientsStage, run_gradients
from paydirt.interop.published import ImportStage, run_import
from paydirt.stages import STAGES as PIPELINE
from paydirt.stages import Workspace
from paydirt.tasks.responses import GradeStage

STAGES: dict[str, tuple[type[Config], Callable[[Any, Path, Workspace], Artifact]]] = {
    **PIPELINE,
    "decontaminate": (data.DecontaminateStage, data.run_decontaminate),
    "dedup": (data.DedupStage, data.run_dedup),
    "split": (data.SplitStage, data.run_split),
    "tiny-model": (data.TinyStage, data.run_tiny),
    "grade": (GradeStage, data.run_grade),
    "export": (ExportStage, run_export),
    "import-scores": (ImportStage, run_import),
    "import-gradients": (GradientsStage, run_gradients),
}
