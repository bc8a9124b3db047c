"""A selection: the part of a pool that a budget buys by finished scores, best first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from paydirt import stages
from paydirt.analysis.overlap import Overlap, overlaps
from paydirt.api.calls import PathLike, place, plain, spoken, workspace
from paydirt.api.made import Made
from paydirt.api.scores import Scores
from paydirt.api.tables import Tabular, dataset
from paydirt.core.artifacts import Artifact, Replace, reading
from paydirt.core.config import parse
from paydirt.data.pool import PoolConfig
from paydirt.interop.order import Turns
from paydirt.selection.combine import Combine
from paydirt.selection.curriculum import Curriculum
from paydirt.selection.policies.base import POLICIES, Policy
from paydirt.selection.scores import Across, Statistic
from paydirt.selection.select import selected_ids
from paydirt.stages import SelectStage

if TYPE_CHECKING:
    import datasets


class Selection(Made, Tabular):
    """Chosen examples in rank order. `path` is the artifact of a select stage."""

    stage = "select"

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.ids = selected_ids(artifact.path)

    @cached_property
    def scores(self) -> Scores:
        """What it was chosen by."""
        return Scores.open(self.config["scores"])

    @property
    def pool(self) -> PoolConfig:
        """How to read the pool that it was chosen of."""
        return parse(PoolConfig, self.config["pool"], where=str(self.path))

    def __len__(self) -> int:
        return len(self.ids)

    def records(self) -> Iterator[dict[str, Any]]:
        """The pool's own records with every field, best first."""
        with open(self.path / "selection.jsonl", encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    @spoken
    def to_dataset(self) -> datasets.Dataset:
        """The records as a `datasets.Dataset`, best first."""
        return dataset(self.records())

    @spoken
    def to_arrow(self) -> pa.Table:
        """Every example of the pool with its score and rank; the rank is null for what was not chosen."""
        with reading(self.path, "scores.parquet"):
            return pq.read_table(self.path / "scores.parquet")

    @spoken
    def export(
        self,
        out: PathLike,
        *,
        name: str | None = None,
        weight: float | None = None,
        turns: Turns = "repair",
        study: PathLike | None = None,
        to_hub: str | None = None,
        public: bool = False,
        force: bool = False,
    ) -> Path:
        """Add it to the folder `out` for TRL, axolotl, LLaMA-Factory and open-instruct, with a receipt; returns `out`.

        `weight` is its share in a mixture with other exports there, `study` says what was gained over random data, `to_hub`
        uploads the folder as that data set. Raises ValueError as `paydirt export` does.
        """
        from paydirt.interop.export import export
        from paydirt.interop.hub import push

        kept: Replace = "anything" if force else "nothing"
        made = export(self.path, Path(out), name, None, kept, weight, turns, Path(study) if study else None)
        if to_hub:
            push(made.path, to_hub, public)
        return made.path

    @spoken
    def overlap(self, other: Selection) -> Overlap:
        """How many of this one's best are in the other, both cut to the shorter one's length; what chance would share.

        Raises ValueError for selections of different pools.
        """
        if self.artifact.manifest["inputs"]["pool"] != other.artifact.manifest["inputs"]["pool"]:
            raise ValueError(
                "these selections are of different pools, so their overlap says nothing; score one pool twice"
            )
        ours, theirs = self.label, other.label
        names = (ours, theirs) if ours != theirs else (f"{ours} (1)", f"{theirs} (2)")
        whole = self.to_arrow().num_rows
        rankings = [list(dict.fromkeys(selection.ids)) for selection in (self, other)]  # a policy may repeat examples
        share = min(map(len, rankings)) / whole
        return overlaps(dict(zip(names, rankings)), [share], pool_size=whole)[0]

    @property
    def label(self) -> str:
        """Method and policy."""
        return f"{self.scores.method}-{self.config['selection']['policy']['name']}"

    def __repr__(self) -> str:
        share = self.notes["fraction"]
        return f"Selection({len(self)} examples, {share:.3g} of the pool by {self.label}; {self.path})"


@spoken
def select(
    scores: Scores | Sequence[Scores],
    *,
    fraction: float | str | None = None,
    count: int | None = None,
    tokens: int | None = None,
    words: int | None = None,
    flops: float | None = None,
    flops_per_token: float | None = None,
    policy: Policy | str | Mapping[str, Any] | None = None,
    within: Statistic | None = None,
    across: Across | None = None,
    weights: Sequence[float] | None = None,
    combine: Combine | None = None,
    curriculum: Curriculum | None = None,
    difficulty: PathLike | None = None,
    seed: int = 0,
    out: PathLike | None = None,
    force: bool = False,
) -> Selection:
    """Choose a part of the pool by finished scores: give exactly one budget.

    `policy` orders the pool (default: the method's own); `within` and `across` change how similarities become one score.
    Several scores of one pool are several targets: `weights` has a number for each, `combine` is `turns` or `ranks`.
    `curriculum` is the order to train in, `difficulty` the finished scores that `easy_first` goes by.
    Raises ValueError as `paydirt select` does.
    """
    if isinstance(policy, str):
        POLICIES.get(policy)  # a name is refused as such, not as a part of a config
    budget = {"fraction": fraction, "count": count, "tokens": tokens, "words": words, "flops": flops}
    reduction = {key: value for key, value in (("within", within), ("across", across)) if value}
    scores, *others = [scores] if isinstance(scores, Scores) else scores
    weight, *more = weights or [1.0] * (1 + len(others))
    if len(more) != len(others):
        raise ValueError(f"weights: {1 + len(more)} for {1 + len(others)} targets; give one for each, or none")
    values = {
        "pool": scores.config["pool"],
        "scores": str(scores.path),
        "weight": weight,
        "others": [{"scores": str(other.path), "weight": own} for other, own in zip(others, more)],
        "selection": {
            "policy": plain(policy) if isinstance(policy, Mapping) else policy,
            "reduction": reduction or None,
            "curriculum": curriculum,
            "difficulty": str(difficulty) if difficulty else None,
            **({"combine": combine} if combine else {}),
        },
        "budget": {key: value for key, value in budget.items() if value is not None},
        "seed": seed,
        "flops_per_token": flops_per_token,
    }
    stage = parse(SelectStage, values, where="select")
    return Selection(stages.select(stage, place("selections", out), workspace(out, force)))
