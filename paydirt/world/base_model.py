"""The world's base model: a small Llama, pre-trained on the spot on the general mixture.

Enters: documents and a tokenizer. Leaves: a `LlamaForCausalLM` of about 0.9M parameters. Everything is counted in
steps, never in seconds, and runs in one thread, so that the same seed gives the same model however many cores there
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from paydirt.models.pretrain import Schedule, pack, pretrain


@dataclass(frozen=True)
class PretrainConfig(Schedule):
    """Size and schedule. 800 steps of 8 x 64 tokens take about 45 s on one core; larger batches did worse."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    intermediate: int = 344
    steps: int = 1700
    batch: int = 8
    length: int = 48
    init: float = 0.1


def pretrain_base_model(
    documents: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    config: PretrainConfig | None = None,
    progress: bool = True,
) -> LlamaForCausalLM:
    """Pre-train from scratch on `documents`, packed end to end; AdamW, linear decay after a short warm-up.

    The documents are read in order and again from the front when they run out.
    """
    config = config or PretrainConfig()
    rows = pack(documents, tokenizer, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one fixed order: the same model on 1 core and on 64
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_llama_config(tokenizer, config))
            pretrain(model, rows, config, progress)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _llama_config(tokenizer: PreTrainedTokenizerFast, config: PretrainConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=512,
        initializer_range=config.init,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
