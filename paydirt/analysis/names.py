"""One name for one thing: how methods, tasks, models and metrics of other people's tables are recognised.

Enters: names as somebody wrote them. Leaves: a folded form to compare by (case, spaces and punctuation never tell two names
apart), a method's representation and selection rule, and a suggestion for a name that is nearly one that is known.
"RDS+ (RR)", "rds+ (round robin)" and "RDSplus(rr)" are one method: representation `rds`, rule `rr`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

REPRESENTATIONS: dict[str, tuple[str, ...]] = {
    "random": ("rand", "uniform", "random selection"),
    "less": ("gradient", "gradients", "grad", "influence"),
    "ppl": ("perplexity",),
    "bm25": ("lexicon", "lexical", "okapi"),
    "embed": ("embedding", "embeddings", "gtr", "gtr-t5", "gtr-t5-base"),
    "rds": ("rds+", "rdsplus"),
    "length": ("longest",),
}
RULES: dict[str, tuple[str, ...]] = {
    "rr": ("round robin",),
    "dg": ("doubly greedy",),
    "uot": ("unbalanced transport", "optimal transport"),
    "kde": ("knn-kde", "tsds"),
    "unif": ("knn-unif", "knn-uniform"),
}
LOWER_IS_BETTER = {
    "loss", "nll", "perplexity", "ppl", "bpb", "bitsperbyte", "wer", "cer", "error", "errorrate", "err", "mse", "rmse",
    "mae", "crossentropy", "brier", "regret",
}  # fmt: skip


class MethodName(NamedTuple):
    """What a method reads the pool with, and by what rule it chooses; "" where the name does not say."""

    representation: str
    rule: str

    @property
    def key(self) -> str:
        return f"{self.representation} ({self.rule})" if self.rule else self.representation


def fold(name: str) -> str:
    """Letters and digits alone, lower-case, a plus kept: "MMLU-Pro" and "mmlu_pro" are one."""
    return "".join(c for c in name.casefold() if c.isalnum() or c == "+")


_REPRESENTATION = {fold(s): name for name, others in REPRESENTATIONS.items() for s in (name, *others)}
_RULE = {fold(s): name for name, others in RULES.items() for s in (name, *others)}


@lru_cache(maxsize=4096)
def method_name(name: str) -> MethodName:
    """Representation and rule of a method by its name: what stands in a closing bracket is the rule."""
    plain = " ".join(name.split()).split("@")[0].strip()
    found = re.fullmatch(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]", plain)
    head, rule = (found[1], found[2]) if found and found[1] else (plain, "")
    if not rule and (
        part := re.fullmatch(r"(top|mid|low)[\W_]+(ppl|perplexity)|(ppl|perplexity)[\W_]+(top|mid|low)", head, re.I)
    ):
        head, rule = part[2] or part[3], part[1] or part[4]  # CCDS's "Mid-PPL", "ppl_top"
    head_key, rule_key = fold(head), fold(rule)
    return MethodName(_REPRESENTATION.get(head_key, head_key or plain.casefold()), _RULE.get(rule_key, rule_key))


def method_key(name: str) -> str:
    """The spelling by which methods are compared."""
    return method_name(name).key


def lower_is_better(metric: str) -> bool:
    """Whether a metric of this name is an error: one of the known ones, alone or as the name's last word."""
    words = re.split(r"[^a-z0-9]+", metric.casefold())
    return fold(metric) in LOWER_IS_BETTER or words[-1] in LOWER_IS_BETTER or fold(metric).endswith("loss")


def near(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` was probably meant to be, None when nothing is near."""
    folded = {fold(k): k for k in known if k}
    found = difflib.get_close_matches(fold(word), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Each name to the first spelling of it: case and the kind of separator (space, hyphen, underscore) tell nothing apart.

    Stricter than `fold`, since rows are merged by it: "task 1-1" and "task 11" stay two.
    """
    first: dict[str, str] = {}
    return {name: first.setdefault(re.sub(r"[\s_-]+", " ", name.strip().casefold()), name.strip()) for name in names}
