"""Reference: closed forms against operators counted by torch, on tiny models, with the bound of each convention.

Bounds are for models whose vocabulary and attention weigh far more than in real ones; the wide variant is the nearer to
life. `matmul` is what the counter counts; `6NT` leaves attention out and counts embedding tables in; `architectural`
counts both ends of the vocabulary and softmax.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.models import tiny_gpt2, tiny_llama
from support.stages import Tiny

from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import forward_flops, training_flops
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import FlopMeter, count_flops
from paydirt.stages import Workspace

MODELS = {
    "llama": lambda: tiny_llama(),
    "gpt2": lambda: tiny_gpt2(),
    "wide llama": lambda: tiny_llama(hidden_size=128, intermediate_size=256, num_hidden_layers=4, head_dim=32),
    "wide gpt2": lambda: tiny_gpt2(n_embd=128, n_layer=4),
}
# Predicted over measured, forward and training alike: lowest and highest seen here, with a little slack.
BOUNDS = {"matmul": (0.9, 1.01), "architectural": (1.0, 1.4), "6NT": (0.55, 1.25)}
LORA_BOUNDS = {"matmul": (0.7, 1.01), "architectural": (0.85, 1.25), "6NT": (0.45, 1.05)}
SHAPES = [(1, 64), (4, 64), (2, 256)]


def batch(shape: tuple[int, int]) -> torch.Tensor:
    return torch.randint(3, 340, shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", MODELS)
def test_forward_and_full_training(kind: str, shape: tuple[int, int], attention: str) -> None:
    """Whichever attention kernel runs: a fused one must not count as nothing."""
    model = MODELS[kind]()
    model.set_attn_implementation(attention)
    ids, arch = batch(shape), Architecture.from_config(model.config)
    with torch.no_grad():
        forward, _ = count_flops(lambda: model(input_ids=ids).logits)
    training, _ = count_flops(lambda: model(input_ids=ids, labels=ids).loss.backward())
    for convention, (low, high) in BOUNDS.items():
        assert low <= forward_flops(arch, ids.numel(), shape[1], convention) / forward <= high, convention
        assert low <= training_flops(arch, ids.numel(), shape[1], convention) / training <= high, convention
    assert forward_flops(arch, ids.numel(), shape[1], "matmul") == pytest.approx(forward, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["llama", "wide llama"])
def test_lora_training(kind: str, shape: tuple[int, int]) -> None:
    """A frozen base saves the weights' gradients, not attention's: long texts cost more than the form says."""
    config = LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    model = get_peft_model(MODELS[kind](), config)
    ids, arch = batch(shape), Architecture.from_config(model.config)
    measured, _ = count_flops(lambda: model(input_ids=ids, labels=ids).loss.backward())
    for convention, (low, high) in LORA_BOUNDS.items():
        predicted = training_flops(arch, ids.numel(), shape[1], convention, lora=True, lora_rank=8)
        assert low <= predicted / measured <= high, convention


def test_a_product_is_counted_by_hand() -> None:
    """[3, 5] x [5, 7]: 2 x 3 x 5 x 7, and work returns what it returned."""
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    flops, result = count_flops(lambda: left @ right)
    assert flops == 210
    torch.testing.assert_close(result, torch.full((3, 7), 5.0))


def test_the_meter_scales_sampled_calls_by_weight() -> None:
    """Two of four calls are counted; the rest cost in proportion to their tokens."""
    meter = FlopMeter(sample=2)
    for rows in (1, 3, 5, 7):
        meter.run(lambda rows=rows: torch.ones(rows, 5) @ torch.ones(5, 7), weight=rows)
    assert meter.flops == 2 * 5 * 7 * (1 + 3 + 5 + 7)
    meter.add(1000.0)
    assert meter.flops == 2 * 5 * 7 * 16 + 1000
    assert FlopMeter().flops == 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_ledger_of_a_training_holds_both(tiny: Tiny, tmp_path: Path, method: str) -> None:
    """Predicted over real tokens, measured over padded ones: padding is all of the gap that `matmul` leaves."""
    training = {"method": method, "lora": {"r": 4, "alpha": 8}, "batch_size": 4, "epochs": 2, "group_by_length": True}
    made = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), training, convention="matmul")
    [entry] = Ledger(made.path).entries()
    assert entry.stage == "train"
    assert entry.finished
    assert entry.measured_flops
    assert entry.predicted_flops == made.notes["predicted_flops"]["matmul"] > 0
    assert entry.seconds > 0
    assert entry.peak_bytes > 0
    assert 0.55 < entry.predicted_flops / entry.measured_flops < 1.02
    assert entry.tokens >= 2 * made.notes["tokens"], "padding can only add"
    steps = json.loads((made.path / "train.json").read_text())["steps"]
    assert steps == made.notes["steps"] == 2 * 15


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("llama", ("gate_proj", "up_proj", "down_proj")),
        ("gpt2", ("c_attn", "c_proj")),
        ("gpt2", ("c_attn", "c_fc")),
        ("gpt_neox", ("query_key_value", "dense")),
        ("gpt_neox", ("dense_h_to_4h", "dense_4h_to_h")),
        ("phi3", ("qkv_proj", "gate_up_proj")),
        ("opt", ("q_proj", "out_proj", "fc1", "fc2")),
    ],
)
def test_adapters_have_the_parameters_that_peft_makes(family: str, targets: tuple[str, ...]) -> None:
    """By the names that each family gives its modules: a LoRA training is priced whatever the model is called."""
    import transformers as tf

    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    if family == "gpt2":
        sizes = {"n_layer": 2, "n_embd": 32, "n_head": 4, "n_inner": 48}
    if family == "opt":
        sizes |= {"ffn_dim": 48, "word_embed_proj_dim": 32}
    config = tf.AutoConfig.for_model(family, vocab_size=50, pad_token_id=0, **sizes)
    model = get_peft_model(tf.AutoModelForCausalLM.from_config(config), LoraConfig(r=4, target_modules=list(targets)))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert Architecture.from_config(config).lora_parameters(4, targets) == trainable


def test_an_unknown_module_name_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown LoRA target 'in_proj'; known here: .*c_attn"):
        Architecture.from_config(tiny_llama().config).lora_parameters(4, ("in_proj",))
