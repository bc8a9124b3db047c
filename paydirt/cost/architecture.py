"""The facts about a transformer that its cost depends on, read from a config and never from weights.

In: a `transformers` config object, its dict, a `config.json` or the folder that holds one. Out: a frozen
`Architecture`. No torch import, so costs can be printed on a machine that could not load the model.

Families name the same thing differently (`n_embd`, `d_model`, `dim` ...); `FIELD_NAMES` lists the spellings, first hit
wins. What a config leaves out follows the family's own default: `kv_heads = heads`, `head_dim = d / heads`,
`d_ff = 4 d` (GPT-2 and GPT-Neo leave it empty).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "intermediate": ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner", "d_ff", "hidden_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim", "d_kv"),
    "vocab": ("vocab_size",),
    "max_sequence": ("max_position_embeddings", "n_positions", "seq_length", "n_ctx"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "active_experts": ("num_experts_per_tok",),
    "shared_experts": ("n_shared_experts",),
    "expert_intermediate": ("moe_intermediate_size",),
}

ENCODERS = {"albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "nomic_bert",
            "roberta", "t5", "mt5", "xlm-roberta"}  # fmt: skip
PLAIN_MLP = {"bert", "bloom", "camembert", "codegen", "deberta-v2", "distilbert", "electra", "falcon", "gpt2",
             "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpnet", "mpt", "opt", "phi", "roberta", "starcoder2",
             "xlm-roberta"}  # fmt: skip
ABSOLUTE_POSITIONS = {"bert", "camembert", "distilbert", "electra", "gpt2", "gpt_neo", "mpnet", "opt", "roberta",
                      "xlm-roberta"}  # fmt: skip
BIASED = {"bert", "camembert", "distilbert", "electra", "gpt2", "gpt_neox", "mpnet", "opt", "phi", "roberta",
          "xlm-roberta"}  # fmt: skip

# Modules that families call otherwise than `q_proj`, `up_proj` ...: what they project. GPT-2 has two `c_proj` a layer.
MODULE_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("c_attn", "query_key_value", "qkv_proj", "Wqkv", "W_pack"), ("qkv",)),
    **dict.fromkeys(("dense", "out_proj"), ("o",)),
    **dict.fromkeys(("c_fc", "fc1", "fc_in", "dense_h_to_4h"), ("up",)),
    **dict.fromkeys(("fc2", "fc_out", "dense_4h_to_h"), ("down",)),
    "c_proj": ("o", "down"),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of one transformer. Mixture-of-experts: `intermediate` is one expert's, all others are counted once."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied_embeddings: bool = False
    gated_mlp: bool = True
    max_sequence: int = 2048
    experts: int = 1
    active_experts: int = 1
    language_head: bool = True  # False for the encoders that embed: they never multiply by the vocabulary
    position_table: int = 0  # rows of a learned position embedding
    bias: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab", "experts"):
            if getattr(self, field) < 1:
                raise ValueError(f"architecture {self.name!r}: {field} is {getattr(self, field)}, expected at least 1")

    @property
    def attention_parameters(self) -> int:
        """Query, key, value and output weights of one layer, grouped key-value heads counted as they are."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> int:
        """Weights of one expert (the whole feed-forward where there is one): 3 d d_ff gated, 2 d d_ff plain."""
        return (3 if self.gated_mlp else 2) * self.hidden * self.intermediate

    @property
    def embedding_parameters(self) -> int:
        """Token table, position table, and the language head where it has its own weights."""
        own_head = self.language_head and not self.tied_embeddings
        return self.hidden * (self.vocab * (2 if own_head else 1) + self.position_table)

    @property
    def non_embedding_parameters(self) -> int:
        """Everything but the tables: attention, every expert, router, norms, biases."""
        return self._blocks(self.experts)

    @property
    def parameters(self) -> int:
        """All parameters, as one would download them."""
        return self.non_embedding_parameters + self.embedding_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters one token passes through; equals `parameters` unless the model is a mixture of experts."""
        return self._blocks(self.active_experts) + self.embedding_parameters

    def _blocks(self, experts: int) -> int:
        d = self.hidden
        norms = 2 * d * (2 if self.bias else 1)
        bias = (self.heads + 2 * self.kv_heads) * self.head_dim + 2 * d + self.intermediate if self.bias else 0
        router = d * self.experts if self.experts > 1 else 0
        layer = self.attention_parameters + experts * self.mlp_parameters + norms + bias + router
        return self.layers * layer + (2 * d if self.bias else d)

    def lora_parameters(self, rank: int, targets: tuple[str, ...] = ("q", "k", "v", "o")) -> int:
        """Trainable parameters of LoRA on the named modules: r (d_in + d_out) each (arXiv 2106.09685).

        Names are those of the modules (`q_proj`, GPT-2's `c_attn`, ...) or short (`q`). ValueError for unknown ones.
        """
        d, q, kv, ff = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate
        sizes = {"q": d + q, "k": d + kv, "v": d + kv, "o": q + d, "qkv": d + q + 2 * kv}
        mlp = (d + ff) * self.active_experts
        sizes |= {"up": mlp, "down": mlp, "gate_up": (d + 2 * ff) * self.active_experts}
        sizes |= {"gate": mlp} if self.gated_mlp else {}
        total = 0
        for name in targets:
            parts = MODULE_NAMES.get(name, (name.removesuffix("_proj"),))
            if any(part not in sizes for part in parts):
                known = sorted({*sizes, *(f"{s}_proj" for s in sizes), *MODULE_NAMES})
                raise ValueError(f"unknown LoRA target {name!r}; known here: {', '.join(known)}")
            total += sum(sizes[part] for part in parts)
        return self.layers * rank * total

    def as_multi_head(self) -> Architecture:
        """The same model with full multi-head attention, as the published cost figures count Llama-2-70B."""
        return replace(self, kv_heads=self.heads)

    @classmethod
    def from_config(cls, config: Any) -> Architecture:
        """Read a transformers config, dict, `config.json` or its folder; ValueError names the field that is missing."""
        return _from_mapping(_as_mapping(config))


def _as_mapping(config: Any) -> Mapping[str, Any]:
    if isinstance(config, (str, Path)):
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        if not path.is_file():
            raise ValueError(f"no model config at {path}; give a config.json or the folder that holds one")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON that can be read: {error}; fetch it again") from error
    elif not isinstance(config, Mapping):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ValueError(f"a model config is a mapping of names to values, not {type(config).__name__}")
    # Vision-language configs nest the language model; only that part is tuned on text.
    nested = config.get("text_config")
    if isinstance(nested, Mapping) and not any(name in config for name in FIELD_NAMES["layers"]):
        return {**nested, "model_type": nested.get("model_type", config.get("model_type", ""))}
    return config


def _from_mapping(config: Mapping[str, Any]) -> Architecture:
    family = str(config.get("model_type", ""))
    name = str(config.get("_name_or_path") or family or "model")

    def read(field: str, default: int | None = None) -> int:
        for spelling in FIELD_NAMES[field]:
            value = config.get(spelling)
            if isinstance(value, (list, tuple)) and value:
                value = max(value)  # per-layer lists (Gemma 3n): the largest, so that cost is never under-stated
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                return int(value)
        if default is None:
            raise ValueError(f"config of {name!r} has none of {', '.join(FIELD_NAMES[field])}; cannot tell its {field}")
        return default

    hidden, heads = read("hidden"), read("heads")
    experts = read("experts", 1)
    intermediate = read("intermediate", 4 * hidden)
    if experts > 1:
        intermediate = read("expert_intermediate", intermediate)
    kv_heads = read("kv_heads", heads)
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        kv_heads = 1
    encoder = family in ENCODERS
    gated = bool(config["is_gated_act"]) if "is_gated_act" in config else family not in PLAIN_MLP
    positions = read("max_sequence", 2048)
    tied = config.get("tie_word_embeddings")
    return Architecture(
        layers=read("layers"),
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=read("head_dim", hidden // heads),
        vocab=read("vocab"),
        tied_embeddings=bool(tied) if tied is not None else family in {"gemma", "gemma2", "gpt2", "opt", "bloom"},
        gated_mlp=gated,
        max_sequence=positions,
        experts=experts,
        active_experts=(read("active_experts", 1) + read("shared_experts", 0)) if experts > 1 else 1,
        language_head=not encoder,
        position_table=positions if family in ABSOLUTE_POSITIONS else 0,
        bias=family in BIASED,
        name=name,
    )
