"""The skill to select for: references of one's own, or those of a known benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paydirt.api import records as memory
from paydirt.api.calls import PathLike, spoken
from paydirt.core import types
from paydirt.core.config import parse
from paydirt.data.columns import check_columns, mapped
from paydirt.data.lines import BadRecord
from paydirt.data.readers import read_rows
from paydirt.scoring.inputs import target_fingerprint
from paydirt.stages import Workspace
from paydirt.tasks import TargetConfig, load_target

SUPERVISION = ("opening", "end")  # fields of a reference that say what of its answer is learnt


class Target:
    """Reference examples, each of a subtask, and perhaps examples to test on. `path` is the file or folder they are in."""

    @spoken
    def __init__(self, config: TargetConfig) -> None:
        self.config = config
        self._target = load_target(config)

    @classmethod
    @spoken
    def from_records(
        cls,
        examples: Any,
        *,
        name: str,
        test: Any = None,
        columns: Mapping[str, str] | None = None,
        limit_per_subtask: int | None = None,
        split: str = "all",
    ) -> Target:
        """References from a `datasets.Dataset`, a list of dicts, a DataFrame or one file, in any form of a pool.

        A field `subtask` groups them; `test` holds examples to evaluate on, none of them a reference. `columns` maps
        names as a pool's do; `split` is that of a DatasetDict. References may be prompts without answers, for methods
        that read no answers (bm25, dsir, embed, rds). Raises ValueError as `paydirt score` does.
        """
        values = {
            "references": _file(memory.splits(examples, split), name, columns),
            "limit_per_subtask": limit_per_subtask,
        }
        values["test"] = None if test is None else _file(test, f"{name}-test", columns)
        return cls(parse(TargetConfig, {"name": name, **values}, where="target"))

    def opened(self, workspace: Workspace) -> types.Target:
        """The references as the stages see them; ValueError where the files have changed since this target was made."""
        now = workspace.target(self.config)
        if target_fingerprint(now) != target_fingerprint(self._target) or now.test != self._target.test:
            raise ValueError(
                f"{self.path}: changed since the target {self.name!r} was made of it; make the target again"
            )
        return now

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def path(self) -> Path:
        return Path(self.config.references or self.config.data or ".")

    @property
    def references(self) -> tuple[types.Example, ...]:
        return self._target.references

    @property
    def test(self) -> tuple[types.Example, ...]:
        return self._target.test

    @property
    def subtasks(self) -> tuple[str, ...]:
        return self._target.subtasks

    def __len__(self) -> int:
        return len(self.references)

    def __repr__(self) -> str:
        tested = f", {len(self.test)} to test on" if self.test else ""
        return f"Target({self.name}: {len(self)} references of {len(self.subtasks)} subtasks{tested}; {self.path})"


@spoken
def task(
    name: str,
    data: PathLike,
    *,
    form: str | None = None,
    test: PathLike | None = None,
    limit_per_subtask: int | None = None,
) -> Target:
    """A known benchmark as a target: `mmlu`, `bbh`, `tydiqa`, `ifeval`, or a plugin's; `data` in the LESS layout."""
    values = {"name": name, "data": str(data), "form": form, "test": None if test is None else str(test)}
    return Target(parse(TargetConfig, {**values, "limit_per_subtask": limit_per_subtask}, where="target"))


def _file(examples: Any, name: str, columns: Mapping[str, str] | None) -> str:
    """One file of examples, as it is or written of what is in memory or has other names."""
    if memory.is_path(examples):
        (path, *others) = memory.paths(examples) if not isinstance(examples, Mapping) else [*examples.values()]
        if others:
            raise ValueError(f"target {name!r}: give one file of examples, not {1 + len(others)}")
        if not columns:
            return str(path)
        examples = [row.record for row in read_rows(str(path))]
    if columns:
        check_columns(columns, "auto")
        examples = [_mapped(number, record, columns) for number, record in enumerate(memory.rows(examples))]
    return str(memory.written(examples, name))


def _mapped(number: int, record: Any, columns: Mapping[str, str]) -> dict[str, Any]:
    try:
        if isinstance(record, BadRecord):
            raise record
        return {**{key: record[key] for key in SUPERVISION if key in record}, **mapped(record, columns)[0]}
    except BadRecord as fault:
        raise ValueError(f"reference {number}: {fault}") from None
