"""A tiny Llama on the spot: a byte-level tokenizer learnt on the pool's text and a random model, without any download.

What enters: a pool (or any texts) and a seed. What leaves: a model directory that every stage takes, in the form of a
real one, so that a recipe can be tried from end to end before a real model is named in it. It knows nothing; its scores
are those of chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paydirt.artifacts import Artifact, build
from paydirt.config import Config
from paydirt.data.pool import Pool

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
SAMPLE = 2000  # examples that the tokenizer is learnt on


class TinyConfig(Config):
    """Sizes of the model; the default has about 0.2M parameters and holds prompts of 4,096 tokens."""

    vocabulary: int = 2048
    hidden: int = 32
    layers: int = 2
    heads: int = 4
    length: int = 4096


def tiny_model(pool: Pool, out: Path, seed: int = 0, config: TinyConfig | None = None) -> Artifact:
    """Write the model to `out/model`; the same pool, sizes and seed give the same bytes."""
    config = config or TinyConfig()

    def make(part: Path) -> dict[str, Any]:
        tokenizer = _tokenizer(_texts(pool), config.vocabulary, config.length)
        model = _model(config, len(tokenizer), seed)
        model.save_pretrained(part / "model")
        tokenizer.save_pretrained(part / "model")
        return {"parameters": sum(p.numel() for p in model.parameters()), "vocabulary": len(tokenizer)}

    return build(out, "tiny-model", {**config.to_dict(), "seed": seed}, {"pool": pool.fingerprint}, make)


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
