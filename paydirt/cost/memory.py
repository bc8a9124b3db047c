"""How much memory a model takes on an accelerator: scoring, LoRA gradients, training, by closed form.

Enters: an `Architecture` of the Llama kind (RMS norms, gated feed-forward, fused attention that keeps no T x T matrix), the
padded tokens of a batch, bytes a number (2 for bfloat16). Leaves: bytes by part. Activations are what autograd keeps for the
backward pass, counted operation by operation; tests/cost/test_memory.py compares them with what it does keep. What the
allocator wastes, CUDA's own context (about 0.5 GB) and a launcher's buffers come on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from paydirt.cost.architecture import Architecture

ATTENTION = ("q", "k", "v", "o")
POSITIONS = 128  # logits at a time in forward passes
SLAB = 1 << 27  # float32 gradient entries that are projected at a time on a GPU


@dataclass(frozen=True)
class Memory:
    """Bytes by part, all there at the height of a pass."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def scoring_memory(model: Architecture, tokens: int, size: int = 2) -> Memory:
    """A forward pass without gradients: perplexity, hidden states."""
    layer = size * (2 * model.hidden + 3 * model.intermediate) + 4 * model.hidden
    logits = POSITIONS * model.vocab * (size + 8)
    return Memory({"weights": size * model.parameters, "one layer": tokens * layer, "logits": logits})


def gradient_memory(
    model: Architecture,
    tokens: int,
    rank: int = 128,
    targets: tuple[str, ...] = ATTENTION,
    k: int = 8192,
    size: int = 2,
    kept: bool = True,
) -> Memory:
    """Per-example LoRA gradients in an optimizer's direction, sketched to k numbers.

    With `kept` false, activations are recomputed layer by layer. The adapted weights are there twice: a copy has the
    adapter merged. Trainable parameters are float32, their two moments too, a sign is a byte.
    """
    trainable = model.lora_parameters(rank, targets)
    layer = tokens * kept_by_gradients(model, size)
    whole = layer * model.layers if kept else layer + tokens * size * model.hidden * model.layers
    return Memory(
        {
            "weights": size * model.parameters,
            "merged copies": size * model.layers * model.attention_parameters,
            "adapter, moments, signs": (4 + 8 + 1) * trainable,
            "activations": whole,
            "logits": tokens * model.vocab * (2 * size + 12),
            "slabs of gradients": 3 * 4 * SLAB + 8 * k * tokens / 32,  # of 32 tokens and more an example
        }
    )


def training_memory(
    model: Architecture, tokens: int, rank: int | None = None, targets: tuple[str, ...] = ATTENTION, size: int = 2
) -> Memory:
    """AdamW in mixed precision: all weights in float32 (`rank` None), or LoRA on a base of `size` bytes a weight.

    Full training keeps float32 weights, gradients and two moments, and a copy of `size` bytes that products are made of.
    """
    if rank is None:
        held = {
            "weights, gradients, moments": 16.0 * model.parameters,
            "weights to compute with": size * model.parameters,
        }
        layer = kept_by_training(model, size)
    else:
        trainable = model.lora_parameters(rank, targets)
        held = {"weights": float(size * model.parameters), "adapter, gradients, moments": 16.0 * trainable}
        q = model.heads * model.head_dim
        inputs = {"q": model.hidden, "k": model.hidden, "v": model.hidden, "o": q}
        # peft gives each adapted module its own float32 input, a byte of dropout mask, and r numbers in between.
        own = sum(5 * inputs.get(name.removesuffix("_proj"), model.hidden) + 4 * rank for name in targets)
        layer = kept_by_gradients(model, size) + own
    return Memory(
        {**held, "activations": tokens * layer * model.layers, "logits": tokens * model.vocab * (2 * size + 12)}
    )


def kept_by_gradients(model: Architecture, size: int) -> float:
    """Bytes a token and layer that a backward pass through frozen weights needs.

    Two norms keep their input in float32; attention keeps q, k, v and its result (once more as the input of `o`), taps the
    input of q, k and v; the gated feed-forward keeps the gate before and after its activation, and the other factor.
    """
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    return 2 * 4 * model.hidden + size * (model.hidden + 3 * q + 2 * kv + 3 * model.intermediate)


def kept_by_training(model: Architecture, size: int) -> float:
    """The same where weights train: inputs of every linear layer, and of the norms' weights."""
    return kept_by_gradients(model, size) + size * (3 * model.hidden + model.intermediate)
