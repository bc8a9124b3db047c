"""A tiny Llama and its byte-level tokenizer, made on the spot from a config: no download, a second to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, WordLevel

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SOME_TEXT = [
    "What is 3 plus 4? The answer is 7. Name the capital of France: Paris.",
    "Sort these words: pear, apple, fig. Count the letters. Reverse the list. <|user|> <|assistant|> [INST] [/INST]",
]


def byte_tokenizer(
    *, pad: bool = True, eos: bool = True, prepend_bos: bool = False, extra: tuple[str, ...] = (), **options: Any
) -> tf.PreTrainedTokenizerFast:
    """Byte-level BPE of a few merges: any text has tokens, and tokens have exact character offsets."""
    special = [PAD, BOS, EOS, *extra]
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        SOME_TEXT * 4,
        trainers.BpeTrainer(
            vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    if prepend_bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, core.token_to_id(BOS))]
        )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS if eos else None,
        pad_token=PAD if pad else None,
        additional_special_tokens=list(extra),
        clean_up_tokenization_spaces=False,
        **options,
    )


def word_tokenizer(text: str, special: tuple[str, ...] = (PAD, BOS, EOS)) -> tf.PreTrainedTokenizerFast:
    """One token for each word or sign of `text`, newline included: masks can be written by hand."""
    split = pre_tokenizers.Split(Regex(r"\n|[^\s]+"), "removed", invert=True)
    words = [w for w, _ in split.pre_tokenize_str(text)]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*special, "<unk>", *words]))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = split
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token="<unk>"
    )


def metaspace_tokenizer(text: str) -> tf.PreTrainedTokenizerFast:
    """Sentence-piece manner, as Llama 2: the space before a word is part of its token."""
    core = Tokenizer(BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace()
    core.train_from_iterator([text] * 50, trainers.BpeTrainer(special_tokens=[PAD, BOS, EOS, "<unk>"]))
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token="<unk>"
    )


def tiny_llama(vocab: int = 340, seed: int = 0, **sizes: Any) -> tf.LlamaForCausalLM:
    """A random Llama of 2 layers with grouped heads."""
    torch.manual_seed(seed)
    config = tf.LlamaConfig(
        **{
            "vocab_size": vocab,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **sizes,
        }
    )
    return tf.LlamaForCausalLM(config).eval()


def tiny_gpt2(vocab: int = 340, seed: int = 0, **sizes: Any) -> tf.GPT2LMHeadModel:
    """A random GPT-2 of 2 layers: learned positions, fused projections with other names than Llama's."""
    torch.manual_seed(seed)
    config = tf.GPT2Config(
        **{"vocab_size": vocab, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, **sizes},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return tf.GPT2LMHeadModel(config).eval()


def save(model: Any, tokenizer: Any, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return Path(directory)


def save_tiny_llama(directory: Path) -> Path:
    return save(tiny_llama(), byte_tokenizer(), directory)
