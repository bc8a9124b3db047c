"""Reference: losses of a batch are what a plain transformers call gives for each example alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.models import tiny_gpt2, tiny_llama

from paydirt.data.batches import IGNORED, collate, length_bucketed
from paydirt.data.encoding import Encoded
from paydirt.tasks.loss import mean_losses, token_losses


def random_examples(n: int = 17, longest: int = 40, vocab: int = 340) -> list[Encoded]:
    """Examples of 2 to `longest` tokens with random masks; one has nothing supervised."""
    draw = np.random.default_rng(0)
    out = []
    for i in range(n):
        length = int(draw.integers(2, longest + 1))
        mask = draw.random(length) < 0.5 if i else np.zeros(length, dtype=bool)
        out.append(Encoded(draw.integers(3, vocab, length).astype(np.int32), mask))
    return out


def plain_losses(model: torch.nn.Module, example: Encoded) -> np.ndarray:
    """One example, no padding, the model's own logits, torch's cross-entropy."""
    ids = torch.from_numpy(example.ids.astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    each = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    return each.numpy()[example.supervised[1:]]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("token_budget", [1, 64, 4096])
def test_token_losses_equal_one_at_a_time(make, token_budget: int) -> None:
    """Whatever the batch: neither padding nor neighbours enter a loss."""
    model, examples = make(), random_examples()
    batched = token_losses(model, examples, pad_id=0, token_budget=token_budget)
    for got, example in zip(batched, examples):
        expected = plain_losses(model, example)
        assert got.shape == expected.shape == (example.n_supervised,)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_mean_losses_equal_the_loss_that_transformers_trains_on() -> None:
    model, examples = tiny_llama(), random_examples()
    means = mean_losses(token_losses(model, examples, pad_id=0))
    assert np.isnan(means[0]), "nothing supervised has no loss"
    for got, example in list(zip(means, examples))[1:]:
        batch = collate([example], pad_id=0)
        with torch.no_grad():
            expected = model(input_ids=batch.input_ids, labels=batch.labels).loss
        assert got == pytest.approx(float(expected), rel=1e-5)


def test_a_capped_head_is_not_bypassed() -> None:
    """Gemma 2 squashes its logits after the head; a loss taken before that would be another model's."""
    import transformers as tf

    torch.manual_seed(0)
    config = tf.Gemma2Config(
        vocab_size=340, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.5, query_pre_attn_scalar=8, sliding_window=8,
    )  # fmt: skip
    model, examples = tf.Gemma2ForCausalLM(config).eval(), random_examples()
    for got, example in zip(token_losses(model, examples, 0), examples):
        np.testing.assert_allclose(got, plain_losses(model, example), rtol=1e-4, atol=1e-5)


SIZES = {
    "vocab_size": 340, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
SCALED = {
    "granite": ("GraniteConfig", {"logits_scaling": 6.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.3}),
    "granitemoe": ("GraniteMoeConfig", {"logits_scaling": 6.0, "num_local_experts": 2, "num_experts_per_tok": 1}),
    "cohere": ("CohereConfig", {"logit_scale": 0.0625}),
    "cohere2": ("Cohere2Config", {"logit_scale": 0.25}),
    "falcon_h1": ("FalconH1Config", {"lm_head_multiplier": 0.2, "mamba_d_ssm": 32, "mamba_n_heads": 4,
                                     "mamba_d_head": 8, "mamba_d_state": 8}),
    "gemma2": ("Gemma2Config", {"final_logit_softcapping": 0.5, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "llama": ("LlamaConfig", {}),
}  # fmt: skip


@pytest.mark.parametrize("family", SCALED)
def test_losses_are_of_the_models_own_logits(family: str) -> None:
    """Models that multiply, divide or squash what comes out of their head; full logits, example by example."""
    import transformers as tf

    name, more = SCALED[family]
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(getattr(tf, name)(**SIZES, **more)).eval()
    head = model.get_output_embeddings()
    torch.nn.init.normal_(head.weight, std=1.0)  # logits far from equal, so that a wrong scale shows
    examples = random_examples()
    for got, example in zip(token_losses(model, examples, 0), examples):
        np.testing.assert_allclose(got, plain_losses(model, example), rtol=1e-4, atol=1e-4)
    assert not head._forward_pre_hooks, "the model is left as it was"


def test_logits_are_made_only_where_they_are_scored() -> None:
    """The reason for going past the plain call: a head of 340 words sees the supervised positions alone."""
    model, examples, seen = tiny_llama(), random_examples(), []
    model.lm_head.register_forward_hook(lambda module, args, out: seen.append(out.shape[:-1].numel()))
    token_losses(model, examples, 0)
    assert sum(seen) == sum(e.n_supervised for e in examples) + 1, "one more, to count what one costs"


def test_a_lora_model_is_read_through_its_adapters() -> None:
    """An adapter that does something must change the loss, also through the shortcut past the head."""
    from peft import LoraConfig, get_peft_model

    examples = random_examples()
    before = token_losses(tiny_llama(), examples, 0)
    model = get_peft_model(tiny_llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    after = token_losses(model, examples, 0)
    assert max(float(np.abs(a - b).max()) for a, b in zip(after[1:], before[1:])) > 1e-3
    for got, example in zip(after, examples):
        np.testing.assert_allclose(got, plain_losses(model, example), rtol=1e-5, atol=1e-5)


def test_collate_pads_on_the_right_and_supervises_nothing_there() -> None:
    examples = [Encoded(np.asarray([5, 6, 7], np.int32), np.asarray([False, True, True])),
                Encoded(np.asarray([8, 9], np.int32), np.asarray([False, True]))]  # fmt: skip
    batch = collate(examples, pad_id=1)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 9, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.labels.tolist() == [[IGNORED, 6, 7], [IGNORED, 9, IGNORED]]


@pytest.mark.parametrize("budget", [1, 50, 400])
def test_batches_hold_every_row_once_within_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 101)
    groups = length_bucketed(lengths, budget)
    assert sorted(np.concatenate(groups).tolist()) == list(range(101))
    for group in groups:
        assert len(group) == 1 or lengths[group].max() * len(group) <= budget
    tops = [int(lengths[g].max()) for g in groups]
    assert tops == sorted(tops, reverse=True), "longest first"
