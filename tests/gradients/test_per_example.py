"""Law: a batched per-example gradient is the gradient of that example alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from paydirt.data.encoding import Encoded
from paydirt.gradients.batches import GradientBatch, gradient_batch
from paydirt.gradients.per_example import PerExample, trainable
from paydirt.gradients.plain import batched_gradients, check_attention, check_model, example_gradients
from paydirt.gradients.taps import Unsupported

from .tiny import CONFIGS, random_examples, tiny_model

TOLERANCE = 1e-4


def assert_batched_equals_loop(model: nn.Module, batch: GradientBatch, merge: bool = True) -> None:
    check = check_model(model, [batch], merge)
    assert check.passed(TOLERANCE), str(check)
    assert len(check.errors) == len(trainable(model))


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_batched_equals_loop(family, lora):
    assert_batched_equals_loop(tiny_model(family, lora), gradient_batch(random_examples(4)))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_without_merged_weights(family):
    assert_batched_equals_loop(tiny_model(family), gradient_batch(random_examples(3)), merge=False)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing(family, lora):
    model = tiny_model(family, lora)
    batch = gradient_batch(random_examples(3))
    expected = example_gradients(model, batch, 1)
    model.gradient_checkpointing_enable()
    model.train()
    with PerExample(model) as runner:
        got = batched_gradients(runner, batch)
    for name, exact in expected.items():
        torch.testing.assert_close(got[name][1], exact.flatten(), rtol=1e-4, atol=1e-6)
    assert model.training


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "lm_head"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"lora_bias": True},
        {"bias": "lora_only"},
        {"use_rslora": True},
    ],
    ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()),
)
def test_lora_variants(options):
    family = "llama_biased"
    assert_batched_equals_loop(tiny_model(family, **options), gradient_batch(random_examples(3)))


def test_sdpa_attention_and_bfloat16_stay_close():
    model = tiny_model("llama")
    model.set_attn_implementation("sdpa")
    assert_batched_equals_loop(model, gradient_batch(random_examples(4)))
    assert check_model(model.to(torch.bfloat16), [gradient_batch(random_examples(4))]).passed()


def test_float16_does_not_lose_small_gradients():
    assert check_model(tiny_model("llama").to(torch.float16), [gradient_batch(random_examples(4))]).passed()


def test_every_attention_backend_is_checked_and_the_own_one_restored():
    model = tiny_model("llama")
    checks = check_attention(model, [gradient_batch(random_examples(3))], ("eager", "sdpa", "flash_attention_2"))
    assert [check.passed() for check in checks] == [True, True, False]
    assert "flash_attention_2" in str(checks[2])
    assert model.config._attn_implementation == "eager"


class Quantised(nn.Module):
    """Stands in for a bitsandbytes layer: an int8 weight that only its own forward can use."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = float(linear.weight.abs().max()) / 127
        self.weight = nn.Parameter((linear.weight / self.scale).round().to(torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale).T


def test_a_quantised_base_is_used_through_its_own_forward_only():
    model = tiny_model("llama")
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.base_layer = Quantised(module.base_layer)
    assert_batched_equals_loop(model, gradient_batch(random_examples(3)))


def test_a_gradient_depends_on_nothing_but_its_example():
    """Batch size, padding and order: within 1e-5 of the gradient's size in float32."""
    model = tiny_model("llama")
    examples = random_examples(6)
    with PerExample(model) as runner:
        together = batched_gradients(runner, gradient_batch(examples))
        backwards = batched_gradients(runner, gradient_batch(examples[::-1]))
        alone = [batched_gradients(runner, gradient_batch([example])) for example in examples]
        padded = batched_gradients(
            runner, gradient_batch([examples[0], Encoded(np.full(100, 5), np.ones(100, dtype=bool))])
        )
    for name, rows in together.items():
        scale = float(rows.norm(dim=1).max())
        torch.testing.assert_close(backwards[name].flip(0), rows, rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(torch.cat([one[name] for one in alone]), rows, rtol=0, atol=1e-5 * scale)
        torch.testing.assert_close(padded[name][0], rows[0], rtol=0, atol=1e-5 * scale)


def test_small_pieces_give_the_same_gradients():
    model = tiny_model("qwen2_tied", lora=False)
    batch = gradient_batch(random_examples(5))
    with PerExample(model) as whole:
        expected = batched_gradients(whole, batch)
    with PerExample(model, max_elements=1) as pieces:
        got = batched_gradients(pieces, batch)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-7)


def test_the_model_is_left_as_it_was():
    model = tiny_model("llama", lora_dropout=0.5)
    model.train()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    next(p for p in model.parameters() if p.requires_grad).grad = torch.ones(4, 32)
    with PerExample(model) as runner:
        batched_gradients(runner, gradient_batch(random_examples(2)))
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    assert all("forward" not in vars(m) for m in model.modules())
    assert model.training
    assert [p.grad.sum() for p in model.parameters() if p.grad is not None] == [128]


def test_a_parameter_used_twice_in_one_pass_is_summed():
    model = tiny_model("llama", lora=False)
    model.model.layers[1] = model.model.layers[0]  # the same block runs twice
    assert_batched_equals_loop(model, gradient_batch(random_examples(3)))


def test_a_parameter_used_outside_its_module_is_refused():
    model = tiny_model("llama", lora=False)
    proj = model.model.layers[0].self_attn.q_proj
    original = model.model.norm.forward
    model.model.norm.forward = lambda x: original(x) + proj.weight.sum()
    with PerExample(model) as runner, pytest.raises(Unsupported, match="q_proj"):
        runner.run(gradient_batch(random_examples(2)), lambda *a: None)


def test_mixture_of_experts_is_refused_by_name():
    from transformers import AutoModelForCausalLM, MixtralConfig

    config = MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    check = check_model(AutoModelForCausalLM.from_config(config), [gradient_batch(random_examples(2))])
    assert "mlp" in check.unsupported
    assert not check.passed()


def test_examples_without_supervision_are_named():
    said, mute = random_examples(1)[0], Encoded(np.asarray([1, 2, 3]), np.asarray([True, False, False]))
    with pytest.raises(ValueError, match="example 1 of a batch has no supervised token"):
        gradient_batch([said, mute])
