"""Any file in a pool form as a target: each record a reference, its `subtask` (if it has one) the group it counts in.

A file without `subtask` makes one subtask, called like the target. A file where only some records have one is taken for
a mistake. A record's `opening`, a beginning of its answer, is given and not supervised; `end: false` leaves out the
end-of-sequence mark. Without them all of the answer and its end are supervised. A reference may be a prompt alone: methods
that read no answers take it, the others say what they lack.
"""

from __future__ import annotations

from typing import Any

from paydirt.core.types import Example
from paydirt.tasks.references import Reference, TargetConfig, TargetLoader, examples_with_form


class JsonlTarget(TargetLoader):
    """References from `config.references`, whatever the target is called."""

    name = "jsonl"

    def references(self, config: TargetConfig) -> list[Reference]:
        if config.references is None:
            raise ValueError(f"target {config.name!r}: give `references`, a file of examples in a pool form")
        found = examples_with_form(config.references, False, config.split, config.columns)
        if all(record.get("subtask") in (None, "") for _, record in found):
            return [(example, config.name) for example, _ in found]
        return [(example, _subtask(config, example, record)) for example, record in found]


def _subtask(config: TargetConfig, example: Example, record: dict[str, Any]) -> str:
    subtask = record.get("subtask")
    if subtask in (None, ""):
        raise ValueError(
            f"{config.references}: reference {example.id!r} has no `subtask` though others have; give all one, or none"
        )
    return str(subtask)
