"""How well predicted scores follow the true ones, on examples that the predictor was not fitted on.

Enters: true and predicted scores [n], and scores of simple baselines. Leaves: a dict of plain numbers: accuracy on three
equal-count levels, as document 001 reports it, R2, rank correlation, recall of the top, calibration, chance. The R2 that
document 001 prints are of constant zeros (an argmax over one column), so there is nothing to compare ours with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LEVELS = ("low", "mid", "high")
TOPS = (0.05, 0.1, 0.25)


def levels_of(scores: np.ndarray, count: int = 3) -> np.ndarray:
    """Level [n] of each score, 0 the lowest: `count` levels of equal size, ties broken by position."""
    order = np.argsort(scores, kind="stable")
    levels = np.empty(len(scores), dtype=np.int64)
    levels[order] = np.arange(len(scores)) * count // len(scores)
    return levels


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation with mean ranks for ties (scipy.stats.spearmanr); 0 where either is constant."""
    from scipy.stats import rankdata

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def recall_of_top(true: np.ndarray, predicted: np.ndarray, share: float) -> float:
    """Share of the `share` best by `true` that is among the `share` best by `predicted`."""
    size = max(1, round(share * len(true)))
    best = np.argsort(-true, kind="stable")[:size]
    found = np.argsort(-predicted, kind="stable")[:size]
    return len(np.intersect1d(best, found)) / size


def diagnose(true: np.ndarray, predicted: np.ndarray, levels: np.ndarray | None = None) -> dict[str, Any]:
    """Diagnostics of `predicted` against `true` [n]; `levels` [n] are predicted levels, where a classifier gave them."""
    true, predicted = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    truth = levels_of(true)
    guessed = levels_of(predicted) if levels is None else levels
    residual, spread = float(((true - predicted) ** 2).sum()), float(((true - true.mean()) ** 2).sum())
    found: dict[str, Any] = {
        "examples": len(true),
        "accuracy": float((truth == guessed).mean()),
        "accuracy_of_chance": float(np.bincount(truth, minlength=3).max() / len(truth)),
        "r2": 1 - residual / spread if spread else 0.0,
        "spearman": spearman(true, predicted),
    }
    for share in TOPS:
        found[f"recall_top_{share:.0%}"] = recall_of_top(true, predicted, share)
    found["calibration"] = calibration(true, predicted)
    return found


def calibration(true: np.ndarray, predicted: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Mean predicted and true score of equal-count bins of the prediction, and the line of true on predicted.

    A calibrated predictor has slope 1 and intercept 0; below 1 it promises too much at the top.
    """
    parts = [p for p in np.array_split(np.argsort(predicted, kind="stable"), bins) if len(p)]
    slope = float(np.cov(predicted, true, bias=True)[0, 1] / np.var(predicted)) if np.ptp(predicted) > 0 else 0.0
    return {
        "slope": slope,
        "intercept": float(np.mean(true) - slope * np.mean(predicted)),
        "bins": [[float(predicted[p].mean()), float(true[p].mean())] for p in parts],
    }


def beats(predictor: Mapping[str, Any], baselines: Mapping[str, float], cheapest: list[str]) -> tuple[bool, str, float]:
    """Whether the predictor's rank correlation is above that of its best cheapest feature; which, and its correlation.

    A feature alone may be used either way up, so its absolute correlation counts.
    """
    rivals = {name: abs(baselines[name]) for name in cheapest if name in baselines}
    if not rivals:
        return True, "", 0.0
    best = max(rivals, key=lambda name: rivals[name])
    return predictor["spearman"] > rivals[best], best, rivals[best]
