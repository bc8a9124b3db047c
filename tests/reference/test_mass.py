"""Rules that spread the references' mass, against other people's solvers and the definition itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract.test_policies import ranking, scores_on_disk
from scipy.optimize import linprog

from paydirt.selection.policies.base import Ranking, make_policy
from paydirt.selection.policies.nearest import nearest_candidates, spread
from paydirt.selection.policies.neighbours import cosines, densities, nearest_neighbours


def unit(draw: np.random.Generator, n: int, d: int = 6) -> np.ndarray:
    rows = draw.normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def cosine_ranking(root: Path, candidates: np.ndarray, references: np.ndarray) -> Ranking:
    """Scores on disk of cosines [n, 3], ids in another order than rows."""
    order = np.random.default_rng(5).permutation(len(candidates))
    values = (candidates @ references.T).astype(np.float32)
    return ranking(scores_on_disk(root, [(f"id{order[i]:05d}", "s", values[i]) for i in range(len(values))]))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("eps", "tau"), [(0.01, 1e-4), (0.05, 0.02)])
def test_transport_is_that_of_pot(tmp_path: Path, seed: int, eps: float, tau: float) -> None:
    ot = pytest.importorskip("ot", reason="POT is a rival for tests alone")
    draw = np.random.default_rng(seed)
    made = cosine_ranking(tmp_path / "s", unit(draw, 40), unit(draw, 3))
    policy = make_policy({"name": "transport", "eps": eps, "tau": tau})
    similar = made.scores.take(made.by_id).astype(np.float64)
    plan = ot.unbalanced.sinkhorn_unbalanced(
        np.full(40, 1 / 40), np.full(3, 1 / 3), (1 - similar) / 2, eps, (tau, np.inf), numItermax=100_000, stopThr=1e-13
    )
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(policy.mass(made), plan.sum(axis=1), rtol=1e-6, atol=1e-12)


def by_linear_program(distance: np.ndarray, rho: np.ndarray, alpha: float, c: float) -> np.ndarray:
    """The definition: minimise alpha / C <plan, d> + (1 - alpha) t with plan rho M <= t and rows that sum to 1 / M."""
    m, n = distance.shape
    cost = np.r_[alpha / c * distance.ravel(), 1 - alpha]
    caps = np.hstack([m * np.diag(np.tile(rho, m)), -np.ones((m * n, 1))])
    rows = np.hstack([np.kron(np.eye(m), np.ones((1, n))), np.zeros((m, 1))])
    found = linprog(cost, caps, np.zeros(m * n), rows, np.full(m, 1 / m), method="highs")
    assert found.success
    return found.x[:-1].reshape(m, n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("c", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("dense", [False, True])
def test_spread_is_the_optimum_of_the_definition(seed: int, c: float, dense: bool) -> None:
    draw = np.random.default_rng(seed)
    distance = draw.uniform(0, 2, size=(3, 9))
    rho = draw.uniform(1, 4, size=9) if dense else np.ones(9)
    order = np.argsort(distance, axis=1)
    shares, _ = spread(np.take_along_axis(distance, order, axis=1), rho[order], 0.5, c)
    mine = np.zeros_like(distance)
    np.put_along_axis(mine, order, shares, axis=1)
    expected = by_linear_program(distance, rho, 0.5, c)
    np.testing.assert_allclose(mine.sum(axis=1), 1 / 3)
    np.testing.assert_allclose(mine, expected, atol=1e-9)


def test_those_cases_have_inner_optima() -> None:
    """The comparison above means something: most of its limits lie between one candidate and all of them."""
    inner = 0
    for seed in range(4):
        distance = np.sort(np.random.default_rng(seed).uniform(0, 2, size=(3, 9)), axis=1)
        shares, bound = spread(distance, np.ones((3, 9)), 0.5, 1.0)
        inner += not bound and 3 < (shares > 0).sum() < 27
    assert inner >= 3


def test_tsds_gives_copies_what_one_would_get(tmp_path: Path) -> None:
    """Spread over all: three copies share one part with tsds, and get three with knn."""
    draw = np.random.default_rng(3)
    candidates, references = unit(draw, 30), unit(draw, 3)
    copies = np.concatenate([candidates, candidates[:1], candidates[:1]])
    made = cosine_ranking(tmp_path / "s", copies, references)
    table = {"id": made.scores.ids.tolist(), "vector": copies.tolist()}
    pq.write_table(pa.table(table), tmp_path / "vectors.parquet")
    for name, more, parts in (
        ("knn", {}, 32),
        ("tsds", {"vectors": str(tmp_path / "vectors.parquet"), "sigma": 0.01}, 30),
    ):
        make_policy({"name": name, "c": 1e6, **more}).order(made, 5, 0)
        mass = made.found["mass"]
        np.testing.assert_allclose(mass[1:30], 1 / parts)
        np.testing.assert_allclose(mass[[0, 30, 31]].sum(), (3 if name == "knn" else 1) / parts)


def test_nearest_candidates_equal_a_full_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block, ties by id."""
    from paydirt.selection.policies import base

    draw = np.random.default_rng(0)
    values = draw.integers(0, 4, size=(200, 3)).astype(np.float32) / 4
    made = ranking(
        scores_on_disk(tmp_path / "s", [(f"{draw.integers(1 << 30)}-{i}", "s", v) for i, v in enumerate(values)])
    )
    similar = made.scores.take(made.by_id)
    expected = np.stack([np.lexsort((np.arange(200), -similar[:, j]))[:17] for j in range(3)])
    for block in (3, 30, 1 << 20):
        monkeypatch.setattr(base, "BLOCK", block)
        found, distance = nearest_candidates(made, 17)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(distance, np.sqrt(2 - 2 * np.take_along_axis(similar.T, found, axis=1)), rtol=1e-6)


def test_neighbours_equal_a_full_sort_and_densities_their_definition() -> None:
    vectors = unit(np.random.default_rng(1), 60, 3)
    vectors[7] = vectors[3]
    similar = cosines(vectors, vectors)
    expected = np.stack([np.lexsort((np.arange(60), -row))[:9] for row in similar])
    found = np.concatenate([numbers for _, numbers, _ in nearest_neighbours(vectors, 9)])
    np.testing.assert_array_equal(found, expected)
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=-1)
    kernel = np.sort(np.maximum(1 - squared / 0.75**2, 0), axis=1)[:, -9:]
    np.testing.assert_allclose(densities(vectors, 0.75, 9), kernel.sum(axis=1), atol=1e-4)


def test_neighbours_by_lists_are_nearly_all_found() -> None:
    pytest.importorskip("faiss", reason="an extra")
    vectors = unit(np.random.default_rng(1), 3000, 8)
    right = np.concatenate([numbers for _, numbers, _ in nearest_neighbours(vectors, 10)])
    found = np.concatenate([numbers for _, numbers, _ in nearest_neighbours(vectors, 10, exact=100)])
    again = np.concatenate([numbers for _, numbers, _ in nearest_neighbours(vectors, 10, exact=100)])
    np.testing.assert_array_equal(found, again)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(right, found)]) > 0.95
