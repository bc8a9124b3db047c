"""Does the advisor choose better than simple rivals where it has not been, and do its intervals hold what they promise?

Each case (a panel of one of the two published studies) is held out in turn: alone, with every panel of its model, of
its task, or with its whole study. The model is fitted again without them, levels included; nothing that was learned
from held-out scores takes part. At each budget the chooser names a run among those the budget affords (zero-shot among
them where it was measured), and its regret is the best affordable score in hindsight less the chosen one's: in points,
and as a share of the panel's range.

Evidence: `prior` nothing of the panel; `zero-shot` its untuned score; `pilot` zero-shot and three of its smallest runs
(one a representation, best mean rank elsewhere first), given for nothing, the same for the rival that takes the pilot's
winner. Intervals of means are bootstrapped over panels, since scores of one panel share one error.

Calibration is nested: what corrects a case's intervals and its word "sure" was measured on the cases of other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from paydirt.analysis.calibration import Calibration, Outcome, calibrate
from paydirt.analysis.cases import Case, cases, prior_points, without
from paydirt.analysis.posterior import Levels, Model, Posterior, learn, predict
from paydirt.analysis.results import Floats
from paydirt.analysis.rivals import Ridge, by_rank, habit, mean_ranks, pilot_rows, pilots_winner

EVIDENCE = ("prior", "zero-shot", "pilot")
REGIMES = ("data", "compute")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """One case at one budget: every chooser's regret in points, and how sure the advisor was by kind of evidence."""

    case: str
    regime: str
    spread: float
    regret: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Backtest:
    """All decisions and outcomes of one hold-out over one study."""

    hold: str
    study: str
    decisions: tuple[Decision, ...]
    outcomes: tuple[Outcome, ...]
    folds: dict[str, str] = field(default_factory=dict)  # case -> fold

    def regrets(self, regime: str, *, share: bool = False) -> dict[str, Floats]:
        """Mean regret of each chooser by case, [P]; over the panel's range with `share`."""
        rows = [d for d in self.decisions if d.regime == regime]
        names = [n for n in rows[0].regret if all(n in d.regret for d in rows)]
        found = {}
        for n in names:
            by_case: dict[str, list[float]] = {}
            for d in rows:
                by_case.setdefault(d.case, []).append(d.regret[n] / (d.spread if share else 1.0))
            found[n] = np.array([np.mean(v) for v in by_case.values()])
        return found


@cache
def fold_levels(hold: str, key: str, cells: int) -> Levels:
    """Levels fitted without a held-out model, task or study: to all that is left, or panels holding `cells` cells."""
    known = prior_points()
    keep = {"model": known.model, "task": known.task, "study": known.study}[hold] != key
    return learn(known.where(np.asarray(keep, dtype=bool)), cells=cells).levels


def backtest(
    hold: str, study: str, *, draws: int = 1000, seed: int = 0, cells: int = 2000, evidence: Sequence[str] = EVIDENCE
) -> Backtest:
    """Hold out each panel of `study` once; see the module for what is compared.

    A panel held out alone is predicted with the levels that were fitted without its whole task: 19 numbers hardly
    differ, and a fit takes long.
    """
    rng = np.random.default_rng(seed)
    models: dict[str, tuple[Model, Ridge, dict[str, float]]] = {}
    decisions, outcomes, folds = [], [], {}
    for case in cases(study):
        known, key = without(prior_points(), case, hold)
        folds[case.name] = key
        if key not in models:
            panels = set(map(str, known.panel))
            learned = [c for s in ("ccds", "targeted") for c in cases(s)
                       if str(c.at.panel[0]) in panels and c.study in set(map(str, known.study))]  # fmt: skip
            levels = (
                fold_levels("task", str(case.at.task[0]), cells) if hold == "panel" else fold_levels(hold, key, cells)
            )
            models[key] = learn(known, levels), Ridge(learned), mean_ranks(learned)
        model, ridge, ranks = models[key]
        pilot = pilot_rows(case, ranks)
        zero = pilot[case.at.method[pilot] == "zero-shot"]
        expected = {}
        for kind in evidence:
            rows = {"prior": np.array([], dtype=np.int64), "zero-shot": zero, "pilot": pilot}[kind]
            if kind == "zero-shot" and not len(zero):
                continue
            own = case.known(rows) if len(rows) else None
            posterior = predict(model, case.at, own)
            expected[kind] = posterior.mean()
            sample, noise = posterior.draw(draws, rng)
            outcomes.append(_outcome(case, kind, key, posterior, sample, noise, rows, model))
        for regime in REGIMES:
            for open_ in case.budgets(regime):
                decisions.append(_decide(case, regime, open_, expected, ridge, ranks, pilot))
    return Backtest(hold, study, tuple(decisions), tuple(outcomes), folds)


def _decide(
    case: Case, regime: str, open_: np.ndarray, expected: dict[str, Floats], ridge: Ridge, ranks: dict[str, float],
    pilot: np.ndarray,
) -> Decision:  # fmt: skip
    best = case.score[open_].max()
    rows = np.flatnonzero(open_)
    chosen: dict[str, int] = {f"advisor, {k}": int(rows[v[rows].argmax()]) for k, v in expected.items()}
    for label in sorted({str(v) for v, on in zip(case.label, case.trained) if on}):
        chosen[f"always {label}"] = habit(case, open_, label)
    if (case.at.method == "zero-shot").any():
        chosen["zero-shot"] = int(np.flatnonzero(case.at.method == "zero-shot")[0])
    chosen["mean rank"] = by_rank(case, open_, ranks)
    chosen["ridge"] = ridge.choose(case, open_)
    chosen["pilot's winner"] = pilots_winner(case, open_, pilot)
    return Decision(case.name, regime, case.spread, {n: float(best - case.score[i]) for n, i in chosen.items()})


def _outcome(
    case: Case,
    kind: str,
    fold: str,
    posterior: Posterior,
    sample: Floats,
    noise: Floats,
    seen: np.ndarray,
    model: Model,
) -> Outcome:
    """How far held-out scores lay from their predictions, and how often a choice said to be good was."""
    hidden = np.setdiff1d(np.arange(len(case)), seen)
    mean, sd = posterior.spread(observed=True)
    away = (case.score[hidden] - mean[hidden]) / sd[hidden]
    tolerance = float(np.median(noise))
    said, good, zero = [], [], []
    for regime in REGIMES:
        for open_ in case.budgets(regime):
            rows = np.flatnonzero(open_)
            pick = rows[mean[rows].argmax()]
            said.append(float((sample[:, pick] >= sample[:, rows].max(axis=1) - noise).mean()))
            good.append(float(case.score[pick] >= case.score[rows].max() - tolerance))
            zero.append(float(case.at.x[pick] <= 0))
    return Outcome(case.name, fold, kind, away, np.array(said), np.array(good), np.array(zero))


def nested(tests: Sequence[Backtest]) -> dict[tuple[str, str, str, str], Calibration]:
    """For each (hold, study, fold, evidence) the calibration measured on the other folds of all given tests of that hold."""
    found = {}
    for b in tests:
        every = [o for other in tests if other.hold == b.hold for o in other.outcomes]
        for fold in sorted(set(b.folds.values())):
            for kind in sorted({o.evidence for o in every}):
                found[b.hold, b.study, fold, kind] = calibrate(
                    [o for o in every if o.fold != fold and o.evidence == kind]
                )
    return found


def interval(values: Floats, level: float = 0.9, draws: int = 4000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap of a mean over panels."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
