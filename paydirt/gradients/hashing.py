"""Counter-based randomness: a number is a pure function of (seed, name, counter), on every device and in any order.

The mixing is splitmix64's finaliser (Steele, Lea, Flood 2014) in wrapping int64 arithmetic, which torch computes
alike on CPU and GPU. No generator state exists, so chunks, batches, shards and restarts cannot change a bit.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def key_of(*parts: object) -> int:
    """A signed 64-bit key for any tuple of strings and integers (BLAKE2b)."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic on signed integers."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(counters: Tensor, key: int) -> Tensor:
    """Hash int64 `counters` (any shape) under `key` to uniform int64 of the same shape."""
    x = counters * _GOLDEN + key
    x = (x ^ _shifted(x, 30)) * _MIX1
    x = (x ^ _shifted(x, 27)) * _MIX2
    return x ^ _shifted(x, 31)


def signs(count: int, key: int, device: torch.device | str = "cpu", start: int = 0) -> Tensor:
    """int8 signs (+1 or -1) number `start` to `start + count` under `key`, [count]; 64 of them per hash."""
    first, last = start // 64, -(-(start + count) // 64)
    words = mix(torch.arange(first, last, device=device), key)
    return unpack(words)[start - first * 64 :][:count]


def unpack(words: Tensor) -> Tensor:
    """The 64 bits of each int64 as int8 signs, lowest first: [..., n] -> [..., 64 n]."""
    octets = words.contiguous().view(torch.uint8)  # little-endian on every platform torch supports
    bits = torch.arange(8, dtype=torch.uint8, device=words.device)
    masks = torch.ones_like(bits) << bits  # made where they are used: no copy that a device must be waited for
    set_bits = (octets.unsqueeze(-1) & masks) != 0
    return set_bits.flatten(-2).to(torch.int8).mul_(2).sub_(1)
