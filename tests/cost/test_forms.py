"""Laws of the closed forms: published figures, torch's own counter, and how passes add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import (
    CONVENTIONS,
    forward_flops,
    generation_flops,
    lora_flops,
    training_flops,
)

LLAMA_7B = Architecture(32, 4096, 11008, 32, 32, 128, 32000, max_sequence=4096)
TINY = Architecture(2, 64, 96, 4, 2, 16, 50, max_sequence=32)


def test_6nt_is_two_and_six_times_parameters() -> None:
    assert forward_flops(LLAMA_7B, 10, convention="6NT") == 20 * LLAMA_7B.parameters
    assert training_flops(LLAMA_7B, 10, convention="6NT") == 60 * LLAMA_7B.parameters


def test_architectural_is_the_published_sum() -> None:
    d, ff, s, heads, vocab = 4096, 11008, 4096, 32, 32000
    by_hand = 32 * (8 * d * d + 6 * d * ff + 4 * s * d + 3 * heads * s) + 4 * vocab * d
    assert forward_flops(LLAMA_7B, 1) == by_hand


def test_grouped_heads_cost_less_than_multi_head() -> None:
    grouped = replace(LLAMA_7B, kv_heads=8)
    assert forward_flops(grouped, 1) < forward_flops(LLAMA_7B, 1) == forward_flops(grouped.as_multi_head(), 1)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_full_training_is_three_forwards_and_a_frozen_base_two(convention: str) -> None:
    forward = forward_flops(TINY, 1000, 32, convention)
    assert training_flops(TINY, 1000, 32, convention) == 3 * forward
    adapters = 3 * lora_flops(TINY, 1000, 8)
    assert training_flops(TINY, 1000, 32, convention, lora=True, lora_rank=8) == 2 * forward + adapters


@pytest.mark.parametrize("kind", ["forward", "full", "frozen"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_matmul_convention_is_what_torch_counts(family: str, kind: str) -> None:
    """Predicted against measured on tiny models; a first layer's backward skips its input, hence the slack."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    sizes = {
        "llama": {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
                      "num_key_value_heads": 2, "head_dim": 16},
        "gpt2": {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 64},
        "bert": {"num_hidden_layers": 4, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4},
    }[family]  # fmt: skip
    config = transformers.AutoConfig.for_model(family, vocab_size=50, **sizes)
    config._attn_implementation = "eager"  # the fused CPU kernels are counted as nothing
    cls = transformers.AutoModel if family == "bert" else transformers.AutoModelForCausalLM
    model = cls.from_config(config)
    ids = torch.randint(0, 50, (3, 32))
    targets = ("q", "k", "v", "o")
    if kind == "frozen":
        if family != "llama":
            pytest.skip("one family with adapters is enough")
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=[f"{t}_proj" for t in targets]))
    with FlopCounterMode(display=False) as counter:
        out = model(ids)
        if kind != "forward":
            (out.last_hidden_state if family == "bert" else out.logits).sum().backward()
    arch = Architecture.from_config(config)
    if kind == "forward":
        predicted = forward_flops(arch, ids.numel(), 32, "matmul")
    else:
        predicted = training_flops(arch, ids.numel(), 32, "matmul", lora=kind == "frozen", lora_rank=8)
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_generation_adds_up_token_by_token() -> None:
    one_by_one = sum(forward_flops(TINY, 1, t) for t in range(20 + 12))
    assert generation_flops(TINY, 20, 12) == pytest.approx(one_by_one, rel=0.02)


def test_unknown_names_say_what_was_meant() -> None:
    with pytest.raises(ValueError, match="architectural"):
        forward_flops(TINY, 1, convention="architectual")
    with pytest.raises(ValueError, match="negative"):
        forward_flops(TINY, -1)
