"""Measured FLOPs: torch counts the operators of a sampled batch, the count is scaled by tokens.

Counting every batch would slow the work it counts; operators' FLOPs depend on shapes alone, so a few batches suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paydirt.artifacts import Artifact


def count_flops(work: Callable[[], Any]) -> tuple[float, Any]:
    """FLOPs of one call of `work` (a multiply-add counts 2), and what it returned.

    Uses torch.utils.flop_counter.FlopCounterMode, which counts matrix products, convolutions and attention; elementwise
    work is left out, as in every closed form. Its table lacks the CPU's fused attention, which would count as nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False, custom_mapping=_cpu_attention()) as counter:
        result = work()
    return float(counter.get_total_flops()), result


def _cpu_attention() -> dict[Any, Callable[..., int]]:
    """FLOPs of the CPU's fused attention by operator, with the formulas that torch has for its CUDA siblings."""
    import torch
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    def backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
        return int(sdpa_backward_flop_count(grad, query, key, value))

    ops = torch.ops.aten
    return {
        ops._scaled_dot_product_flash_attention_for_cpu: forward,
        ops._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


class FlopMeter:
    """Counts the first `sample` calls and scales by a weight (tokens) to all of them.

    `charges` are FLOPs of artifacts that were measured when they were made, by the artifact's place: whoever uses one is
    charged for it in full, and once, however often it is used and whoever made it.
    """

    def __init__(self, sample: int = 2) -> None:
        self._left = sample
        self._counted = 0.0
        self._counted_weight = 0.0
        self._weight = 0.0
        self._elsewhere = 0.0
        self.charges: dict[str, float] = {}

    def run(self, work: Callable[[], Any], weight: float | Callable[[Any], float]) -> Any:
        """Run `work`, whose cost is proportional to `weight` (or to what `weight` says of its result); return its result."""
        counted = self._left > 0
        self._left -= counted
        flops, result = count_flops(work) if counted else (0.0, work())
        amount = weight(result) if callable(weight) else weight
        self._weight += amount
        if counted:
            self._counted += flops
            self._counted_weight += amount
        return result

    def add(self, flops: float) -> None:
        """Count work that was measured elsewhere."""
        self._elsewhere += flops

    def charge(self, artifact: Artifact) -> None:
        """Charge a shared artifact with the FLOPs that its notes state, unless it is charged already."""
        place = f"{artifact.path.parent.name}/{artifact.path.name}"
        self.charges[place] = float(artifact.notes["measured_flops"] or 0.0)

    def absorb(self, other: FlopMeter) -> None:
        """Take over what another meter counted for a part of this work; what both were charged with stays charged once."""
        self.charges |= other.charges
        self.add(other.own_flops)

    @property
    def own_flops(self) -> float:
        """FLOPs of all calls, by proportion, and of what was added; without charges."""
        own = self._counted * self._weight / self._counted_weight if self._counted_weight else 0.0
        return own + self._elsewhere

    @property
    def flops(self) -> float:
        """All FLOPs, charges included."""
        return self.own_flops + sum(self.charges.values())
