"""Laws of the closed forms: published figures, torch's own counter, and how passes add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import (
    CONVENTIONS,
    SelectionWork,
    forward_flops,
    generation_flops,
    lora_flops,
    selection_flops,
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


def test_one_task_pays_for_the_store_and_n_tasks_share_it() -> None:
    work = SelectionWork(pool_tokens=1e6, pool_examples=1000, checkpoints=2)
    alone = selection_flops("gradient", work, LLAMA_7B).flops
    shared = selection_flops("gradient", replace(work, tasks=5), LLAMA_7B).flops
    assert shared == pytest.approx(alone / 5)


def test_gradient_parts_are_passes() -> None:
    work = SelectionWork(pool_tokens=1e6, lora=False, checkpoints=3, projection_dim=1)
    cost = selection_flops("less", work, LLAMA_7B)
    forward = forward_flops(LLAMA_7B, 1e6)
    assert cost.parts["pool gradients"] == pytest.approx(9 * forward)
    assert cost.parts["warm-up"] == pytest.approx(0.05 * 4 * 3 * forward)
    assert cost.flops == pytest.approx(sum(cost.parts.values()))


def test_learned_pays_for_its_points_and_a_cascade_its_share() -> None:
    work = SelectionWork(pool_tokens=1e6, pool_examples=4000, references=10, points=1000, proxy_tokens=50)
    full, learned = (selection_flops(name, work, LLAMA_7B) for name in ("gradient", "learned"))
    assert learned.parts["pool gradients"] == pytest.approx(full.parts["pool gradients"] / 4)
    assert learned.parts["warm-up"] == full.parts["warm-up"]
    assert learned.parts["proxy"] == pytest.approx(full.parts["pool gradients"] / 4 * 0.2)  # a checkpoint, a fifth of T
    assert selection_flops("cascade", work, LLAMA_7B).flops == pytest.approx(0.1 * full.flops)


def test_every_family_predicts_and_the_free_ones_are_free() -> None:
    work = SelectionWork(1e6, 1e3, 1e3, 10, 4e5)
    for name in ("random", "length", "bm25", "dsir"):
        assert selection_flops(name, work).flops == 0
    forward = forward_flops(TINY, 1e6)
    assert selection_flops("rds", work, TINY).parts["pool forward"] == forward
    assert selection_flops("ppl", work, TINY).parts["pool forward"] == forward
    assert selection_flops("ifd", work, TINY).flops == pytest.approx(1.6 * forward)
    assert selection_flops("embed", work, replace(TINY, language_head=False), "6NT").flops > 0


def test_generation_adds_up_token_by_token() -> None:
    one_by_one = sum(forward_flops(TINY, 1, t) for t in range(20 + 12))
    assert generation_flops(TINY, 20, 12) == pytest.approx(one_by_one, rel=0.02)


def test_unknown_names_say_what_was_meant() -> None:
    with pytest.raises(ValueError, match="architectural"):
        forward_flops(TINY, 1, convention="architectual")
    with pytest.raises(ValueError, match="gradient"):
        selection_flops("gradeint", SelectionWork(1), TINY)
    with pytest.raises(ValueError, match="selector"):
        selection_flops("ppl", SelectionWork(1))
    with pytest.raises(ValueError, match="negative"):
        forward_flops(TINY, -1)
