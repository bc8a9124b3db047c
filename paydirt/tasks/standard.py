"""Each target's own standard benchmark: what a study of several targets evaluates on.

`evaluation: {name: standard, limit: 40}` tests the target mmlu on MMLU, bbh on BBH, with the same options.
"""

from __future__ import annotations

from typing import Any, ClassVar

from paydirt.core.types import Target
from paydirt.tasks.benchmark import BENCHMARKS, Benchmark, make_benchmark
from paydirt.tasks.harness.benchmark import FormedBenchmark
from paydirt.tasks.references import TargetConfig

OWN = ("mmlu", "bbh", "tydiqa", "ifeval")


class Standard(FormedBenchmark):
    """The benchmark that is called like the target."""

    name: ClassVar[str] = "standard"

    def resolved(self, target: TargetConfig | None) -> Benchmark:
        if target is None or target.name not in OWN:
            given = "no target is given" if target is None else f"{target.name!r} has none"
            raise ValueError(
                f"benchmark 'standard' is the target's own, and {given}; targets that have: {', '.join(OWN)}"
            )
        values = self.model_dump(exclude_defaults=True)
        known = BENCHMARKS.get(target.name).model_fields
        made: Benchmark = make_benchmark({"name": target.name, **{k: v for k, v in values.items() if k in known}})
        return made.resolved(target)

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        raise ValueError("benchmark 'standard' must be resolved for a target first")

    def files(self) -> list[Any]:
        raise ValueError("benchmark 'standard' must be resolved for a target first")
