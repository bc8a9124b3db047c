"""The claim "X is best": said of equal methods no oftener than its stated level, and of a clear lead at all."""

from __future__ import annotations

import numpy as np
import pytest

from paydirt.analysis.paired import LEAST_SEEDS, LEVEL, leads, step_of

STUDIES = 3000
# A rate of LEVEL is drawn STUDIES times: four standard errors of chance.
ALLOWED = LEVEL + 4 * (LEVEL * (1 - LEVEL) / STUDIES) ** 0.5


def by_seed(scores: np.ndarray) -> dict[int, float]:
    return {3 * (i + 1): float(s) for i, s in enumerate(scores)}


def claimed(scores: np.ndarray, step: float = 0.0) -> bool:
    """Whether any method [M, S] leads all others: what the page calls best."""
    order = np.argsort(-scores.mean(axis=1))
    best, *others = [by_seed(scores[i]) for i in order]
    return all(leads(best, other, step) for other in others)


def rate(scale: np.ndarray, seeds: int, items: int | None = None) -> float:
    """How often a best is claimed of equal methods whose seeds spread by `scale` [M]; shared seed effects included."""
    draw = np.random.default_rng([len(scale), seeds, int(1e3 * scale.max()), items or 0])
    found = 0
    for _ in range(STUDIES):
        scores = 0.5 + scale[:, None] * draw.normal(size=(len(scale), seeds)) + 0.02 * draw.normal(size=seeds)
        if items:
            scores = np.round(scores * items) / items
        found += claimed(scores, step_of(list(scores.flat), items))
    return found / STUDIES


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
@pytest.mark.parametrize("methods", [2, 3, 5, 8, 11])
def test_equal_methods_are_rarely_ranked(methods: int, seeds: int) -> None:
    found = rate(np.full(methods, 0.02), seeds)
    assert found <= ALLOWED
    if seeds < LEAST_SEEDS:
        assert found == 0
    if methods == 2 and seeds >= LEAST_SEEDS:
        assert found > LEVEL / 3, "a test that never speaks proves nothing"


@pytest.mark.parametrize("scale", [[0.05, 0.002], [0.05] + [0.002] * 4, [0.002] + [0.05] * 4, [0.05] * 3 + [0.002] * 3])
def test_nor_are_methods_of_unequal_spread(scale: list[float]) -> None:
    assert rate(np.asarray(scale), 3) <= ALLOWED


@pytest.mark.parametrize("methods", [2, 5])
def test_nor_are_rounded_scores(methods: int) -> None:
    """Few test items, and a spread below one of them: most scores are equal, and their gaps then too."""
    assert rate(np.full(methods, 0.008), 3, items=40) <= ALLOWED


def test_a_clear_lead_is_seen() -> None:
    assert leads({3: 0.8, 6: 0.82, 9: 0.81}, {3: 0.5, 6: 0.55, 9: 0.51})
    assert leads({3: 0.3, 6: 0.3, 9: 0.3}, {3: 0.0, 6: 0.0, 9: 0.0}, step=1 / 200)
    assert not leads({3: 0.005, 6: 0.005, 9: 0.005}, {3: 0.0, 6: 0.0, 9: 0.0}, step=1 / 200), "one item is no lead"


def test_only_common_seeds_are_compared() -> None:
    assert not leads({3: 0.8, 6: 0.8, 9: 0.8}, {3: 0.1, 6: 0.1, 12: 0.1})


def test_the_step_is_one_item() -> None:
    assert step_of([0.5, 0.25], 200) == 1 / 200
    assert step_of([50.0, 25.0], 200) == 0.5
    assert step_of([0.5, 0.25, 0.5]) == 0.25
    assert step_of([0.5]) == 0.0
