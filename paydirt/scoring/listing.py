"""The methods as a table, from what each says of itself: what `paydirt methods` prints and the README holds."""

from __future__ import annotations

from paydirt.scoring.base import SCORERS


def methods_markdown() -> str:
    """The table of methods, from what each says of itself, and where those of others come from.

    The README holds the same text, and a test compares.
    """
    lines = ["| method | what it scores | selection FLOPs | published | use it |", "| --- | --- | --- | --- | --- |"]
    for name in SCORERS.names():
        scorer = SCORERS.get(name)
        what = (scorer.__doc__ or "").strip().splitlines()[0].rstrip(".")
        policy = "" if scorer.default_policy == "top" else f"; selected by the policy {scorer.default_policy}"
        lines.append(f"| `{name}` | {what} | {scorer.cost_note} | {scorer.source} | {scorer.use_when}{policy} |")
    return "\n".join([*lines, *SCORERS.origins()])
