"""What one selection and the training on it would cost, before anything runs: FLOPs, hours, money.

The one question of `paydirt cost`: method, train model, selector model, pool and share in; a row per convention out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import DEFAULT_CONVENTION, SelectionWork, selection_flops, training_flops
from paydirt.cost.hardware import Hardware, hours, money
from paydirt.types import Cost


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted cost of one method at one share of the pool; `hours` and `usd` are None without hardware."""

    method: str
    fraction: float
    convention: str
    selection: Cost
    training_flops: float
    training_tokens: float
    hours: float | None = None
    usd: float | None = None

    @property
    def total_flops(self) -> float:
        return self.selection.flops + self.training_flops

    @property
    def selection_share(self) -> float:
        """Part of the total that goes into selecting; 0 when nothing is spent."""
        return self.selection.flops / self.total_flops if self.total_flops else 0.0


def estimate(
    method: str,
    train: Architecture,
    work: SelectionWork,
    fraction: float,
    *,
    selector: Architecture | None = None,
    epochs: float = 1.0,
    convention: str = DEFAULT_CONVENTION,
    hardware: Hardware | str | None = None,
    devices: int = 1,
    mfu: float | None = None,
    usd_per_hour: float | None = None,
) -> Estimate:
    """Selection by `method` over the pool in `work`, then training on `fraction` of its tokens.

    `selector` defaults to the train model; embedding methods must be given theirs. `work.lora` holds for both stages.
    Raises ValueError for a fraction outside (0, 1], an unknown method, convention or device.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is a share of the pool in (0, 1], not {fraction}")
    selection = selection_flops(method, work, selector or train, convention)
    tokens = work.pool_tokens * fraction
    training = training_flops(
        train, tokens, work.seq_len, convention, lora=work.lora, lora_rank=work.lora_rank,
        lora_targets=work.lora_targets, epochs=epochs,
    )  # fmt: skip
    total = selection.flops + training
    if hardware is None:
        return Estimate(method, fraction, convention, selection, training, tokens * epochs)
    return Estimate(
        method, fraction, convention, selection, training, tokens * epochs,
        hours(total, hardware, count=devices, mfu=mfu),
        money(total, hardware, count=devices, mfu=mfu, usd_per_hour=usd_per_hour),
    )  # fmt: skip


def estimates(
    methods: Sequence[str], train: Architecture, work: SelectionWork, fractions: Sequence[float], **options: object
) -> list[Estimate]:
    """`estimate` for every method at every fraction, cheapest total first."""
    found = [estimate(m, train, work, f, **options) for m in methods for f in fractions]  # type: ignore[arg-type]
    return sorted(found, key=lambda e: e.total_flops)
