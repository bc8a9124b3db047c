"""Accelerators: what they can do at best, what training reaches in practice, and what they cost to rent.

`peak_flops` is the vendor's dense matrix rate at bfloat16 (float16 where there is no bfloat16; float32 for a CPU core),
never the doubled figure "with sparsity". `mfu` is the share of the peak that a well-set-up Hugging Face run reaches
(model FLOPs utilisation, Chowdhery et al., arXiv 2204.02311, appendix B); 0.3 to 0.45 is common for tuning 7B models.
`usd_per_hour` is an indicative on-demand rent, late 2026, to be overridden: prices differ threefold between providers.
Sources: the vendors' data sheets (NVIDIA V100, T4, A10, A100, L4, L40S, H100, H200, B200, RTX 3090/4090/5090; AMD
MI250X, MI300X; Google Cloud TPU v4, v5e, v5p).
"""

from __future__ import annotations

from dataclasses import dataclass

from paydirt.cost.lookup import find, within


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device: peak dense FLOP/s, memory in GB (1e9 bytes), typical utilisation, rent in US dollars an hour."""

    name: str
    peak_flops: float
    memory_gb: float
    mfu: float = 0.35
    usd_per_hour: float | None = None


HARDWARE: dict[str, Hardware] = {
    h.name: h
    for h in (
        Hardware("v100", 125e12, 32, 0.30, 1.0),
        Hardware("t4", 65e12, 16, 0.25, 0.35),
        Hardware("a10", 125e12, 24, 0.35, 0.75),
        Hardware("a10g", 70e12, 24, 0.35, 1.0),
        Hardware("a100-40gb", 312e12, 40, 0.40, 1.5),
        Hardware("a100", 312e12, 80, 0.40, 1.8),
        Hardware("l4", 121e12, 24, 0.30, 0.7),
        Hardware("l40s", 362e12, 48, 0.35, 1.2),
        Hardware("h100", 989e12, 80, 0.40, 2.5),
        Hardware("h200", 989e12, 141, 0.40, 3.5),
        Hardware("b200", 2250e12, 192, 0.35, 5.5),
        Hardware("rtx3090", 71e12, 24, 0.35, 0.25),
        Hardware("rtx4090", 165e12, 24, 0.35, 0.45),
        Hardware("rtx5090", 209e12, 32, 0.35, 0.75),
        Hardware("mi250x", 383e12, 128, 0.30, 1.5),
        Hardware("mi300x", 1307e12, 192, 0.30, 2.5),
        Hardware("tpu-v4", 275e12, 32, 0.45, 3.2),
        Hardware("tpu-v5e", 197e12, 16, 0.45, 1.2),
        Hardware("tpu-v5p", 459e12, 95, 0.45, 4.2),
        # One core with two 256-bit fused multiply-add units at 2.5 GHz: 2 x 8 lanes x 2 x 2.5e9, float32.
        Hardware("cpu-core", 80e9, 4, 0.40, 0.05),
    )
}


def hardware(name: str) -> Hardware:
    """The table's entry; ValueError with the nearest names when there is none."""
    return find(HARDWARE, name, "hardware")


def _rate(device: Hardware, count: int, mfu: float | None) -> float:
    share = device.mfu if mfu is None else mfu
    within("utilisation, a share of the peak", share, 1e-6, 1)
    within(f"devices ({device.name})", count, 1, 1e9)
    return device.peak_flops * share * count


def hours(flops: float, device: Hardware | str, *, count: int = 1, mfu: float | None = None) -> float:
    """Wall-clock hours for `flops` on `count` devices at utilisation `mfu` (the table's when None)."""
    device = hardware(device) if isinstance(device, str) else device
    return flops / _rate(device, count, mfu) / 3600


def budget_flops(device: Hardware | str, wall_hours: float, *, count: int = 1, mfu: float | None = None) -> float:
    """FLOPs that `wall_hours` on `count` devices buy; the inverse of `hours`."""
    within("hours", wall_hours, 1e-9, 1e9)
    device = hardware(device) if isinstance(device, str) else device
    return _rate(device, count, mfu) * wall_hours * 3600


def money(
    flops: float,
    device: Hardware | str,
    *,
    count: int = 1,
    mfu: float | None = None,
    usd_per_hour: float | None = None,
) -> float | None:
    """US dollars for `flops`, `usd_per_hour` per device (the table's when None); None where no price is known."""
    device = hardware(device) if isinstance(device, str) else device
    if usd_per_hour is not None:
        within("US dollars an hour", usd_per_hour, 0, 1e9)
    price = device.usd_per_hour if usd_per_hour is None else usd_per_hour
    return None if price is None else hours(flops, device, count=count, mfu=mfu) * count * price
