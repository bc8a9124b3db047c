"""The contract of a benchmark. Standard benchmarks and the built-in one enter through the same door.

A benchmark is a frozen config with one method: a loaded model, its encoder and the target in, an `EvalResult` out. It
registers itself by name; `paydirt evaluate --benchmark NAME` and the recipe key `evaluation` find it. One that brings
its own items needs no target, says which files it reads (`inputs`), gives their texts for decontamination (`items`) and
may load the model its own way (`load`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from paydirt.core.named import Named, make
from paydirt.core.registry import Registry
from paydirt.core.types import EvalResult, Item, Target
from paydirt.data.encoding import Encoder

if TYPE_CHECKING:
    from paydirt.models.load import ModelConfig
    from paydirt.tasks.references import TargetConfig
    from paydirt.tasks.spending import Expected


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "paydirt.tasks", "paydirt.benchmarks")


class Benchmark(Named):
    """Base of every benchmark."""

    registry: ClassVar = BENCHMARKS
    code_rooms: ClassVar[tuple[str, ...]] = ("paydirt.tasks.harness",)
    """Packages whose code counts, where a benchmark names it, as if it stood in the benchmark's own file."""
    standard: ClassVar[bool] = False
    """Whether it is public, so that its items may be found in pools: studies on it decontaminate by default."""

    def identity(self) -> dict[str, Any]:
        """What decides the outcome: the options, without paths whose content `inputs` fingerprints."""
        return self.to_dict()

    def resolved(self, target: TargetConfig | None) -> Benchmark:
        """The benchmark to run for a target: itself, unless it is one that depends on the target."""
        return self

    def inputs(self) -> dict[str, str]:
        """Fingerprints of files and versions of graders that the result depends on."""
        return {}

    def items(self) -> list[Item]:
        """Texts that a model is tested on, for decontamination; empty where the target holds them (`Target.test`)."""
        return []

    def expect(self, expected: Expected, encoder: Encoder, target: Target | None) -> bool:
        """Tell `expected` what the model will read and write, before it is loaded; False where that is not known."""
        return False

    def load(self, model: ModelConfig) -> Any:
        """What `run` is given as the model."""
        from paydirt.models.load import load_model

        return load_model(model)

    def run(self, model: Any, encoder: Encoder, target: Target | None, out: Path) -> EvalResult:
        """Score a model; a benchmark that has more to tell than its result leaves files in `out`."""
        if target is None:
            raise ValueError(f"benchmark {self.name!r} tests on the target's own examples; give a target")
        return self.evaluate(model, encoder, target)

    def evaluate(self, model: Any, encoder: Encoder, target: Target) -> EvalResult:
        """Score a loaded model in evaluation mode; the model comes back unchanged."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate or run")


def make_benchmark(values: Any) -> Any:
    """A benchmark from `{name: ..., option: ...}` or a bare name."""
    return make(BENCHMARKS, values)


BenchmarkField = Annotated[SerializeAsAny[Benchmark], BeforeValidator(make_benchmark)]
