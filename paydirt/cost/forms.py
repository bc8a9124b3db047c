"""Closed forms for the FLOPs of passes: reading, training, generating. A multiply-add counts 2.

Conventions (all three are named in every table and ledger line, because they differ by up to 40 %):

- `6NT`: forward 2 P T, training 6 P T (Kaplan et al., arXiv 2001.08361, section 2.1). P counts all active parameters.
- `architectural`: per token and layer 8 d^2 + 6 d d_ff + 4 s d + 3 H s, plus 4 V d for both ends of the vocabulary;
  the form behind the published x-axis (arXiv 2410.16208), full attention over s positions, softmax included. Grouped
  key-value heads, plain feed-forwards and experts are counted as they are; on a multi-head gated model it is the
  published sum to the digit.
- `matmul`: matrix products alone: 2 x weights that multiply, 4 s H d_head for attention, 2 V d for the head. This is
  what torch's FlopCounterMode counts, so it is the one to hold against a measurement.

Passes: backward costs twice a forward; with a frozen base only the half that carries activations back is paid, so
training is 2 forwards plus the adapters' own 6 P_lora T (Hu et al., arXiv 2106.09685, for the frozen base).
"""

from __future__ import annotations

from collections.abc import Callable

from paydirt.cost.architecture import Architecture
from paydirt.cost.lookup import find

DEFAULT_CONVENTION = "architectural"


def _six_n(arch: Architecture, seq_len: float) -> float:
    return 2.0 * arch.active_parameters


def _architectural(arch: Architecture, seq_len: float) -> float:
    weights = 2 * (arch.attention_parameters + arch.active_experts * arch.mlp_parameters)
    attention = 4 * seq_len * arch.heads * arch.head_dim + 3 * arch.heads * seq_len
    ends = 4 * arch.vocab * arch.hidden if arch.language_head else 0
    return arch.layers * (weights + attention) + ends


def _matmul(arch: Architecture, seq_len: float) -> float:
    weights = 2 * (arch.attention_parameters + arch.active_experts * arch.mlp_parameters)
    router = 2 * arch.hidden * arch.experts if arch.experts > 1 else 0
    head = 2 * arch.vocab * arch.hidden if arch.language_head else 0
    return arch.layers * (weights + router + 4 * seq_len * arch.heads * arch.head_dim) + head


PER_TOKEN: dict[str, Callable[[Architecture, float], float]] = {
    "6NT": _six_n,
    "architectural": _architectural,
    "matmul": _matmul,
}
CONVENTIONS = tuple(PER_TOKEN)


def forward_flops(
    arch: Architecture, tokens: float, seq_len: float | None = None, convention: str = DEFAULT_CONVENTION
) -> float:
    """FLOPs of one forward pass over `tokens`, each attending to `seq_len` positions (None: the model's maximum).

    Padded positions cost as much as real ones: give padded tokens and padded length to hold it against a measurement.
    """
    per_token = find(PER_TOKEN, convention, "cost convention")
    if tokens < 0:
        raise ValueError(f"tokens must not be negative, not {tokens}")
    return float(tokens) * per_token(arch, float(arch.max_sequence if seq_len is None else seq_len))


def lora_flops(arch: Architecture, tokens: float, rank: int, targets: tuple[str, ...] = ("q", "k", "v", "o")) -> float:
    """Forward FLOPs of the adapters alone, 2 P_lora T; their backward is twice that."""
    return 2.0 * arch.lora_parameters(rank, targets) * tokens


def training_flops(
    arch: Architecture,
    tokens: float,
    seq_len: float | None = None,
    convention: str = DEFAULT_CONVENTION,
    *,
    lora: bool = False,
    lora_rank: int = 128,
    lora_targets: tuple[str, ...] = ("q", "k", "v", "o"),
    epochs: float = 1.0,
) -> float:
    """FLOPs of forward and backward over `tokens` x `epochs`: 3 forwards in full, 2 plus the adapters with `lora`.

    The published figures charge 3 forwards although they tune LoRA; leave `lora` False to reproduce them.
    """
    seen = tokens * epochs
    forward = forward_flops(arch, seen, seq_len, convention)
    return 2 * forward + 3 * lora_flops(arch, seen, lora_rank, lora_targets) if lora else 3 * forward


def generation_flops(
    arch: Architecture, prompt_tokens: float, new_tokens: float, convention: str = DEFAULT_CONVENTION
) -> float:
    """FLOPs to read one prompt and write `new_tokens` with a key-value cache.

    Position t attends to t earlier ones, so the mean context is half the prompt while reading it, and the prompt plus
    half the answer while writing.
    """
    reading = forward_flops(arch, prompt_tokens, prompt_tokens / 2, convention)
    return reading + forward_flops(arch, new_tokens, prompt_tokens + new_tokens / 2, convention)
