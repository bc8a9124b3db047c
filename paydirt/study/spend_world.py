"""What a recipe lets a budget buy on one target: the options of `paydirt spend`, their prices, and running one for real.

An option is a method of the recipe at a share of the pool, trained for the recipe's epochs. Beside them stand: the untuned
model; Random and the whole pool, whatever the recipe lists; the whole pool twice as long, for budgets that exceed one
training on everything; and, for pilots alone, smaller shares and a single epoch of several. A training of fewer epochs is
believed to be worth one on as many fewer examples (no published run tests that), and neither is offered below `FEWEST`
examples, where no published curve says anything.

Prices are the closed forms that `--dry-run` prints. After a method's first run its later trainings are priced by the
lengths that it really chose; texts longer than foreseen are cut until they fit, so that the ledger never passes the budget.
Places are those of a study (`study.run`), so that equal trainings are one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paydirt.analysis.evidence import Unit
from paydirt.analysis.kernels import FEWEST
from paydirt.analysis.names import lower_is_better
from paydirt.analysis.points import Points, ask
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Panel
from paydirt.models.load import architecture_of
from paydirt.selection.budget import Budget
from paydirt.selection.select import taken_ids
from paydirt.stages import Workspace, evaluate, predict_score, read_result, score, select, train
from paydirt.study.recipe import MethodEntry, Study, make_entry
from paydirt.study.results import Run
from paydirt.study.run import cut_place, evaluation_place, score_place, train_place
from paydirt.study.steps import evaluate_stage, score_stage, tuned
from paydirt.tasks import TargetConfig
from paydirt.training.config import predict_training_cost

PER_DECADE = 10  # sizes offered beside the recipe's, so that what is left is put to use
WHOLE = 0.999


class Option(NamedTuple):
    """A method (None: the untuned model) at a share of the pool, for so many epochs."""

    entry: MethodEntry | None
    fraction: float
    epochs: float


@dataclass(eq=False)
class StudyWorld:
    """A recipe on one target; `paydirt.analysis.spending.World`. `runs` are what was run, as the results table has it."""

    study: Study
    target: TargetConfig
    out: Path
    workspace: Workspace
    fewest: float = FEWEST
    options: list[Option] = field(default_factory=list)  # [N]
    runs: dict[int, Run] = field(default_factory=dict)  # by row
    unit: Unit = field(default_factory=Unit)
    metric: str = ""

    def __post_init__(self) -> None:
        tokens = self.workspace.tokens(self.study.pool, self.study.model, self.study.encoding)
        self.count, self.total = len(tokens), float(tokens.total)
        self.architecture = architecture_of(self.study.model)
        methods = [e for e in self.study.methods if e.scorer.name not in CEILINGS]
        if not any(e.scorer.name == "random" for e in methods):
            methods.insert(0, MethodEntry.model_validate(make_entry("random")))
        self.options = [Option(None, 0.0, 0.0), *(o for e in methods for o in self._of(e))]
        self.selection = {
            e.label: predict_score(
                score_stage(self.study, self.target, e.scorer, self.study.seeds[0]), self.workspace
            ).flops
            for e in methods
        }
        self._longer: dict[str, tuple[float, float]] = {}  # by method: share it ran at, its tokens over the mean's
        self.panel = Panel(self.target.name, Path(self.study.model.path).name, float(self.architecture.parameters))
        names = [o.entry.label if o.entry else ZERO_SHOT for o in self.options]
        epochs = self.study.training.epochs
        # Whole multiples of the pool are further epochs, as in published tables; fewer epochs are fewer examples seen.
        seen = [o.fraction * o.epochs / epochs for o in self.options]
        shares = [max(o.fraction, s) if o.fraction >= WHOLE else o.fraction for o, s in zip(self.options, seen)]
        at = ask(self.panel, names, shares, pool=float(self.count))
        self._at = Points(*(np.array(seen) * self.count if n == "n" else getattr(at, n) for n in Points.__slots__))
        self._label = np.array(names, dtype=object)

    def _of(self, entry: MethodEntry) -> list[Option]:
        epochs, asked = self.study.training.epochs, self.study.fractions
        smallest = min(asked)
        grid = [10 ** (-k / PER_DECADE) for k in range(1 + int(-np.log10(smallest) * PER_DECADE + 1e-9))]
        sizes = sorted({*asked, *(g for g in grid if not any(abs(g / f - 1) < 0.1 for f in asked))})
        small = [smallest / k for k in (4, 2) if smallest / k * self.count >= self.fewest]
        found = [Option(entry, f, epochs) for f in (*small, *sizes) if f < WHOLE]
        if epochs >= 2:
            found += [Option(entry, f, 1.0) for f in asked if f < WHOLE and f * self.count / epochs >= self.fewest]
        if entry.scorer.name == "random":  # the whole pool is one option under any name
            found += [Option(entry, 1.0, epochs), Option(entry, 1.0, 2 * epochs)]
        return found

    @property
    def at(self) -> Points:
        return self._at

    @property
    def label(self) -> np.ndarray:
        return self._label

    @property
    def pilot(self) -> np.ndarray:
        """The recipe's sizes, smaller ones, fewer epochs: methods compared at few sizes; those between are for the end."""
        usual, asked = self.study.training.epochs, self.study.fractions
        mine = [o.fraction in asked or o.fraction < min(asked) or o.epochs < usual for o in self.options]
        return np.array(mine) & (self.at.x > 0)

    def describe(self, row: int | None) -> str:
        if row is None or row < 0:
            return "nothing"
        entry, fraction, epochs = self.options[row]
        if entry is None:
            return "the untuned model"
        what = "everything" if fraction >= WHOLE else f"{entry.label} at {100 * fraction:.3g}% of the pool"
        usual = self.study.training.epochs
        return what if epochs == usual else f"{what}, {epochs:g} epoch{'s' if epochs != 1 else ''} instead of {usual:g}"

    def price(self, row: int, paid: frozenset[str]) -> float:
        """Closed forms: the selection where it is not paid, and the training, at the pool's mean length or as corrected."""
        entry, fraction, epochs = self.options[row]
        if entry is None:
            return 0.0
        at, longer = self._longer.get(entry.label, (1.0, 1.0))
        # The larger the share, the nearer its texts are to the pool's.
        longer = longer if fraction <= at else 1 + (longer - 1) * (1 - fraction) / (1 - at)
        flops = self.training_flops(fraction * self.total * longer, fraction * self.count, epochs)
        return flops + (0.0 if entry.label in paid else self.selection[entry.label])

    def training_flops(self, tokens: float, examples: float, epochs: float | None = None) -> float:
        config = self.study.training if epochs is None else self.study.training.model_copy(update={"epochs": epochs})
        return predict_training_cost(config, self.architecture, tokens, examples, self.study.convention).flops

    def run(self, row: int, paid: frozenset[str], left: float) -> tuple[float, float]:
        """Score, select, train, evaluate; (score in percent, FLOPs charged, at most `left`)."""
        entry, fraction, epochs = self.options[row]
        if entry is None:
            value, self.metric = self._evaluate(None)
            self.unit = unit_of(value, self.metric)
            return self.percent(value), 0.0
        seed = self.study.seeds[0]
        stage, place = score_place(self.study, self.target, entry, seed, self.out)
        scored = score(stage, place, self.workspace)
        charged = 0.0 if entry.label in paid else float(scored.notes["charged_flops"])
        chosen, tokens, examples = self._cut(entry, scored.path, Budget(fraction=fraction))
        if fraction < WHOLE:
            self._longer[entry.label] = fraction, tokens / examples / (self.total / self.count)
        most = examples
        while (price := self.training_flops(tokens, examples, epochs)) > left - charged:
            if examples <= 1:
                raise ValueError(
                    f"{entry.label}: {left - charged:.3g} FLOPs are left after selecting, and training on one example takes "
                    f"{price:.3g}; raise the budget"
                )
            fewer = int(examples * min(0.99 * max(left - charged, 0.0) / price, 0.99))
            chosen, tokens, examples = self._cut(entry, scored.path, Budget(count=max(fewer, 1)))
        tuning = self.study.training.model_copy(update={"epochs": epochs})
        task, where = train_place(
            self.study.model_copy(update={"training": tuning}), chosen, seed, self.workspace, self.out
        )
        trained = train(task, where, self.workspace)
        value, _ = self._evaluate(trained.path)
        if epochs != (usual := self.study.training.epochs):  # another method to whoever reads the table
            entry = entry.model_copy(update={"label": f"{entry.label} ({epochs:g} of {usual:g} epochs)"})
        share = fraction if examples == most else examples / self.count
        at = self._place(trained.path)
        self.runs[row] = Run(self.target.name, entry, share, seed, scored.path, chosen, trained.path, at)
        return self.percent(value), charged + float(trained.notes["predicted_flops"][self.study.convention])

    def percent(self, value: float) -> float:
        return self.unit.factor * value + self.unit.shift

    def _cut(self, entry: MethodEntry, scores: Path, budget: Budget) -> tuple[Path, float, int]:
        """(selection, its tokens under the train model, its examples)."""
        stage, place = cut_place(self.study, self.target, entry, self.study.seeds[0], budget, scores, self.out)
        chosen = select(stage, place, self.workspace).path
        store = self.workspace.tokens(self.study.pool, self.study.model, self.study.encoding)
        rows = self.workspace.pool(self.study.pool).rows_of(taken_ids(chosen))
        return chosen, float(store.lengths[rows].sum()), len(rows)

    def _place(self, trained: Path | None) -> Path:
        return evaluation_place(self.out, trained or self.out / "models" / ZERO_SHOT, self.target)

    def _evaluate(self, trained: Path | None) -> tuple[float, str]:
        model = tuned(self.study, trained) if trained else self.study.model
        place = self._place(trained)
        evaluate(evaluate_stage(self.study, model, self.target), place, self.workspace)
        found = read_result(place)
        return float(found.score), found.main

    @property
    def zero_shot(self) -> dict[str, Path]:
        return {self.target.name: self._place(None)}


def unit_of(untuned: float, metric: str) -> Unit:
    """How a metric becomes percent: shares times 100, percents as they are; an error so that less is more.

    Of an error the untuned model's is 50 and none at all is 100.
    """
    if lower_is_better(metric):
        return Unit(-50.0 / max(abs(untuned), 1e-9), 100.0)
    return Unit(100.0) if abs(untuned) <= 1 else Unit()
