"""The order to train in: easy to hard, or best last.

What enters: chosen rows in rank order. What leaves: the number that each has in a curriculum, 1 first. A rank says what is
worth having; a curriculum says when, and trainers that shuffle (ours does) forget it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from paydirt.core.artifacts import open_artifact
from paydirt.selection.scores import Scores

Curriculum = Literal["best_last", "short_first", "easy_first"]


def positions(
    scores: Scores, rows: np.ndarray, curriculum: Curriculum | None, difficulty: str | None
) -> np.ndarray | None:
    """Position [k] of `rows` (in rank order) in the curriculum, 1 first; None without one.

    Equally hard ones are in rank order, best last.
    """
    if curriculum is None:
        return None
    rank = np.arange(len(rows))
    if curriculum == "best_last":
        hard = np.zeros(len(rows))
    elif curriculum == "short_first":
        hard = scores.tokens[rows].astype(np.float64)
    else:
        hard = _difficulty(scores, rows, difficulty)
    out = np.empty(len(rows), dtype=np.int64)
    out[np.lexsort((-rank, hard))] = rank + 1
    return out


def check(curriculum: Curriculum | None, difficulty: str | None) -> None:
    """ValueError for a difficulty that nothing reads, or that is missing."""
    if difficulty is not None and curriculum != "easy_first":
        raise ValueError("difficulty is what the curriculum easy_first goes by; give that curriculum, or leave it out")
    if difficulty is None and curriculum == "easy_first":
        raise ValueError(
            "the curriculum easy_first needs difficulty: a directory of finished scores, low for what is easy"
        )


def _difficulty(scores: Scores, rows: np.ndarray, difficulty: str | None) -> np.ndarray:
    assert difficulty is not None
    other = Scores(open_artifact(Path(difficulty), "score").path)
    value = dict(zip(other.ids.tolist(), other.reduce()[0].tolist()))
    try:
        return np.asarray([value[id] for id in scores.ids[rows].tolist()])
    except KeyError as missing:
        raise ValueError(f"{difficulty}: has no score for {missing}; score the same pool") from None
