"""Overlap and rank correlation against sets and scipy; the simulation against its formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from paydirt.analysis.loading import load_overlaps
from paydirt.analysis.overlap import (
    matrix,
    overlap_table,
    overlaps,
    overlaps_from_table,
    rank_correlation,
    source_mix,
)
from paydirt.analysis.published import published_overlap
from paydirt.analysis.simulation import METHODS, best_method, simulate


def _rankings(n: int, seed: int) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    ids = [f"id{i}" for i in range(n)]
    return {m: [ids[i] for i in rng.permutation(n)] for m in ("a", "b", "c")}


@pytest.mark.parametrize("fraction", [0.025, 0.1, 0.5, 1.0])
def test_overlap_is_the_intersection_of_sets(fraction: float) -> None:
    rankings = _rankings(400, 0)
    for o in overlaps(rankings, [fraction]):
        k = round(400 * fraction)
        a, b = (set(rankings[m][:k]) for m in (o.method_a, o.method_b))
        assert (o.count, o.shared) == (k, len(a & b))
        assert o.by_chance == pytest.approx(100 * fraction)


def test_overlap_by_source_adds_up() -> None:
    rankings = _rankings(300, 1)
    sources = {f"id{i}": "xyz"[i % 3] for i in range(300)}
    found = overlaps(rankings, [0.2], sources=sources)
    for a, b in (("a", "b"), ("a", "c"), ("b", "c")):
        parts = [o for o in found if (o.method_a, o.method_b) == (a, b)]
        whole = next(o for o in parts if not o.source)
        assert sum(o.shared for o in parts if o.source) == whole.shared
        assert sum(o.count for o in parts if o.source) == whole.count


def test_rank_correlation_is_scipys() -> None:
    rankings = _rankings(200, 2)
    found = rank_correlation(rankings)
    for (a, b), rho in found.items():
        place = [{i: r for r, i in enumerate(rankings[m])} for m in (a, b)]
        ids = sorted(place[0])
        assert rho == pytest.approx(spearmanr([place[0][i] for i in ids], [place[1][i] for i in ids]).statistic)
    same = rank_correlation({"a": ["x", "y", "z"], "b": ["x", "y", "z"]})
    assert same["a", "b"] == pytest.approx(1.0)


def test_matrix_is_symmetric_with_the_published_numbers() -> None:
    found = overlaps_from_table(published_overlap())
    names, table = matrix(found, 0.5)
    assert table[names.index("Embed"), names.index("BM25")] == table[names.index("BM25"), names.index("Embed")] == 74.2
    np.testing.assert_array_equal(table, table.T)


def test_shipped_overlaps_are_the_reference_tables(reference: Path) -> None:
    shipped, given = overlaps_from_table(published_overlap()), load_overlaps(reference)
    assert shipped == given
    assert len(given) == 18


def test_overlaps_survive_a_table() -> None:
    found = overlaps(_rankings(200, 3), [0.1])
    back = overlaps_from_table(overlap_table(found))
    assert [o.percent for o in back] == pytest.approx([o.percent for o in found])


def test_source_mix_sums_to_one() -> None:
    mix = source_mix([f"id{i}" for i in range(10)], {f"id{i}": "x" for i in range(4)}, 0.5)
    assert mix == {"unknown": 0.2, "x": 0.8}


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="more than once"):
        overlaps({"a": ["x", "x"], "b": ["x", "y"]})
    with pytest.raises(ValueError, match="two rankings"):
        overlaps({"a": ["x"]})
    with pytest.raises(ValueError, match="has 1 ids"):
        overlaps({"a": ["x"], "b": ["x", "y", "z", "w"]}, [0.5])
    with pytest.raises(ValueError, match="fractions"):
        overlaps({"a": ["x"], "b": ["y"]}, [0.0])


def test_simulation_is_the_formula_and_pays_first() -> None:
    less = next(m for m in METHODS if m.name == "LESS")
    cost = np.array([1e18, 4.5e18, 1e20])
    expected = [0.0, 0.0, 100 * (1 - np.exp(-80 * (1e20 - 4.5e18) / (1.001e8 * 9e12)))]
    assert simulate(cost, less, 9e12) == pytest.approx(expected)


def test_simulated_leader_changes_from_lexicon_to_perplexity_to_gradient_with_model_size() -> None:
    """Figure 1's message, at a tenth of a full pass of each model."""
    leaders = [best_method(np.array([0.1 * 1.001e8 * c]), c)[0][0] for c in (4.5e10, 4.5e11, 9e12)]
    assert leaders == ["BM25", "PPL", "LESS"]
