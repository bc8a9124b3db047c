"""The back-tests as Markdown: regret of every chooser with intervals over panels, coverage, and what "sure" was worth.

python benchmarks/analysis.py --backtest      # prints all of them (minutes on one core)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paydirt.analysis.backtest import EVIDENCE, REGIMES, Backtest, backtest, fold_levels, interval, nested
from paydirt.analysis.cases import HOLDS, Case, cases, prior_points, without
from paydirt.analysis.posterior import learn, predict
from paydirt.analysis.prior import levels
from paydirt.analysis.results import Floats
from paydirt.analysis.rivals import by_rank, habit, mean_ranks, pilot_rows, pilots_winner
from paydirt.analysis.spending import Replay, spend

STUDIES = {"targeted": "the 16", "ccds": "the seven"}
HOLD_TEXT = {"panel": "one panel", "model": "a model", "task": "a task", "study": "the whole study (across)"}
ADVISOR = "advisor, prior"


def run(holds: Sequence[str] = HOLDS, cells: int = 2000) -> list[Backtest]:
    """Every hold-out on both studies."""
    return [backtest(hold, study, cells=cells) for hold in holds for study in STUDIES]


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers as given."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(v) for v in row) + " |" for row in rows])


def _order(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda n: (not n.startswith("advisor"), EVIDENCE.index(n.split(", ")[1]) if "," in n else 0,
                                        n.startswith("always"), n))  # fmt: skip


def regret_table(b: Backtest) -> str:
    """Mean regret: points, share of the panel's range, and that share less the advisor's, 90 % over panels."""
    columns = []
    for regime in REGIMES:
        points, share = b.regrets(regime), b.regrets(regime, share=True)
        columns.append((points, share))
    rows = []
    for name in _order(list(columns[0][0])):
        row: list[object] = [name]
        for points, share in columns:
            row += [f"{points[name].mean():.2f}", f"{share[name].mean():.3f}", _against(share, name)]
        rows.append(row)
    head = ["chooser"]
    for regime in REGIMES:
        head += [f"{regime} budgets: points", "share of range", f"share less that of {ADVISOR!r}, 90 %"]
    return markdown(head, rows)


def _against(share: dict[str, Floats], name: str) -> str:
    if name == ADVISOR:
        return ""
    difference = share[name] - share[ADVISOR]
    low, high = interval(difference)
    return f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def calibration_table(tests: Sequence[Backtest], level: float = 0.8) -> str:
    """Coverage as predicted and as corrected by other folds, panels under 50 %, and the frequency behind each "sure"."""
    scales = nested(tests)
    rows: list[list[object]] = []
    for b in tests:
        for kind in EVIDENCE:
            mine = [o for o in b.outcomes if o.evidence == kind]
            if not mine:
                continue
            raw = np.array([(np.abs(o.away) <= 1.2816).mean() for o in mine])
            held, claimed, true = [], [], []
            for o in mine:
                c = scales[b.hold, b.study, o.fold, kind]
                held.append((np.abs(o.away) <= c.half_width(level)).mean())
                # Without a measured zero-shot, "do not tune" is never said to be sure.
                sure = np.array([c.sure(v) for v in o.said]) & ~((o.zero > 0) & (kind == "prior"))
                claimed += [c.chance(v) for v in o.said[sure]]
                true += list(o.good[sure])
            held_, count = np.array(held), len(true)
            rows.append([
                HOLD_TEXT[b.hold], STUDIES[b.study], kind, f"{raw.mean():.0%}", f"{held_.mean():.0%}",
                f"{(held_ < 0.5).sum()} of {len(held_)}", f"{count} of {sum(len(o.said) for o in mine)}",
                f"{np.mean(claimed):.0%}" if count else "", f"{np.mean(true):.0%}" if count else "",
            ])  # fmt: skip
    return markdown(["held out", "study", "evidence", "80 % interval, raw", "corrected", "panels under 50 %", "said sure",
                     "mean chance said", "was good"], rows)  # fmt: skip


TIMES = (2, 5, 10, 30, 100)


def spend_table(hold: str, study: str, shipped: bool = False) -> str:
    """`spend` replayed, pilots paid from the budget: share of the range lost at multiples of the cheapest run's cost.

    Against the prior alone, and against paying three pilots and taking their winner (mean rank elsewhere, where the budget
    does not pay them); after each rival its loss less that of `spend`, 90 % over panels. `shipped`: with the levels that
    ship, which saw all panels, instead of levels fitted without what is held out (minutes a fold).
    """
    lost: dict[int, dict[str, list[float]]] = {t: {} for t in TIMES}
    for held in cases(study):
        known, key = without(prior_points(), held, hold)
        model = learn(known, levels() if shipped else fold_levels(hold, key, 2000))
        panels = set(map(str, known.panel))
        ranks = mean_ranks([c for s in STUDIES for c in cases(s) if str(c.at.panel[0]) in panels])
        mean = predict(model, held.at).mean()
        for times in TIMES:
            budget = 1.001 * times * float(held.cost[held.trained].min())
            open_ = held.cost <= budget
            rows = np.flatnonzero(open_)
            scores = {"spend": spend(Replay(held), model, budget).score,
                      "prior alone": float(held.score[rows[mean[rows].argmax()]]),
                      "pilot's winner": float(held.score[_paid_winner(held, open_, ranks, budget)])}  # fmt: skip
            for label in sorted({str(v) for v, on in zip(held.label, held.trained) if on}):
                scores[f"always {label}"] = float(held.score[habit(held, open_, label)])
            best = held.score[open_].max()
            for name, score in scores.items():
                lost[times].setdefault(name, []).append(float(best - score) / held.spread)
    names = list(lost[TIMES[0]])
    rows_: list[list[object]] = []
    for name in names:
        row: list[object] = [name]
        for times in TIMES:
            values = np.array(lost[times][name])
            low, high = interval(values - np.array(lost[times]["spend"]))
            row.append(f"{values.mean():.3f}" + ("" if name == "spend" else f" ({low:+.3f} to {high:+.3f})"))
        rows_.append(row)
    return markdown(["chooser", *(f"{t} x" for t in TIMES)], rows_)


def _paid_winner(held: Case, open_: np.ndarray, ranks: dict[str, float], budget: float) -> int:
    pilot = pilot_rows(held, ranks, 3, open_)
    left = budget - float(held.cost[pilot].sum())
    if left < 0:
        return by_rank(held, open_, ranks)
    paid = set(held.label[pilot])
    price = held.cost - np.array([s if m in paid else 0.0 for s, m in zip(held.selection, held.label)])
    affordable = price <= left
    affordable[pilot] = True
    return pilots_winner(held, affordable, pilot)


def tables(tests: Sequence[Backtest] | None = None) -> str:
    """All tables with their headings."""
    tests = tests or run()
    parts = []
    for b in tests:
        parts.append(f"### {STUDIES[b.study].capitalize()} panels, {HOLD_TEXT[b.hold]} held out\n\n{regret_table(b)}")
    for hold in ("model", "task"):
        parts += [f"### `spend` replayed on {STUDIES[s]} panels, {HOLD_TEXT[hold]} held out\n\n{spend_table(hold, s)}"
                  for s in STUDIES]  # fmt: skip
    return "\n\n".join([*parts, f'### Intervals and "sure"\n\n{calibration_table(tests)}'])
