"""`paydirt spend`: a recipe and a budget in, the sequence of a careful engineer out, over the ordinary stages.

The policy is `paydirt.analysis.spending`; here its world is real. An option is a method of the recipe at a size;
running it scores the pool (once a method), selects, trains one model and evaluates it. Prices are the closed forms that
`--dry-run` prints, corrected per method by what its first run really read; a selection whose texts are longer than
foreseen is cut until it fits, so that the ledger never passes the budget. Selecting and training count, as everywhere
here; evaluation is shown apart.

A killed run is started again with the same command: finished stages are found, are charged the same, and the policy,
which is seeded, takes the same course.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.analysis.points import Points, ask
from paydirt.analysis.prior import prior_model
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Panel
from paydirt.analysis.spending import Spent, Step, opening, spend
from paydirt.core.artifacts import write_atomic
from paydirt.models.load import architecture_of
from paydirt.selection.budget import Budget
from paydirt.selection.select import taken_ids
from paydirt.stages import Workspace, evaluate, predict_score, read_result, score, select, train
from paydirt.study.leaks import without_leaks
from paydirt.study.recipe import MethodEntry, Study
from paydirt.study.steps import evaluate_stage, score_stage, select_stage, train_stage, tuned
from paydirt.tasks import TargetConfig
from paydirt.training.config import predict_training_cost

FEWEST = 16  # examples of the smallest pilot


@dataclass(eq=False)
class StudyWorld:
    """What a recipe lets one run on one target; `paydirt.analysis.spending.World`."""

    study: Study
    target: TargetConfig
    out: Path
    workspace: Workspace
    entries: list[MethodEntry | None] = field(default_factory=list)  # [N], None: zero-shot
    fractions: list[float] = field(default_factory=list)  # [N]
    correction: dict[str, float] = field(default_factory=dict)
    unit: float = 1.0

    def __post_init__(self) -> None:
        tokens = self.workspace.tokens(self.study.pool, self.study.model, self.study.encoding)
        self.count, self.total = len(tokens), float(tokens.total)
        self.architecture = architecture_of(self.study.model)
        smallest = min(self.study.fractions)
        small = [smallest / k for k in (4, 2) if smallest / k * self.count >= FEWEST]
        self.entries, self.fractions = [None], [0.0]
        methods = [e for e in self.study.methods if e.scorer.name not in CEILINGS]
        for entry in methods:
            for f in [*small, *self.study.fractions]:
                # The whole pool is one option under any name, and cheapest as random.
                if f < 0.999 or entry.scorer.name == "random":
                    self.entries.append(entry)
                    self.fractions.append(f)
        self.selection = {
            e.label: predict_score(
                score_stage(self.study, self.target, e.scorer, self.study.seeds[0]), self.workspace
            ).flops
            for e in methods
        }
        self.panel = Panel(self.target.name, Path(self.study.model.path).name, float(self.architecture.parameters))
        names = [e.label if e else ZERO_SHOT for e in self.entries]
        self._at = ask(self.panel, names, self.fractions, pool=float(self.count))
        self._label = np.array(names, dtype=object)

    @property
    def at(self) -> Points:
        return self._at

    @property
    def label(self) -> np.ndarray:
        return self._label

    def describe(self, row: int | None) -> str:
        if row is None or row < 0:
            return "nothing"
        return (
            str(self.label[row])
            if self.fractions[row] == 0
            else f"{self.label[row]} at {self.fractions[row]:.2%} of the pool"
        )

    def price(self, row: int, paid: frozenset[str]) -> float:
        """Closed forms: the selection where it is not paid, and the training, at the pool's mean length or as corrected."""
        entry = self.entries[row]
        if entry is None:
            return 0.0
        longer = self.correction.get(entry.label, 1.0)
        training = self._training(self.fractions[row] * self.total * longer, self.fractions[row] * self.count)
        return training + (0.0 if entry.label in paid else self.selection[entry.label])

    def _training(self, tokens: float, examples: float) -> float:
        return predict_training_cost(
            self.study.training, self.architecture, tokens, examples, self.study.convention
        ).flops

    def run(self, row: int, paid: frozenset[str], left: float) -> tuple[float, float]:
        """Score, select, train, evaluate; (score in percent, FLOPs charged)."""
        entry = self.entries[row]
        if entry is None:
            value = self._evaluate(None, "zero-shot")
            self.unit = 100.0 if abs(value) <= 1 else 1.0
            return value * self.unit, 0.0
        seed = self.study.seeds[0]
        scoring = score_stage(self.study, self.target, entry.scorer, seed)
        scored = score(scoring, self.out / "scores" / entry.label, self.workspace)
        charged = 0.0 if entry.label in paid else float(scored.notes["charged_flops"])
        budget = Budget(fraction=self.fractions[row])
        chosen, tokens, examples = self._cut(entry, scored.path, budget)
        price = self._training(tokens, examples)
        self.correction[entry.label] = tokens / examples / (self.total / self.count)
        while price > left - charged and tokens > 1:
            tokens *= min(0.98 * max(left - charged, 0.0) / price, 0.98)
            chosen, tokens, examples = self._cut(entry, scored.path, Budget(tokens=max(int(tokens), 1)))
            price = self._training(tokens, examples)
        trained = train(train_stage(self.study, chosen, seed), self.out / "models" / chosen.name, self.workspace)
        charged += float(trained.notes["predicted_flops"][self.study.convention])
        return self._evaluate(trained.path, chosen.name) * self.unit, charged

    def _cut(self, entry: MethodEntry, scores: Path, budget: Budget) -> tuple[Path, float, int]:
        """(selection, its tokens under the train model, its examples)."""
        cut = select_stage(self.study, entry, scores, budget, self.study.seeds[0])
        place = self.out / "selections" / f"{entry.label}-{budget.label}"
        chosen = select(cut, place, self.workspace).path
        store = self.workspace.tokens(self.study.pool, self.study.model, self.study.encoding)
        rows = self.workspace.pool(self.study.pool).rows_of(taken_ids(chosen))
        return chosen, float(store.lengths[rows].sum()), len(rows)

    def _evaluate(self, trained: Path | None, name: str) -> float:
        model = tuned(self.study, trained) if trained else self.study.model
        place = self.out / "evaluations" / name
        evaluate(evaluate_stage(self.study, model, self.target), place, self.workspace)
        return float(read_result(place).score)


def open_world(study: Study, target: str | None, out: Path) -> StudyWorld:
    """The recipe's world on one target; ValueError where the recipe has several and none is named."""
    names = [t.name for t in study.targets]
    if target is None and len(names) > 1:
        raise ValueError(
            f"the recipe has {len(names)} targets, {', '.join(names)}; a budget is spent on one: choose with --target"
        )
    found = [t for t in study.targets if t.name == (target or names[0])]
    if not found:
        raise ValueError(f"no target {target!r} in the recipe; it has {', '.join(names)}")
    workspace = Workspace(out / "shared", replace="same stage")
    study, _ = without_leaks(study, out, workspace)
    return StudyWorld(study, found[0], out, workspace)


def plan_text(world: StudyWorld, budget: float) -> str:
    """The opening plan, without running anything."""
    model = prior_model(world.panel.task, world.panel.model, world.panel.train_params)
    pilot, final = opening(world, model, budget)
    lines = [f"budget {budget:.3g} FLOPs; one pass over the pool costs {world._training(world.total, world.count):.3g}",
             "1. evaluate the untuned model: no FLOPs of the budget"]  # fmt: skip
    if pilot is None:
        lines.append("2. no pilot is worth its cost as things stand")
    else:
        row, worth, flops = pilot
        lines.append(
            f"2. pilot: {world.describe(row)}, {flops:.3g} FLOPs, worth {worth:.2f} points; then what it suggests"
        )
    return "\n".join([*lines, f"3. as things stand, end with {world.describe(final)}"])


def run_spend(world: StudyWorld, budget: float, tell: Callable[[str], None]) -> Spent:
    """Spend the budget; leaves `spend.json` and `spend.md` in the world's folder."""
    model = prior_model(world.panel.task, world.panel.model, world.panel.train_params)

    def on_step(step: Step) -> None:
        tell(_line(world, step))

    done = spend(world, model, budget, on_step=on_step)
    rows: list[dict[str, Any]] = [asdict(s) for s in done.steps]
    kept = world.describe(done.kept)
    write_atomic(world.out / "spend.json", json.dumps({
        "target": world.target.name, "budget": budget, "flops": done.flops, "kept": kept, "score": done.score / world.unit,
        "steps": rows,
    }, indent=1))  # fmt: skip
    write_atomic(world.out / "spend.md", report_text(world, done))
    return done


def _line(world: StudyWorld, step: Step) -> str:
    return (f"{step.kind}: {world.describe(step.row)} scored {step.score / world.unit:.4g} for {step.flops:.3g} FLOPs, "
            f"{step.left:.3g} left ({step.reason})")  # fmt: skip


def report_text(world: StudyWorld, done: Spent) -> str:
    """What was done and why, what was spent, and what other budgets would buy, as Markdown."""
    lines = [f"# {done.budget:.3g} FLOPs on {world.target.name}", "", *(f"1. {_line(world, s)}" for s in done.steps), "",
             f"Kept: {world.describe(done.kept)}, score {done.score / world.unit:.4g}. Spent {done.flops:.4g} of "
             f"{done.budget:.4g} FLOPs."]  # fmt: skip
    for other, row in done.elsewhere:
        lines.append(f"With {other:.3g} FLOPs and what is known now: {world.describe(row)}.")
    return "\n".join([*lines, ""])
