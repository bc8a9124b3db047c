"""What a strategy needs beside FLOPs: memory on a device, and the processor hours of a selection that costs no FLOPs.

Memory is the closed form of `cost.memory`. Processor hours of BM25 are two rates, measured by `benchmarks/bm25.py` on
real texts: reading and counting words grows with the pool's tokens, scoring with examples times subtasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paydirt.analysis.names import method_name
from paydirt.core.units import duration, size
from paydirt.cost.architecture import Architecture
from paydirt.cost.hardware import hardware
from paydirt.cost.memory import ATTENTION, training_memory
from paydirt.cost.methods import ALIASES

BATCH_TOKENS = 2048  # tokens of a pass, where nobody told
RANK = 128  # of LoRA, where nobody told: METHODS' own
SECONDS_A_TOKEN = 1.5e-7  # of one core: split, number and count words (4 letters a token)
SECONDS_A_PAIR = 6e-8  # of one core: an example against a subtask's references


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of training at its height, of all devices together where weights are sharded; in LoRA's case the rank."""

    total: float
    sharded: float  # of it what FSDP shards: weights, gradients, moments
    tokens: float
    rank: int | None = None

    def devices(self, memory: float) -> int | None:
        """How many devices of `memory` bytes hold it with weights sharded; None where activations alone are too much."""
        rest = memory - (self.total - self.sharded)
        return None if rest <= 0 else max(1, math.ceil(self.sharded / rest))

    def text(self, device: str | None = None, devices: int = 1) -> str:
        """One sentence, with whether it fits where a device is named."""
        how = "of all parameters" if self.rank is None else f"by LoRA of rank {self.rank}"
        text = f"Training {how} takes about {size(self.total)} with {self.tokens:,.0f} tokens a pass"
        if device is None:
            return text + "."
        memory = hardware(device).memory_gb * 1e9
        least = self.devices(memory)
        holds = f"{memory / 1e9:g} GB of one {hardware(device).name}"
        if least == 1:
            return f"{text}: it fits the {holds}."
        if least is None:
            return (
                f"{text}, activations alone more than the {holds}; gradient checkpointing or shorter passes take less."
            )
        enough = "which is what you have" if devices >= least else f"{devices} will not do; LoRA takes less"
        return f"{text}: more than the {holds}; weights sharded it fits {least} of them ({enough})."


def training_need(
    model: Architecture, tokens: float = BATCH_TOKENS, rank: int | None = None, targets: tuple[str, ...] = ATTENTION,
    bytes_each: int = 2,
) -> Need:  # fmt: skip
    """Of training `model` with so many tokens a pass, all parameters or LoRA of `rank`; `bytes_each` a number."""
    parts = dict(training_memory(model, max(round(tokens), 1), rank, targets, bytes_each).parts)
    if bytes_each == 4 and rank is None:  # products are made of the weights themselves
        parts.pop("weights to compute with", None)
    held = sum(v for k, v in parts.items() if k not in ("activations", "logits"))
    return Need(sum(parts.values()), held, tokens, rank)


def processor_hours(method: str, tokens: float, examples: float, subtasks: int = 1) -> float | None:
    """Hours of one core for selecting by a method that costs no FLOPs; None for a method that does, 0 for a draw."""
    name = method_name(method).representation
    name = ALIASES.get(name, name)
    if name == "random":
        return 0.0
    if name != "bm25":
        return None
    return (SECONDS_A_TOKEN * tokens + SECONDS_A_PAIR * examples * max(subtasks, 1)) / 3600


def processor_time(method: str, hours: float) -> str:
    """The same as a sentence."""
    return f"{method} costs no FLOPs; it takes about {duration(hours)} of one processor core on this pool."
