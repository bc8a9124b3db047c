"""The contract of a benchmark. Standard benchmarks and the built-in one enter through the same door.

A benchmark is a frozen config with one method: a loaded model, its encoder and the target in, an `EvalResult` out. It
registers itself by name; `paydirt evaluate --benchmark NAME` and the recipe key `evaluation` find it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from paydirt.config import Config, parse
from paydirt.data.encoding import Encoder
from paydirt.registry import Registry
from paydirt.types import EvalResult, Target


class Benchmark(Config):
    """Base of every benchmark."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            BENCHMARKS.add(cls.name, cls)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, **super().to_dict()}

    def evaluate(self, model: Any, encoder: Encoder, target: Target) -> EvalResult:
        """Score a loaded model in evaluation mode; the model comes back unchanged."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate")


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "paydirt.evaluation")


def make_benchmark(values: Any) -> Any:
    """A benchmark from `{name: ..., option: ...}` or a bare name."""
    if isinstance(values, Benchmark):
        return values
    if isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, dict) or "name" not in values:
        raise ValueError("a benchmark is a name, or a mapping with the key 'name' and its options")
    cls = BENCHMARKS.get(str(values["name"]))
    return parse(cls, {k: v for k, v in values.items() if k != "name"}, where=f"benchmark {values['name']}")


BenchmarkField = Annotated[SerializeAsAny[Benchmark], BeforeValidator(make_benchmark)]
