"""Features: what the definition says, whatever the batch, and a sketch that ranks as the exact gradients do."""

from __future__ import annotations

import logging

import pytest
import torch
from scipy.stats import spearmanr

from paydirt.gradients.batches import gradient_batch
from paydirt.gradients.directions import AdamSettings, find_direction
from paydirt.gradients.features import Features
from paydirt.gradients.influence import similarity_of
from paydirt.gradients.moments import Moments
from paydirt.gradients.per_example import clean_name, trainable
from paydirt.gradients.plain import example_gradients
from paydirt.gradients.projection import Projection
from paydirt.gradients.taps import Unsupported

from .tiny import random_examples, tiny_model


def random_moments(model) -> Moments:
    generator = torch.Generator().manual_seed(5)
    shapes = {clean_name(name): p.shape for name, p in trainable(model).items()}
    first = {name: torch.randn(shape, generator=generator) * 1e-3 for name, shape in shapes.items()}
    second = {name: torch.rand(shape, generator=generator) * 1e-5 for name, shape in shapes.items()}
    return Moments(first, second, AdamSettings(step=3))


def exact_direction(model, example, direction, moments) -> torch.Tensor:
    """The direction [d] of one example, float64, all parameters in order, from the plain loop."""
    parts = []
    for name, g in example_gradients(model, gradient_batch([example]), 0).items():
        m, v = moments.first[name].double().flatten(), moments.second[name].double().flatten()
        parts.append(find_direction(direction)(g.double().flatten()[None], m, v, moments.settings)[0])
    return torch.cat(parts)


@pytest.mark.parametrize("direction", ["adam_published", "adam_textbook", "sgd", "sign"])
def test_features_are_the_projection_of_the_direction(direction):
    model = tiny_model("llama")
    examples, moments, projection = random_examples(5), random_moments(model), Projection(256)
    with Features(model, projection, direction, moments, token_budget=60) as features:
        (got,) = features(examples)
    sizes = features.sizes
    for row, example in enumerate(examples):
        exact = exact_direction(model, example, direction, moments).float().split(list(sizes.values()))
        sums = projection.begin(1)
        for (name, size), values in zip(sizes.items(), exact, strict=True):
            projection.add(sums, values[None], name, 0, size)
        expected = projection.finish(sums)[0]
        # a gradient entry that rounds across zero flips its sign: `sign` is discontinuous, the others are not
        tolerance = 0.02 if direction == "sign" else 1e-4
        assert float((got[row] - expected).norm() / expected.norm()) < tolerance


def test_features_do_not_depend_on_batches_padding_or_order():
    """Within 1e-5 of a row's norm in float32; the same bits when computed again in the same batches."""
    model = tiny_model("qwen2_tied", lora=False)
    examples = random_examples(12)
    with Features(model, Projection(128), token_budget=100) as features:
        (first,), (again,), (backwards,) = features(examples), features(examples), features(examples[::-1])
    with Features(model, Projection(128), token_budget=1) as features:
        (alone,) = features(examples)
    assert torch.equal(first, again)
    scale = float(first.norm(dim=1).max())
    torch.testing.assert_close(backwards.flip(0), first, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(alone, first, rtol=0, atol=1e-5 * scale)


def test_several_projections_in_one_pass_equal_separate_ones():
    model, examples = tiny_model("llama"), random_examples(4)
    with Features(model, [Projection(64), Projection(32), Projection(64, "rademacher")]) as features:
        together = features(examples)
    for projection, found in zip(features.projections, together, strict=True):
        with Features(model, projection) as one:
            assert torch.equal(one(examples)[0], found)


@pytest.mark.parametrize("direction", ["adam_published", "sgd"])
def test_the_sketch_ranks_like_dense_projection(direction):
    """Real LoRA gradients, 40 examples against 10: cosine error and Spearman with exact, sketch against dense."""
    model = tiny_model("llama", rank=8)
    moments, examples = random_moments(model), random_examples(50, 8, 40)
    exact = torch.stack([exact_direction(model, e, direction, moments) for e in examples])
    truth = similarity_of(exact[:40], exact[40:])
    errors: dict[str, list[float]] = {"sketch": [], "rademacher": []}
    ranks: dict[str, list[float]] = {"sketch": [], "rademacher": []}
    for seed in range(3):
        both = [Projection(512, "sketch", seed), Projection(512, "rademacher", seed)]
        with Features(model, both, direction, moments) as features:
            found = features(examples)
        for projection, rows in zip(both, found, strict=True):
            cosine = similarity_of(rows[:40], rows[40:])
            errors[projection.kind].append(float((cosine - truth).square().mean().sqrt()))
            ranks[projection.kind].append(float(spearmanr(cosine.flatten(), truth.flatten()).statistic))
    assert sum(errors["sketch"]) < 1.25 * sum(errors["rademacher"])
    assert sum(ranks["sketch"]) > sum(ranks["rademacher"]) - 0.06


def test_a_model_no_tap_knows_takes_the_slow_path_and_says_so(caplog):
    from transformers import AutoModelForCausalLM, MixtralConfig

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=97, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    model, examples = AutoModelForCausalLM.from_config(config), random_examples(2)
    with caplog.at_level(logging.WARNING), Features(model, Projection(64)) as features:
        (rows,) = features(examples)
    assert "SLOW PATH" in caplog.text
    assert bool((rows.norm(dim=1) > 0).all())
    with pytest.raises(Unsupported), Features(model, Projection(64), allow_slow=False) as features:
        features(examples)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"target_modules": ["q_proj", "embed_tokens"]}], ids=str)
def test_adapters_without_a_tap_are_looped_over_to_the_same_features(caplog, options):
    """DoRA's magnitudes and LoRA on embeddings."""
    model, examples, projection = tiny_model("llama", **options), random_examples(3), Projection(64)
    with caplog.at_level(logging.WARNING), Features(model, projection) as features:
        (rows,) = features(examples)
    assert "SLOW PATH" in caplog.text
    for row, example in enumerate(examples):
        sums = projection.begin(1)
        for name, g in example_gradients(model, gradient_batch([example]), 0).items():
            projection.add(sums, g.reshape(1, -1).float(), name, 0, g.numel())
        torch.testing.assert_close(rows[row : row + 1], projection.finish(sums), rtol=1e-4, atol=1e-5)


def test_a_non_finite_gradient_is_named_and_zeroed(caplog):
    model, examples = tiny_model("llama"), random_examples(3)
    with torch.no_grad():
        model.get_input_embeddings().weight[int(examples[1].ids[0])] = float("nan")
    with caplog.at_level(logging.WARNING), Features(model, Projection(64)) as features:
        (rows,) = features(examples, names=["ex-0", "ex-1", "ex-2"])
    assert "'ex-1' has a non-finite gradient" in caplog.text
    assert bool(rows.isfinite().all())
    assert float(rows[1].norm()) == 0


def test_adam_without_moments_is_refused():
    with pytest.raises(ValueError, match="needs the optimizer's moments"):
        Features(tiny_model("llama"), Projection(8), "adam_published")
