"""The back-tests as Markdown: regret of every chooser with intervals over panels, coverage, and what "sure" was worth.

python benchmarks/analysis.py --backtest      # prints all of them (minutes on one core)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paydirt.analysis.backtest import EVIDENCE, REGIMES, Backtest, backtest, interval, nested
from paydirt.analysis.cases import HOLDS
from paydirt.analysis.results import Floats

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
    """Mean regret: points, share of the panel's range, and that share less the advisor's with a 90 % interval over panels."""
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


def tables(tests: Sequence[Backtest] | None = None) -> str:
    """All tables with their headings."""
    tests = tests or run()
    parts = []
    for b in tests:
        parts.append(f"### {STUDIES[b.study].capitalize()} panels, {HOLD_TEXT[b.hold]} held out\n\n{regret_table(b)}")
    return "\n\n".join([*parts, f'### Intervals and "sure"\n\n{calibration_table(tests)}'])
