"""Places in (panel, method, data) where something was observed or is to be predicted: what the posterior conditions on.

Enters: panels of a results table, or a question. Leaves: `Points`, parallel arrays of N places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Floats, Panel

UNKNOWN_SIZE = 9.85  # log10 of 7B, the most published size
ALL = "everything"  # the method of a run on the whole pool: it selected nothing

# Families share strength: a new method starts from its family, an unknown family from "selected at all".
FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "gradient": ("less", "grad", "influence", "learned", "cascade", "datainf", "trak"),
    "perplexity": ("ppl", "perplex", "ifd", "loss", "superfilter", "cherry"),
    "lexical": ("bm25", "tfidf", "tf-idf", "lexic", "dsir", "gram"),
    "embedding": ("embed", "rds", "gtr", "minilm", "sbert", "knn", "cosine", "repres"),
    "baseline": ("random", "length", "longest", "shortest", "uniform"),
}


def family(method: str) -> str:
    """The kind of information a method uses, from its name; its own name when it says nothing known."""
    low = method.lower().split("@")[0]
    return next((f for f, words in FAMILY_WORDS.items() if any(w in low for w in words)), low.strip())


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """N places in (panel, method, data): where something was observed, or is to be predicted."""

    task: np.ndarray
    panel: np.ndarray
    method: np.ndarray
    size: Floats  # log10 parameters of the train model
    selector: Floats  # log10 parameters of the selector model; NaN where none or not told
    x: Floats  # share of the pool trained on
    y: Floats  # mean score; NaN where it is to be predicted
    seeds: Floats
    seed_sd: Floats  # pooled standard deviation between seeds in the panel, NaN where unknown

    def __len__(self) -> int:
        return len(self.x)

    def where(self, rows: np.ndarray) -> Points:
        return Points(*(getattr(self, name)[rows] for name in self.__slots__))


def join(a: Points, b: Points) -> Points:
    return Points(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in Points.__slots__))


def points(panels: Sequence[Panel], unit: float = 1.0) -> Points:
    """The cells of panels as points, scores times `unit`. Runs on the whole pool become one point per panel."""
    rows: list[tuple[object, ...]] = []
    for p in panels:
        head = (p.task.lower(), f"{p.task.lower()}|{p.model.lower()}")
        size = log_params(p.train_params, UNKNOWN_SIZE)
        spread = [(len(s) - 1, s.var(ddof=1)) for c in p.curves.values() for s in c.scores if len(s) > 1]
        freedom = sum(n for n, _ in spread)
        sd = float(np.sqrt(sum(n * v for n, v in spread) / freedom)) * unit if freedom >= 5 else np.nan
        if len(p.zero_shot):
            # The untuned model is one model: repeated evaluations of it are not independent seeds.
            rows.append((*head, ZERO_SHOT, size, np.nan, 0.0, p.zero_shot.mean() * unit, 1.0, sd))
        whole: dict[float, list[tuple[float, int]]] = {}
        for c in p.curves.values():
            selector = log_params(c.selector_params)
            for f, mean, n in zip(c.fraction, c.mean, c.seeds):
                if f < 0.999 and c.method.lower() in CEILINGS:
                    continue  # it would teach what "selection in general" brings
                if f >= 0.999:
                    whole.setdefault(round(float(f), 3), []).append((float(mean), int(n)))
                else:
                    rows.append((*head, c.method.lower(), size, selector, float(f), mean * unit, float(n), sd))
        for f, runs in whole.items():
            count = sum(n for _, n in runs)
            rows.append((*head, ALL, size, np.nan, f, sum(m * n for m, n in runs) / count * unit, float(count), sd))
    return _stack(rows)


def _stack(rows: Sequence[tuple[object, ...]]) -> Points:
    columns = list(zip(*rows)) if rows else [()] * 9
    text = [np.array(c, dtype=object) for c in columns[:3]]
    numbers = [np.array(c, dtype=np.float64) for c in columns[3:]]
    return Points(*text, *numbers)


def log_params(params: float, unknown: float = float("nan")) -> float:
    """log10 of a parameter count; `unknown` where there is none."""
    return float(np.log10(params)) if np.isfinite(params) and params > 0 else unknown


def ask(
    panel: Panel, methods: Sequence[str], fractions: Sequence[float], selectors: Sequence[float] | None = None
) -> Points:
    """Points to predict in one panel: method i, with a selector of selectors[i] parameters, at fraction i."""
    head = (panel.task.lower(), f"{panel.task.lower()}|{panel.model.lower()}")
    size = log_params(panel.train_params, UNKNOWN_SIZE)
    rows: list[tuple[object, ...]] = []
    for method, x, selector in zip(methods, fractions, selectors or [float("nan")] * len(methods)):
        name = ALL if x >= 0.999 else (ZERO_SHOT if x <= 0 else method.lower())
        rows.append((*head, name, size, log_params(selector), float(x), np.nan, 1.0, np.nan))
    return _stack(rows)
