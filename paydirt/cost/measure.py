"""Measured FLOPs: torch counts the operators of a sampled batch, the count is scaled by tokens.

Counting every batch would slow the work it counts; operators' FLOPs depend on shapes alone, so a few batches suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paydirt.core.artifacts import Artifact


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

    `charges` are FLOPs of what was measured when it was made, by its place: whoever uses an artifact is charged for it in
    full, whoever uses rows of a column for those rows, and once, however often it is used and whoever made it.
    """

    def __init__(self, sample: int = 2) -> None:
        self._left = sample
        self._counted = 0.0
        self._counted_weight = 0.0
        self._weight = 0.0
        self._elsewhere = 0.0
        self._artifacts: dict[str, float] = {}
        self._rows: dict[str, np.ndarray] = {}

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
        self._artifacts[place] = float(artifact.notes["measured_flops"] or 0.0)

    def charge_rows(self, place: str, rows: np.ndarray, flops: np.ndarray, size: int) -> None:
        """Charge `rows` of a column of `size` rows with their `flops`, unless they are charged already."""
        self._rows.setdefault(place, np.zeros(size, dtype=np.int64))[rows] = flops

    @property
    def charges(self) -> dict[str, float]:
        """FLOPs by place, of artifacts and of the rows of columns."""
        return self._artifacts | {place: float(sum(flops.tolist())) for place, flops in self._rows.items()}

    def absorb(self, other: FlopMeter) -> None:
        """Take over what another meter counted for a part of this work; what both were charged with stays charged once."""
        self._artifacts |= other._artifacts
        for place, flops in other._rows.items():
            self._rows[place] = np.maximum(self._rows.get(place, 0), flops)
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
