"""Influence equals a float64 brute force from the definition, in every variant, streamed or not."""

from __future__ import annotations

import itertools

import pytest
import torch

from paydirt.gradients import influence
from paydirt.gradients.features import Features
from paydirt.gradients.influence import (
    match,
    quantise,
    reduce_similarity,
    score_stores,
    similarities,
    similarity_of,
    unit,
)
from paydirt.gradients.projection import Projection
from paydirt.gradients.store import Store, pack_rows, plan_shards, write_shards

from .test_features import exact_direction, random_moments
from .tiny import random_examples, tiny_model

SUBTASKS = ["a", "b", "a", "c", "b", "a"]
WEIGHTS = [0.7, 0.3]
MANIFEST = {"projection": {"kind": "sketch", "k": 32, "seed": 0}}


def brute_force(pools, references, within, across) -> list[float]:
    """Straight from the definition, with loops: no shared code with what it checks."""
    pick = {"mean": lambda xs: sum(xs) / len(xs), "max": max, "min": min}
    scores = []
    for z in range(len(pools[0])):
        by_subtask: dict[str, list[float]] = {}
        for v, subtask in enumerate(SUBTASKS):
            value = 0.0
            for weight, pool, reference in zip(WEIGHTS, pools, references, strict=True):
                a, b = pool[z].double(), reference[v].double()
                value += weight * float(a @ b) / float(a.norm()) / float(b.norm())
            by_subtask.setdefault(subtask, []).append(value)
        scores.append(pick[across]([pick[within](values) for values in by_subtask.values()]))
    return scores


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(32, generator=generator)
    pools = [torch.randn(23, 32, generator=generator) * 5 + shared for _ in WEIGHTS]
    return pools, [torch.randn(6, 32, generator=generator) + shared for _ in WEIGHTS]


def write(path, pools, dtype):
    ids = [str(i) for i in range(len(pools[0]))]
    stores = []
    for number, pool in enumerate(pools):
        compute = lambda shard, pool=pool: pack_rows(pool[[int(i) for i in shard]], dtype)  # noqa: E731
        stores.append(Store(write_shards(path / str(number), MANIFEST, plan_shards(ids, 10), compute)))
    return stores


@pytest.mark.parametrize(("within", "across"), list(itertools.product(["mean", "max", "min"], repeat=2)))
def test_all_reductions_equal_the_definition(tmp_path, features, within, across):
    pools, references = features
    expected = torch.tensor(brute_force(pools, references, within, across))
    stores = write(tmp_path, pools, "float32")
    blocks = list(score_stores(stores, references, SUBTASKS, WEIGHTS, within, across))
    assert [i for ids, _ in blocks for i in ids] == [str(i) for i in range(23)]
    torch.testing.assert_close(torch.cat([s for _, s in blocks]), expected, rtol=0, atol=1e-6)
    full = torch.cat([s for _, s in similarities(stores, references, WEIGHTS)])
    torch.testing.assert_close(reduce_similarity(full, SUBTASKS, within, across), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), [("float16", 5e-4), ("bfloat16", 4e-3), ("int8", 6e-3)])
def test_stored_precisions_stay_close(features, dtype, error):
    pools, references = features
    exact = similarity_of(pools[0].double(), references[0].double())
    got = match(quantise(pools[0], dtype), unit(references[0]))
    assert float((got - exact).abs().max()) < error


@pytest.mark.parametrize("direction", ["adam_published", "adam_textbook", "sgd", "sign"])
def test_from_model_to_scores_against_brute_force_on_exact_gradients(tmp_path, direction):
    """Two checkpoints, Adam directions against plain references, k far above d so that the sketch is nearly exact."""
    examples, weights = random_examples(12), WEIGHTS
    pools, references, exact_pools, exact_references = [], [], [], []
    for seed in range(2):
        model = tiny_model("llama", rank=2, seed=seed)
        moments, projection = random_moments(model), Projection(1 << 17)
        with Features(model, projection, direction, moments) as f:
            pools.append(f(examples[:6])[0])
        with Features(model, projection, "sgd") as f:
            references.append(f(examples[6:])[0])
        exact_pools.append(torch.stack([exact_direction(model, e, direction, moments) for e in examples[:6]]))
        exact_references.append(torch.stack([exact_direction(model, e, "sgd", moments) for e in examples[6:]]))
    expected = torch.tensor(brute_force(exact_pools, exact_references, "mean", "max"))
    summed = sum(w * similarity_of(p, r) for w, p, r in zip(weights, pools, references, strict=True))
    got = reduce_similarity(summed, SUBTASKS)
    torch.testing.assert_close(got, expected, rtol=0, atol=5e-3)


def test_mismatches_are_refused(tmp_path, features):
    pools, references = features
    stores = write(tmp_path, pools, "int8")
    with pytest.raises(ValueError, match="2 stores, 1 sets of references"):
        next(similarities(stores, references[:1], WEIGHTS))
    with pytest.raises(ValueError, match="rows of 32 numbers, the references have 16"):
        next(similarities(stores, [r[:, :16] for r in references], WEIGHTS))
    with pytest.raises(ValueError, match="unknown reduction 'median'"):
        reduce_similarity(torch.zeros(1, 6), SUBTASKS, "median")
    with pytest.raises(ValueError, match="1 columns for 6 references"):
        reduce_similarity(torch.zeros(1, 1), SUBTASKS)
    other = write(tmp_path / "other", [pools[0].flip(0)[:20]], "int8")
    with pytest.raises(ValueError, match="different examples"):
        list(similarities([stores[0], other[0]], references, WEIGHTS))


def test_a_zero_gradient_scores_zero():
    rows = quantise(torch.zeros(2, 8), "int8")
    assert match(rows, unit(torch.randn(3, 8))).abs().max() == 0


@pytest.mark.parametrize("columns", [1, 57])
def test_products_of_bytes_are_exact_whoever_multiplies(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest sums there can be, k no multiple of anything: as int64 has them, with and without integer products."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(-127, 128, (70, 3001), generator=generator).to(torch.int8)
    rows[0] = 127
    references = torch.randint(-127, 128, (columns, 3001), generator=generator).to(torch.int8)
    references[0] = -127
    expected = (rows.long() @ references.long().t()).tolist()
    padded = torch.nn.functional.pad(references, (0, 0, 0, -columns % 16))
    for capability in ("AVX2", "AVX512"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert influence._whole_products(padded)(rows)[:, :columns].tolist() == expected


@pytest.mark.parametrize("dtype", ["int8", "float16", "bfloat16", "float32"])
def test_threads_change_no_byte(dtype: str) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = influence.quantise(torch.randn(1500, 96, generator=generator), dtype)
    references = influence.unit(torch.randn(5, 96, generator=generator))
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(influence.match(rows, references).numpy().tobytes())
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert found[0] == found[1]
