"""A tiny Llama on the spot: a byte-level tokenizer learnt on the pool's text and a model, without any download.

What enters: a pool and a seed. What leaves: a model directory that every stage takes, in the form of a real one, so that
a recipe can be tried from end to end before a real model is named in it. With `steps` 0 its weights are random and its
scores those of chance; with some hundreds it has learnt the pool's words, which gives gradients a direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from paydirt.core.artifacts import Artifact, Replace, build
from paydirt.core.config import Config
from paydirt.data.pool import Pool

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
SMALLEST = 259  # the tokenizer's 256 bytes and 3 signs
SAMPLE = 2000  # examples that the tokenizer is learnt on


class TinyConfig(Config):
    """Sizes of the model; the default has about 0.2M parameters and holds prompts of 4,096 tokens."""

    vocabulary: int = Field(2048, ge=SMALLEST, le=1 << 20, description="tokens that the tokenizer knows")
    hidden: int = Field(32, ge=4, le=1 << 14, description="width")
    layers: int = Field(2, ge=1, le=1000, description="layers")
    heads: int = Field(4, ge=1, description="attention heads")
    length: int = Field(4096, ge=1, description="tokens of the longest text")
    steps: int = Field(0, ge=0, le=1_000_000, description="of pre-training on the pool, 4,096 tokens each")

    @model_validator(mode="after")
    def _heads(self) -> TinyConfig:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden must be a multiple of {2 * self.heads}, twice the heads; got {self.hidden}")
        return self


def tiny_model(
    pool: Pool,
    out: Path,
    seed: int = 0,
    config: TinyConfig | None = None,
    told: dict[str, Any] | None = None,
    replace: Replace = "nothing",
) -> Artifact:
    """Write the model to `out/model`; the same pool, sizes and seed give the same bytes.

    With `steps`, on the same number of threads.
    """
    config = config or TinyConfig()

    def make(part: Path) -> dict[str, Any]:
        tokenizer = _tokenizer(_texts(pool), config.vocabulary, config.length)
        model = _model(config, len(tokenizer), seed)
        loss = _pretrain(model, tokenizer, pool, config.steps, seed) if config.steps else None
        model.save_pretrained(part / "model")
        tokenizer.save_pretrained(part / "model")
        facts = {"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": len(tokenizer)}
        return facts | {"training_loss": loss, "loss_of_chance": math.log(len(tokenizer)), "pool": pool.account()}

    how = {**config.to_dict(), "seed": seed}
    libraries = ["numpy", "torch", "transformers", "tokenizers"]
    inputs = {"pool": pool.fingerprint, "rows": pool.order}  # the tokenizer is learnt on every so-manieth row
    return build(out, "tiny-model", told or how, inputs, make, how, libraries=libraries, replace=replace)


def _pretrain(model: Any, tokenizer: Any, pool: Pool, steps: int, seed: int) -> float:
    """Pre-train in place on a seeded sample of the pool; returns the loss of the last tenth in nats."""
    import numpy as np
    import torch

    from paydirt.models.pretrain import Schedule, pack, pretrain

    schedule = Schedule(steps=steps)
    order = np.random.default_rng(seed).permutation(len(pool))
    documents: list[str] = []
    for start in range(0, len(order), 4096):
        examples = pool.take(order[start : start + 4096])
        documents += ["\n".join(message.content for message in example.messages) for example in examples]
        if sum(map(len, documents)) > 8 * schedule.tokens:  # a token is seldom longer than 8 characters
            break
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss = pretrain(model, pack(documents, tokenizer, schedule), schedule)
    model.eval()
    return loss


def _texts(pool: Pool) -> Iterator[str]:
    step = max(1, len(pool) // SAMPLE)
    for row in range(0, len(pool), step):
        yield "\n".join(message.content for message in pool.example(row).messages)


def _tokenizer(texts: Iterator[str], vocabulary: int, length: int) -> Any:
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[PAD, BOS, EOS], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
        model_max_length=length,
    )


def _model(config: TinyConfig, vocabulary: int, seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden,
        intermediate_size=2 * config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.length,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(sizes).eval()
