"""Tiny randomly initialised models of the families that matter, and random examples for them."""

from __future__ import annotations

import numpy as np
import torch
import transformers as tf
from peft import LoraConfig, get_peft_model
from torch import nn

from paydirt.data.encoding import Encoded

VOCAB = 97
_COMMON = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}

CONFIGS = {
    "llama": lambda: tf.LlamaConfig(**_COMMON, **_HEADS),
    "llama_biased": lambda: tf.LlamaConfig(**_COMMON, **_HEADS, attention_bias=True, mlp_bias=True),
    "qwen2_tied": lambda: tf.Qwen2Config(
        **_COMMON, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True
    ),
    "gemma2": lambda: tf.Gemma2Config(**_COMMON, **_HEADS, sliding_window=8, query_pre_attn_scalar=8),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_COMMON, num_attention_heads=4, max_position_embeddings=128),
    "gpt2": lambda: tf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}
LORA_TARGETS = {"gpt_neox": ["query_key_value", "dense"], "gpt2": ["c_attn", "c_proj"]}


def tiny_model(
    family: str, lora: bool = True, rank: int = 4, seed: int = 0, vocab_size: int = VOCAB, **lora_options
) -> nn.Module:
    torch.manual_seed(seed)
    config = CONFIGS[family]()
    config.vocab_size = vocab_size
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if not lora:
        return model
    targets = LORA_TARGETS.get(family, ["q_proj", "k_proj", "v_proj", "o_proj"])
    options = {"target_modules": targets, "lora_dropout": 0.1, **lora_options}
    config = LoraConfig(r=rank, lora_alpha=2 * rank, fan_in_fan_out=family == "gpt2", **options)
    model = get_peft_model(model, config)
    for name, p in model.named_parameters():  # B starts at zero, which would hide errors in dA
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    return model


def random_examples(n: int, shortest: int = 3, longest: int = 24, seed: int = 0) -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for _ in range(n):
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        ids = torch.randint(0, VOCAB, (length,), generator=generator).tolist()
        prompt = int(torch.randint(1, length, (1,), generator=generator))
        examples.append(Encoded(np.asarray(ids, np.int32), np.arange(length) >= prompt))
    return examples
