"""Places in (panel, method, data) where something was observed or is to be predicted: what the posterior conditions on.

Enters: panels of a results table, or a question. Leaves: `Points`, parallel arrays of N places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from paydirt.analysis.names import fold, method_key, method_name
from paydirt.analysis.results import CEILINGS, ZERO_SHOT, Floats, Panel

# Models that studies label by size alone, by the study's name for its points.
SAME_MODEL = {"ccds": {"7b": "llama27b", "13b": "llama213b", "70b": "llama370b"}}
POOL_EXAMPLES = 200_000.0  # of a pool whose size nobody told
UNKNOWN_SIZE = 9.85  # log10 of 7B, the most published size
ALL = "everything"  # the method of a run on the whole pool: it selected nothing

# Families share strength: a new method starts from its family, an unknown family from "selected at all".
FAMILY_WORDS: dict[str, tuple[str, ...]] = {
    "gradient": ("less", "gist", "grad", "influence", "learned", "cascade", "datainf", "trak"),
    "perplexity": ("ppl", "perplex", "ifd", "loss", "superfilter", "cherry"),
    "lexical": ("bm25", "tfidf", "tf-idf", "lexic", "dsir", "gram"),
    "embedding": ("embed", "rds", "gtr", "minilm", "sbert", "knn", "cosine", "repres"),
    "baseline": ("random", "length", "longest", "shortest", "uniform"),
}


@lru_cache(maxsize=4096)
def family(method: str) -> str:
    """The kind of information a method uses, from its name; its own name when it says nothing known."""
    low = method_name(method).representation
    return next((f for f, words in FAMILY_WORDS.items() if any(w in low for w in words)), low.strip())


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """N places in (panel, method, data): where something was observed, or is to be predicted."""

    task: np.ndarray
    panel: np.ndarray
    model: np.ndarray
    study: np.ndarray
    method: np.ndarray  # comparable key: representation and rule
    size: Floats  # log10 parameters of the train model
    selector: Floats  # log10 parameters of the selector model; NaN where none or not told
    x: Floats  # share of the pool trained on
    n: Floats  # examples seen in training, epochs over the whole pool counted
    y: Floats  # mean score; NaN where it is to be predicted
    seeds: Floats
    seed_sd: Floats  # standard deviation between seeds: the cell's, drawn towards the panel's; NaN where unknown

    def __len__(self) -> int:
        return len(self.x)

    def where(self, rows: np.ndarray) -> Points:
        return Points(*(getattr(self, name)[rows] for name in self.__slots__))


TEXTS = 5  # columns of text, before the numbers


def join(a: Points, b: Points) -> Points:
    return Points(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in Points.__slots__))


def panel_key(task: str, model: str) -> str:
    return f"{fold(task)}|{fold(model)}"


def points(
    panels: Sequence[Panel], unit: float = 1.0, pools: Mapping[tuple[str, str], float] | None = None, study: str = "own"
) -> Points:
    """The cells of panels as points, scores times `unit`. Runs on the whole pool become one point per panel.

    `pools`: examples in the pool of each (task, model); `POOL_EXAMPLES` where it is not told.
    """
    rows: list[tuple[object, ...]] = []
    for p in panels:
        model = SAME_MODEL.get(study, {}).get(fold(p.model), fold(p.model))
        head = (fold(p.task), panel_key(p.task, p.model), model, study)
        size = log_params(p.train_params, UNKNOWN_SIZE)
        pool = _pool(pools, p)
        sd = _panel_sd(p) * unit
        if len(p.zero_shot):
            # The untuned model is one model: repeated evaluations of it are not independent seeds.
            rows.append((*head, ZERO_SHOT, size, np.nan, 0.0, 0.0, p.zero_shot.mean() * unit, 1.0, sd))
        whole: dict[float, list[tuple[float, int]]] = {}
        for c in p.curves.values():
            selector = log_params(c.selector_params)
            for f, mean, n, own in zip(c.fraction, c.mean, c.seeds, c.sd):
                if f < 0.999 and c.method.lower() in CEILINGS:
                    continue  # it would teach what "selection in general" brings
                if f >= 0.999:
                    whole.setdefault(round(float(f), 3), []).append((float(mean), int(n)))
                    continue
                cell = _shrunk(own * unit, int(n), sd)
                rows.append((*head, method_key(c.method), size, selector, float(f), float(f) * pool, mean * unit,
                             float(n), cell))  # fmt: skip
        for f, runs in whole.items():
            count = sum(n for _, n in runs)
            mean = sum(m * n for m, n in runs) / count
            rows.append((*head, ALL, size, np.nan, f, f * pool, mean * unit, float(count), sd))
    return _stack(rows)


def _pool(pools: Mapping[tuple[str, str], float] | None, panel: Panel) -> float:
    size = (pools or {}).get((panel.task, panel.model), float("nan"))
    return size if size > 0 else POOL_EXAMPLES


def _panel_sd(panel: Panel) -> float:
    """Pooled standard deviation between seeds in a panel; NaN with fewer than 5 degrees of freedom."""
    spread = [(len(s) - 1, s.var(ddof=1)) for c in panel.curves.values() for s in c.scores if len(s) > 1]
    freedom = sum(n for n, _ in spread)
    return float(np.sqrt(sum(n * v for n, v in spread) / freedom)) if freedom >= 5 else float("nan")


def _shrunk(own: float, seeds: int, panel: float, prior: float = 4.0) -> float:
    """A cell's spread between seeds drawn towards its panel's, which counts as `prior` degrees of freedom."""
    if not np.isfinite(panel) or seeds < 2 or not np.isfinite(own):
        return panel
    return float(np.sqrt((prior * panel**2 + (seeds - 1) * own**2) / (prior + seeds - 1)))


def _stack(rows: Sequence[tuple[object, ...]]) -> Points:
    columns = list(zip(*rows)) if rows else [()] * len(Points.__slots__)
    text = [np.array(c, dtype=object) for c in columns[:TEXTS]]
    numbers = [np.array(c, dtype=np.float64) for c in columns[TEXTS:]]
    return Points(*text, *numbers)


def log_params(params: float, unknown: float = float("nan")) -> float:
    """log10 of a parameter count; `unknown` where there is none."""
    return float(np.log10(params)) if np.isfinite(params) and params > 0 else unknown


def ask(
    panel: Panel, methods: Sequence[str], fractions: Sequence[float], selectors: Sequence[float] | None = None,
    pool: float | None = None,
) -> Points:  # fmt: skip
    """Points to predict in one panel: method i, with a selector of selectors[i] parameters, at fraction i of `pool`."""
    head = (fold(panel.task), panel_key(panel.task, panel.model), fold(panel.model), "own")
    size = log_params(panel.train_params, UNKNOWN_SIZE)
    rows: list[tuple[object, ...]] = []
    for method, x, selector in zip(methods, fractions, selectors or [float("nan")] * len(methods)):
        name = ALL if x >= 0.999 else (ZERO_SHOT if x <= 0 else method_key(method))
        seen = float(x) * (pool or POOL_EXAMPLES)
        rows.append((*head, name, size, log_params(selector), float(x), seen, np.nan, 1.0, np.nan))
    return _stack(rows)
