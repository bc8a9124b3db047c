"""Peak memory of reading, training and per-example gradients, in bytes, from sizes alone.

Weights, and what training keeps for each trainable parameter: a float32 gradient and two float32 moments (AdamW). What a
pass keeps of every token in a batch, a layer: inputs of the projections, what the feed-forward multiplies, queries, keys,
values and their attention's output, as in Korthikanti et al., arXiv 2205.05198, section 4.1, without the matrix of
attention, which fused kernels do not keep. Logits of a batch are there in the model's precision, in float32 and as
gradient. Allocators and kernels add some: these are estimates, to be held against the ledger's `peak_bytes`.
"""

from __future__ import annotations

from paydirt.cost.architecture import Architecture

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp32": 4, "bf16": 2, "fp16": 2}
QUANTIZED = {"8bit": 1.0, "4bit": 0.5}
LOGITS_AT_ONCE = 128  # positions that a reading pass holds logits of (`models.forward.POSITIONS`)


def weight_bytes(arch: Architecture, dtype: str, quantization: str = "none") -> float:
    """The model itself. Quantised, its tables stay as they are."""
    if quantization == "none":
        return float(arch.parameters * BYTES[dtype])
    return arch.non_embedding_parameters * QUANTIZED[quantization] + arch.embedding_parameters * BYTES[dtype]


def reading_bytes(arch: Architecture, dtype: str, tokens: float, quantization: str = "none") -> float:
    """A forward pass that keeps nothing, over batches of `tokens` padded tokens."""
    alive = tokens * BYTES[dtype] * (4 * arch.hidden + 3 * arch.intermediate + 3 * arch.heads * arch.head_dim)
    logits = LOGITS_AT_ONCE * arch.vocab * (BYTES[dtype] + 4)
    return weight_bytes(arch, dtype, quantization) + alive + (logits if arch.language_head else 0)


def kept_bytes(arch: Architecture, dtype: str, tokens: float, layers: int | None = None) -> float:
    """What a pass of `tokens` keeps for the way back, of the last `layers` layers (None: all)."""
    heads = arch.head_dim * (2 * arch.heads + 2 * arch.kv_heads)
    layer = 4 * arch.hidden + heads + (4 if arch.gated_mlp else 2) * arch.intermediate * arch.active_experts
    norms = 2 * 4 * arch.hidden  # in float32
    kept = tokens * (layer * BYTES[dtype] + norms) * (arch.layers if layers is None else min(layers, arch.layers))
    return float(kept + tokens * arch.vocab * (BYTES[dtype] + 2 * 4))


def training_bytes(
    arch: Architecture,
    dtype: str,
    compute: str,
    tokens: float,
    trainable: float,
    *,
    quantization: str = "none",
    checkpointing: bool = False,
) -> float:
    """Fine-tuning `trainable` parameters with AdamW, `tokens` padded tokens a pass; weights in `dtype`, products in
    `compute`."""
    state = 12.0 * trainable
    if checkpointing:  # the input of each layer, and one layer at a time in full
        whole = kept_bytes(arch, compute, tokens, 1) + tokens * arch.hidden * BYTES[compute] * arch.layers
    else:
        whole = kept_bytes(arch, compute, tokens)
    return weight_bytes(arch, dtype, quantization) + state + whole


def gradient_bytes(
    arch: Architecture, dtype: str, tokens: float, trainable: float, rows: float, k: int, *, moments: bool
) -> float:
    """Per-example gradients: what a pass keeps, activations and gradients at every tapped product, one largest parameter's
    gradients of a batch of `rows`, the projections, and the optimizer's moments where the direction needs them."""
    largest = max(arch.hidden * arch.intermediate, arch.hidden * arch.heads * arch.head_dim) * 4.0
    slab = min(rows * largest, float(1 << 29))
    state = trainable * (8.0 if moments else 0.0)
    return weight_bytes(arch, dtype) + 2 * kept_bytes(arch, dtype, tokens) + state + slab + rows * k * 8.0
