"""Rules for diversity against plain greedy, and against every subset of a few examples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from paydirt.selection.policies.base import make_policy
from paydirt.selection.policies.diverse import neighbour_graph
from paydirt.selection.policies.lazily import away_from_chosen, covering
from paydirt.selection.policies.neighbours import cosines


def some(seed: int, n: int, d: int = 4, copies: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, the first `copies` of which come twice, and qualities with ties."""
    draw = np.random.default_rng(seed)
    vectors = draw.normal(size=(n, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if copies:
        vectors[-copies:] = vectors[:copies]
    return vectors, draw.integers(0, 6, size=n) / 5


def plainly(vectors: np.ndarray, quality: np.ndarray, value: object, limit: int) -> list[int]:
    """The definition: look at everybody at every step."""
    similar = cosines(vectors, vectors)
    chosen = [int(np.argmax(quality))]
    while len(chosen) < limit:
        now = value(quality, similar[:, chosen].max(axis=1)).astype(np.float64)  # type: ignore[operator]
        now[chosen] = -np.inf
        chosen.append(int(np.argmax(now)))
    return chosen


@pytest.mark.parametrize("name", ["mmr", "k_centre"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_lazily_chosen_is_plainly_chosen(name: str, weight: float, block: int) -> None:
    for seed in range(3):
        vectors, quality = some(seed, 200, copies=30)
        value = make_policy({"name": name, "weight": weight}).value
        found, met = away_from_chosen(vectors, quality, value, 200, block)
        similar = cosines(vectors, vectors)
        np.testing.assert_allclose(met[1:], [similar[i, found[:k]].max() for k, i in enumerate(found) if k], atol=2e-6)
        assert found.tolist() == plainly(vectors, quality, value, 200)


@pytest.mark.parametrize("name", ["mmr", "k_centre"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("n", [2, 7, 12])
def test_by_an_index_a_few_examples_are_plainly_chosen(name: str, weight: float, n: int) -> None:
    """The index is asked from the second on; among so few it misses nobody."""
    pytest.importorskip("faiss", reason="the extra `neighbours`")
    for seed in range(4):
        vectors, quality = some(seed, n, copies=n // 4)
        value = make_policy({"name": name, "weight": weight}).value
        found, _ = away_from_chosen(vectors, quality, value, n, block=4, exact=0, missed=0)
        assert found.tolist() == plainly(vectors, quality, value, n)


@pytest.mark.parametrize("name", ["mmr", "k_centre"])
def test_by_an_index_the_choice_is_as_good(name: str) -> None:
    """On 3,000 clustered examples: nearly the same choice, as far apart, equal at every call, and nested."""
    pytest.importorskip("faiss", reason="the extra `neighbours`")
    draw = np.random.default_rng(0)
    vectors = (draw.normal(size=(40, 32))[draw.integers(0, 40, 3000)] + draw.normal(size=(3000, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = draw.uniform(size=3000)
    value = make_policy({"name": name, "weight": 0.2}).value
    plain, _ = away_from_chosen(vectors, quality, value, 300)
    found, _ = away_from_chosen(vectors, quality, value, 300, block=64, exact=0, missed=20)
    again, _ = away_from_chosen(vectors, quality, value, 300, block=64, exact=0, missed=20)
    assert found.tolist() == again.tolist()
    fewer, _ = away_from_chosen(vectors, quality, value, 120, block=64, exact=0, missed=20)
    assert fewer.tolist() == found[:120].tolist()
    assert len(set(found.tolist()) & set(plain.tolist())) >= 290
    assert radius(vectors, found.tolist()) <= 1.02 * radius(vectors, plain.tolist())


def radius(vectors: np.ndarray, chosen: list[int]) -> float:
    distance = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None, chosen], axis=2)
    return float(distance.min(axis=1).max())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 3, 5])
def test_k_centre_is_within_twice_the_best_radius(seed: int, k: int) -> None:
    vectors, quality = some(seed, 12, d=3)
    chosen = make_policy({"name": "k_centre", "weight": 0}).choose(vectors, quality, k).tolist()
    best = min(radius(vectors, list(subset)) for subset in combinations(range(12), k))
    assert best <= radius(vectors, chosen) <= 2 * best + 1e-6


def covered(similar: np.ndarray, chosen: list[int]) -> float:
    return float(similar[:, chosen].max(axis=1).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 5])
def test_facility_location_reaches_its_guarantee(seed: int, k: int) -> None:
    vectors, quality = some(seed, 12, d=3)
    similar = np.maximum(cosines(vectors, vectors), 0)
    chosen = make_policy({"name": "facility", "weight": 0, "neighbours": 12}).choose(vectors, quality, k).tolist()
    best = max(covered(similar, list(subset)) for subset in combinations(range(12), k))
    assert (1 - 1 / np.e) * best <= covered(similar, chosen) <= best + 1e-6


@pytest.mark.parametrize("weight", [0.0, 0.4])
@pytest.mark.parametrize("neighbours", [5, 60])
def test_lazy_facility_location_is_plain_facility_location(weight: float, neighbours: int) -> None:
    for seed in range(3):
        vectors, quality = some(seed, 60)
        graph = neighbour_graph(vectors, neighbours)
        similar = graph.toarray().astype(np.float64)
        scale, best, expected = similar.sum(axis=0).max(), np.zeros(60), []
        for _ in range(60):
            added = np.maximum(similar - best[:, None], 0).sum(axis=0)
            value = np.round(weight * quality + (1 - weight) * added / scale, 12)
            value[expected] = -np.inf
            expected.append(int(np.argmax(value)))
            best = np.maximum(best, similar[:, expected[-1]])
        found = covering(graph, quality, weight, 60)
        steps = 30  # later ones add next to nothing, and the last bits of sums decide
        assert found[:steps].tolist() == expected[:steps]
        assert sorted(found.tolist()) == list(range(60))


def test_copies_are_chosen_once_before_anything_else_is_chosen_twice() -> None:
    """What `top` would fill a small budget with: ten copies of the best example."""
    vectors, _ = some(0, 40)
    vectors[:10] = vectors[0]
    quality = np.linspace(1, 0, 40)
    for name, weight in (("mmr", 0.3), ("k_centre", 0.3), ("facility", 0)):
        chosen = make_policy({"name": name, "weight": weight}).choose(vectors, quality, 10)
        assert (chosen < 10).sum() == 1, name
