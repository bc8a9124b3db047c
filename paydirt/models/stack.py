"""LoRA on LoRA: fresh parameters beside an adapter that stays as it is, and both folded into one that any loader reads.

Folding is by concatenation: A = [A1; A2], B = [s1 B1, s2 B2], rank r1 + r2, scale 1. Nothing is merged into weights, where
bfloat16 would round the adapter's part away and a quantised base cannot hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

FIRST, SECOND, BOTH = "default", "second", "both"


def stack(model: PeftModel, config: LoraConfig) -> PeftModel:
    """`model` with a second adapter at work beside its own; only the second trains."""
    model.add_adapter(SECOND, config)
    model.base_model.set_adapter([FIRST, SECOND])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{SECOND}." in name)
    return model


def fold(model: PeftModel) -> PeftModel:
    """`model` with one adapter in place of the two of `stack`, which computes the same."""
    model.add_weighted_adapter([FIRST, SECOND], [1.0, 1.0], BOTH, combination_type="cat")
    model.set_adapter(BOTH)
    model.delete_adapter(FIRST)
    model.delete_adapter(SECOND)
    model.add_weighted_adapter([BOTH], [1.0], FIRST, combination_type="cat")  # the name that is saved at the top
    model.set_adapter(FIRST)
    model.delete_adapter(BOTH)
    return model
