"""In what order help lists verbs: those of the pipeline as data goes through it, those of `score` cheap to dear.

A verb that no section names is listed at the end, so a new one needs no change here to be found.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import told
from paydirt.cost.methods import selection_cost

SECTIONS: dict[str, tuple[str, ...]] = {
    "Try it": ("demo", "world", "tiny", "methods", "doctor", "cache"),
    "Before it runs": ("plan", "advise", "cost"),
    "Pool": ("inspect", "dedup", "decontaminate", "split"),
    "From a pool to a number": ("score", "select", "train", "evaluate"),
    "Whole studies": ("run", "spend", "report", "fit", "figures"),
    "From and to others": ("export", "import-scores", "import-gradients"),
}
OTHERS = "More"
SENTENCE = 300  # characters: a help text's first sentence is wrapped and not cut
# Llama 2 7B; about the length that instructions and answers have
MODEL = Architecture(
    layers=32, hidden=4096, intermediate=11008, heads=32, kv_heads=32, head_dim=128, vocab=32000, name="llama-2-7b"
)
TYPICAL = told(30e6, 1e5, 100, architecture=MODEL, answer_tokens=10e6, encoder_parameters=22e6)


class Pipeline(TyperGroup):
    """The verbs under headings, in the order in which data goes through them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in self.sections().values() for name in names]

    def sections(self) -> dict[str, list[str]]:
        """Names of the commands there are, by heading."""
        known = {heading: [name for name in names if name in self.commands] for heading, names in SECTIONS.items()}
        named = {name for names in known.values() for name in names}
        known[OTHERS] = [name for name in self.commands if name not in named]
        return {heading: names for heading, names in known.items() if names}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(len(name) for name in self.commands)
        for heading, names in self.sections().items():
            shown = [(name, self.commands[name]) for name in names if not self.commands[name].hidden]
            with formatter.section(heading):
                rows = [(f"{n:{width}}", c.get_short_help_str(SENTENCE)) for n, c in shown]
                formatter.write_dl(rows)


class CheapToDear(TyperGroup):
    """Scoring methods by what each costs by default, priced on one 7B model and pool; those without target first."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=expense)


def expense(method: str) -> tuple[float, bool, str]:
    """What to sort a method by; one that cannot be priced without settings of the user's comes last."""
    from paydirt.scoring.base import SCORERS

    scorer = SCORERS.get(method)
    try:
        flops = selection_cost(scorer(), TYPICAL).flops
    except ValueError:
        flops = float("inf")
    return flops, scorer.uses_target is not False, method
