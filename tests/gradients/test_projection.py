"""Laws of the projection: one linear map whatever the cut, unbiased inner products, distortion as dense."""

from __future__ import annotations

import itertools

import pytest
import torch

from paydirt.gradients import hashing
from paydirt.gradients.projection import Projection

PINNED = [1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, 1]


def project(projection: Projection, x: torch.Tensor, name: str = "w", cuts: list[int] | None = None) -> torch.Tensor:
    sums = projection.begin(len(x))
    edges = [0, *(cuts or []), x.shape[1]]
    for lo, hi in itertools.pairwise(edges):
        projection.add(sums, x[:, lo:hi], name, lo, x.shape[1])
    return projection.finish(sums)


@pytest.mark.parametrize("kind", ["sketch", "rademacher"])
def test_cuts_and_batch_size_do_not_matter(kind):
    x = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    projection = Projection(64, kind, seed=1)
    whole = project(projection, x)
    close = {"rtol": 0, "atol": 0 if kind == "sketch" else 1e-4}
    torch.testing.assert_close(project(projection, x, cuts=[1, 63, 64, 700]), whole, **close)
    torch.testing.assert_close(project(Projection(64, kind, seed=1), x[1:2]), whole[1:2], **close)


def test_the_map_is_linear_and_differs_by_name_and_seed():
    x, y = torch.randn(2, 1, 500)
    p = Projection(32)
    torch.testing.assert_close(project(p, x + y), project(p, x) + project(p, y), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(project(p, x), project(p, x, name="other"))
    assert not torch.allclose(project(p, x), project(Projection(32, seed=1), x))


@pytest.mark.parametrize("kind", ["sketch", "rademacher"])
def test_inner_products_are_unbiased_with_the_variance_of_theory(kind):
    """Over 400 seeds: mean within 4 standard errors, variance at most 1.3 (|x|^2 |y|^2 + <x, y>^2) / k."""
    k, n = 64, 640
    x, y = torch.randn(2, 1, n, generator=torch.Generator().manual_seed(3))
    y = y + 0.5 * x
    exact = float((x * y).sum())
    found = []
    for seed in range(400):
        p = Projection(k, kind, seed)
        found.append(float((project(p, x) * project(p, y)).sum()))
    values = torch.tensor(found)
    bound = float((x.norm() * y.norm()) ** 2 + exact**2) / k
    assert abs(float(values.mean()) - exact) < 4 * (bound / 400) ** 0.5
    assert float(values.var()) < 1.3 * bound


def test_several_k_in_one_pass_equal_separate_passes():
    x = torch.randn(2, 700)
    projections = [Projection(k) for k in (16, 50, 1024)]
    together = [p.begin(2) for p in projections]
    for lo in range(0, 700, 100):
        for p, sums in zip(projections, together, strict=True):
            p.add(sums, x[:, lo : lo + 100], "w", lo, 700)
    for p, sums in zip(projections, together, strict=True):
        assert torch.equal(p.finish(sums), project(Projection(p.k), x))


def test_the_grouped_form_for_gpus_is_the_same_map():
    x = torch.randn(2, 1000)
    p = Projection(64)
    expected = project(p, x)
    signs, _, rolls = p._prepared("w", 1000, x.device)
    sums = p.begin(2)
    for lo, hi in ((0, 100), (100, 1000)):
        p._add_grouped(sums, x[:, lo:hi] * signs[lo:hi], rolls, lo)
    torch.testing.assert_close(p.finish(sums), expected, rtol=1e-5, atol=1e-5)


def test_hashed_bits_are_balanced_and_pinned():
    """Pinned, because a store written today must be comparable with one written next year."""
    bits = hashing.signs(64 * 1000, hashing.key_of("sign", 0, "w"))
    assert abs(float(bits.float().mean())) < 0.02
    assert torch.equal(hashing.signs(100, 5, start=70), hashing.signs(200, 5)[70:170])
    assert hashing.signs(12, 1234).tolist() == PINNED
    assert hashing.key_of("sign", 0, "w") == hashing.key_of("sign", 0, "w") != hashing.key_of("sign", 1, "w")


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="unknown projection 'fft'"):
        Projection(8, "fft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k = 0"):
        Projection(0)
