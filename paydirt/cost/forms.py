"""Closed forms for the FLOPs of training, selecting and generating. A multiply-add counts 2.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from paydirt.cost.architecture import Architecture
from paydirt.cost.lookup import find
from paydirt.types import Cost

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


def inference_flops(
    arch: Architecture, tokens: float, seq_len: float | None = None, convention: str = DEFAULT_CONVENTION
) -> float:
    """One forward pass: the field's other name for `forward_flops`."""
    return forward_flops(arch, tokens, seq_len, convention)


@dataclass(frozen=True, slots=True)
class SelectionWork:
    """What a selection has to read, and the settings that decide how often. Defaults are METHODS sections 2 and 4.

    Tokens are those the selector sees (after truncation); `pool_prompt_tokens` is the part IFD leaves out in its second
    pass. `tasks` share one gradient store, warm-up included: each is charged its part.
    """

    pool_tokens: float
    reference_tokens: float = 0.0
    pool_examples: float = 0.0
    references: float = 0.0
    pool_prompt_tokens: float = 0.0
    seq_len: float | None = None
    tuning_epochs: float = 25.0  # perplexity: epochs over the references
    lora: bool = True
    lora_rank: int = 128
    lora_targets: tuple[str, ...] = ("q", "k", "v", "o")
    warmup_fraction: float = 0.05
    warmup_epochs: float = 4.0
    checkpoints: int = 4
    projection_dim: int = 8192
    tasks: int = 1
    points: float = 3000  # learned: examples whose true influence is computed
    proxy_tokens: float = 64  # learned: tokens of every other example that its proxy reads
    budget_share: float = 0.1  # cascade: budget as a share of what gradients cost

    def __post_init__(self) -> None:
        if self.pool_tokens < 0 or self.reference_tokens < 0:
            raise ValueError("tokens of pool and references must not be negative")
        if self.tasks < 1 or self.checkpoints < 1:
            raise ValueError(f"tasks and checkpoints must be at least 1, not {self.tasks} and {self.checkpoints}")


Parts = dict[str, float]


def _free(work: SelectionWork, arch: Architecture | None, convention: str) -> Parts:
    """Random, length, lexicon, n-grams: no work on an accelerator (METHODS section 2)."""
    return {}


def _forward(tokens: float, work: SelectionWork, arch: Architecture, convention: str) -> float:
    return forward_flops(arch, tokens, work.seq_len, convention)


def _one_pass(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """Embed and RDS+: every text once through the encoder, references too (arXiv 2503.01807)."""
    return {
        "pool forward": _forward(work.pool_tokens, work, arch, convention),
        "reference forward": _forward(work.reference_tokens, work, arch, convention),
    }


def _perplexity(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """One forward over the pool, after tuning on the references for `tuning_epochs` (METHODS section 2)."""
    tuning = training_flops(
        arch, work.reference_tokens, work.seq_len, convention, lora=work.lora, lora_rank=work.lora_rank,
        lora_targets=work.lora_targets, epochs=work.tuning_epochs,
    )  # fmt: skip
    return {"reference tuning": tuning, "pool forward": _forward(work.pool_tokens, work, arch, convention)}


def _ifd(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """Answer with and without its instruction: a full forward and one over answers only (arXiv 2308.12032)."""
    answers = max(work.pool_tokens - work.pool_prompt_tokens, 0.0)
    return {
        "conditioned forward": _forward(work.pool_tokens, work, arch, convention),
        "unconditioned forward": _forward(answers, work, arch, convention),
    }


def _gradient(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """LESS: warm-up, then per checkpoint forward and backward over pool and references, then projection.

    The projection is a dense [P_lora, k] product per example and checkpoint, 2 P_lora k (arXiv 2402.04333, section 4);
    without LoRA, P is the whole model. One gradient store serves `tasks`.
    """

    def train(tokens: float, epochs: float) -> float:
        return training_flops(
            arch, tokens, work.seq_len, convention, lora=work.lora, lora_rank=work.lora_rank,
            lora_targets=work.lora_targets, epochs=epochs,
        )  # fmt: skip

    trained = arch.lora_parameters(work.lora_rank, work.lora_targets) if work.lora else arch.active_parameters
    per_gradient = 2.0 * trained * work.projection_dim * work.checkpoints
    return {
        "warm-up": train(work.pool_tokens * work.warmup_fraction, work.warmup_epochs) / work.tasks,
        "pool gradients": train(work.pool_tokens, work.checkpoints) / work.tasks,
        "pool projection": per_gradient * work.pool_examples / work.tasks,
        "reference gradients": train(work.reference_tokens, work.checkpoints),
        "reference projection": per_gradient * work.references,
        # The similarity itself: one [N, k] x [k, R] product per checkpoint.
        "similarity": 2.0 * work.pool_examples * work.references * work.projection_dim * work.checkpoints,
    }


def _learned(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """Gradients of `points` alone, and of `proxy_tokens` of every example; the learner itself is left out."""
    share = min(1.0, work.points / work.pool_examples) if work.pool_examples else 1.0
    some = replace(work, pool_tokens=work.pool_tokens * share, pool_examples=work.pool_examples * share)
    whole, parts = _gradient(work, arch, convention), _gradient(some, arch, convention)
    read = min(work.pool_tokens, work.proxy_tokens * work.pool_examples)
    proxy = replace(work, pool_tokens=read, checkpoints=1)
    parts["proxy"] = _gradient(proxy, arch, convention)["pool gradients"]
    return parts | {"warm-up": whole["warm-up"]}


def _cascade(work: SelectionWork, arch: Architecture, convention: str) -> Parts:
    """What it is given: a share of what gradients cost."""
    return {"budget": work.budget_share * sum(_gradient(work, arch, convention).values())}


FAMILIES: Mapping[str, Callable[..., Parts]] = {
    "random": _free,
    "length": _free,
    "bm25": _free,
    "dsir": _free,
    "embed": _one_pass,
    "rds": _one_pass,
    "ppl": _perplexity,
    "ifd": _ifd,
    "gradient": _gradient,
    "learned": _learned,
    "cascade": _cascade,
}
ALIASES = {"perplexity": "ppl", "less": "gradient", "rds+": "rds", "lexicon": "bm25", "embedding": "embed"}


def selection_flops(
    method: str, work: SelectionWork, selector: Architecture | None = None, convention: str = DEFAULT_CONVENTION
) -> Cost:
    """What selecting by `method` costs before it runs, with its parts; `tokens` are the pool's and the references'.

    Raises ValueError on an unknown method or convention, or a method that needs a selector model and got none.
    """
    find(PER_TOKEN, convention, "cost convention")
    table = {**FAMILIES, **{alias: FAMILIES[name] for alias, name in ALIASES.items()}}
    form = find(table, method, "method")
    if form is _free:
        return Cost()
    if selector is None:
        raise ValueError(f"method {method!r} reads the pool with a model; give the selector's architecture")
    parts = form(work, selector, convention)
    return Cost(sum(parts.values()), round(work.pool_tokens + work.reference_tokens), parts)
