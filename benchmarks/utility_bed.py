"""The bed of `utility.py`: a pool, targets and models; from a method to one row, through Paydirt's own stages.

FLOPs are those that were counted (matrix products, as torch counts them), of selecting and of training alike; a budget is
a share of what full gradients were counted at for the same target and selection seed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utility_methods import Entry, Run

from paydirt.core.artifacts import Artifact, fingerprint
from paydirt.core.config import parse
from paydirt.core.seeds import draws, varied
from paydirt.cost.ledger import Ledger
from paydirt.execution import Local
from paydirt.scoring.base import default_policy, make_scorer
from paydirt.scoring.inputs import is_stochastic
from paydirt.selection.select import selected_ids
from paydirt.stages import (
    EvaluateStage,
    ScoreStage,
    SelectStage,
    TrainStage,
    Workspace,
    evaluate,
    predict_score,
    read_result,
    score,
    select,
    train,
)


@dataclass
class Bed:
    """`common` is of every stage: pool, encoding; `right[target]` holds the ids of the skill, and the clean of them."""

    out: Path
    common: dict[str, Any]
    targets: dict[str, dict[str, Any]]
    models: dict[str, Callable[[], str]]
    training: dict[str, Any]
    benchmark: str
    right: dict[str, tuple[set[str], set[str]]]
    entries: dict[str, Entry]
    workspace: Workspace = field(init=False)

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.out / "shared", replace="same stage", executor=Local(workers=1))

    def stage(self, entry: Entry, values: dict[str, Any], target: str, seed: int) -> ScoreStage:
        scorer = varied(make_scorer(values), seed)
        model = {"path": self.models[entry.selector](), "device": "cpu"}
        what = {"target": self.targets[target], "method": scorer, "model": model, "seed": seed}
        return parse(ScoreStage, self.common | what)

    def scores(self, run: Run) -> Artifact:
        """The method's scores; ValueError where its budget cannot be kept to."""
        entry = self.entries[run.method]
        values = entry.values if entry.share is None else self.within(run, entry)
        drawn = draws(made := make_scorer(values)) or is_stochastic(made)
        stage = self.stage(entry, values, run.target, run.selection_seed if drawn else 0)
        tag = "".join(c if c.isalnum() else "-" for c in run.method) + (f"-seed{run.selection_seed}" if drawn else "")
        return score(stage, self.out / "scores" / run.target / tag, self.workspace)

    def within(self, run: Run, entry: Entry) -> dict[str, Any]:
        """The entry's values with a budget, or with as many points as the budget pays for by closed form."""
        assert entry.share is not None
        full = self.scores(run._replace(method="gradient"))
        if entry.values["name"] == "cascade":
            return entry.values | {"budget": entry.share * counted(full)}
        allowed = entry.share * float(full.notes["predicted_flops"])
        low, high = 19, len(self.workspace.pool(self.stage(entry, entry.values, run.target, 0).pool))

        def price(points: int) -> float:
            values = entry.values | {"points": points}
            return predict_score(self.stage(entry, values, run.target, 0), self.workspace).flops

        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if price(middle) <= allowed else (low, middle - 1)
        if low < 20:
            raise ValueError(f"{allowed:.3g} FLOPs pay for fewer than 20 points; they cannot be kept to")
        return entry.values | {"points": low}

    def run(self, run: Run) -> dict[str, Any]:
        """Score, select, train, evaluate; one row."""
        entry = self.entries[run.method]
        scored = self.scores(run)
        policy = entry.policy or default_policy(entry.values["name"])
        cut = {"pool": self.common["pool"], "scores": str(scored.path), "selection": {"policy": policy}}
        cut |= {"budget": {"fraction": run.fraction}}
        name = f"{scored.path.name}-{run.fraction:g}"
        picked = select(parse(SelectStage, cut), self.out / "selections" / run.target / name, self.workspace)
        ids = selected_ids(picked.path)
        place = self.out / "models" / f"{fingerprint(sorted(ids))}-seed{run.training_seed}"
        what = {"selection": str(picked.path), "model": {"path": self.models["model"](), "device": "cpu"}}
        what |= {"training": self.training, "seed": run.training_seed}
        tuned = train(parse(TrainStage, self.common | what), place, self.workspace)
        asked = {"model": {"path": str(tuned.path / "model"), "device": "cpu"}, "target": self.targets[run.target]}
        asked |= {"encoding": self.common["encoding"], "benchmark": self.benchmark}
        done = self.out / "evaluations" / f"{place.name}-{run.target}"
        evaluate(parse(EvaluateStage, asked), done, self.workspace)
        result = read_result(done)
        skill, clean = self.right[run.target]
        return {
            **run._asdict(),
            "score": result.score,
            "loss": result.metrics.get("test_loss", result.metrics.get("loss")),
            "precision": sum(i in skill for i in ids) / len(ids),
            "clean_precision": sum(i in clean for i in ids) / len(ids),
            "examples": len(ids),
            "selection_flops": counted(scored),
            "selection_charged": float(scored.notes["charged_flops"]),
            "training_flops": float(tuned.notes["measured_flops"]),
            "training_charged": float(tuned.notes["predicted_flops"]["architectural"]),
            "scoring_seconds": scored.manifest["seconds"],
            "training_seconds": tuned.manifest["seconds"],
        }


def counted(scored: Artifact) -> float:
    """Counted FLOPs of a selection."""
    return sum(e.measured_flops or 0.0 for e in Ledger(scored.path).entries() if e.stage == "score")


class Rows:
    """Rows of finished runs, and of runs that were refused with the reason, in `<name>.jsonl`."""

    def __init__(self, out: Path, name: str) -> None:
        self.path = out / f"{name}.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def keys(self) -> set[Run]:
        return {Run(*(row[name] for name in Run._fields)) for row in self.rows}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def table(self) -> Path:
        """The same as CSV; returns its path."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        path = self.path.with_suffix(".csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.rows)
        return path
