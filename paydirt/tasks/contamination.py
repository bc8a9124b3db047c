"""What must not be in a pool: the items of standard benchmarks, and the references of targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paydirt.core.types import Item
from paydirt.data.curate.decontaminate import reference_items
from paydirt.tasks.benchmark import make_benchmark
from paydirt.tasks.references import TARGETS, TargetConfig, load_target


def items_against(
    names: Sequence[str],
    data: str | None,
    files: Sequence[str] = (),
    split: str = "train",
    columns: Mapping[str, str] | None = None,
) -> list[Item]:
    """Evaluation items and references of the benchmarks `names`, and the examples of `files`, read as a target's are.

    ValueError for an unknown benchmark, or one whose files `data` does not hold.
    """
    found: list[Item] = []
    for name in names:
        benchmark = make_benchmark({"name": name, "data": data})
        found += benchmark.items()
        if name in TARGETS.names():
            found += reference_items(load_target(TargetConfig(name=name, data=data)))
    for number, path in enumerate(files):
        config = TargetConfig(name=f"file{number + 1}", references=path, split=split, columns=dict(columns or {}))
        found += reference_items(load_target(config))
    return found
