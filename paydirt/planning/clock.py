"""Who is asked for seconds of this machine: a probe for each model, and what every process takes before its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paydirt.columns.embeddings import resolve_encoder
from paydirt.core.artifacts import cache_root
from paydirt.models.load import ModelConfig
from paydirt.planning.machine import starting
from paydirt.planning.plan import Work
from paydirt.planning.probe import Probe
from paydirt.scoring.base import Job, Scorer
from paydirt.stages import Workspace

SETTLING = 0.05  # seconds that an artifact's digests and manifest take


@dataclass
class Clock:
    """Who is asked for seconds: a probe for each model; none where nothing shall be measured or remembered."""

    space: Workspace
    measure: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        self.probes: dict[str, Probe] = {}

    def of(self, model: ModelConfig, encoder: Any) -> Probe:
        key = f"{model.path} {model.dtype} {model.device} {model.quantization}"
        if key not in self.probes:
            self.probes[key] = Probe(model, encoder, self.cache, self.measure, self.threads)
        return self.probes[key]

    def of_method(self, method: Scorer, model: ModelConfig | None, job: Job) -> Probe | None:
        """Of the selector, or of a sentence encoder that needs none; None where nothing is run that takes FLOPs."""
        if model is not None:
            return self.of(model, job.encoder)
        if method.name == "embed":
            return self.of(ModelConfig(path=str(resolve_encoder(method.encoder)), device=method.device), None)  # type: ignore[attr-defined]
        return None

    @property
    def cache(self) -> Path:
        """The person's cache: what is measured belongs to the machine, not to a study."""
        return cache_root()

    def start(self, models: bool = True) -> dict[str, Any] | None:
        """What a process takes before its work begins: one that runs models, or one that does not."""
        return starting(self.cache, self.measure, models)

    def started(self, works: Sequence[Work]) -> float | None:
        """Seconds that the process of these works takes to start; None where it was not measured."""
        known = self.start(any(work.models for work in works if work.made))
        return None if known is None else float(known["seconds"]) + self.once

    @property
    def once(self) -> float:
        """Seconds that a process takes once for all that was asked of this clock."""
        return max((probe.once for probe in self.probes.values()), default=0.0)

    def with_threads(self, threads: int | None) -> Clock:
        return Clock(self.space, self.measure, threads)


def pool_bytes(pool: Any) -> float:
    """Of the pool's records as they were read, about: the imported file holds turns and records."""
    return float((Path(pool.path) / "pool.arrow").stat().st_size) / 2
