"""One global random projection of all trainable parameters to k numbers, never holding more than a slab of them.

A coordinate is (parameter name, index in the parameter); its sign is a hash of both and the seed, so the projection
is the same on every device, batch size, slab size and shard, and does not change for one parameter when another is
frozen. Both kinds keep inner products in expectation: E <Sx, Sy> = <x, y>.

`sketch` (default) reads each coordinate once. Each parameter is cut into chunks of k coordinates; a chunk is multiplied
by random signs, rolled by a random offset and added to the output. It is a count-sketch (Charikar, Chen,
Farach-Colton 2002; sparse JL, Kane and Nelson 2014) whose hash is a rotation: two coordinates of different chunks
collide with probability 1/k as there, two of one chunk never do, and no scatter is needed.
`rademacher` is the dense reference: R in {-1, +1}^(k x d) / sqrt(k), as in LESS and TRAK; k times the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from paydirt.data.batches import sent
from paydirt.gradients import hashing

Kind = Literal["sketch", "rademacher"]
_TILE = 1 << 24  # entries of the dense matrix made at a time


@dataclass(frozen=True)
class Projection:
    """A random linear map to `k` numbers, fixed by `kind`, `k` and `seed` alone."""

    k: int = 8192
    kind: Kind = "sketch"
    seed: int = 0
    _signs: dict[tuple[str, str], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rolls: dict[tuple[str, str], tuple[list[int], Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.kind not in ("sketch", "rademacher"):
            raise ValueError(f"unknown projection {self.kind!r}; choose 'sketch' or 'rademacher'")
        if self.k < 1:
            raise ValueError(f"a projection to k = {self.k} numbers is impossible; k must be at least 1")

    def settings(self) -> dict[str, object]:
        """What makes two projections the same."""
        return {"kind": self.kind, "k": self.k, "seed": self.seed}

    def begin(self, examples: int, device: torch.device | str = "cpu") -> Tensor:
        """Zeros to `add` to, [examples, 2 k or k] float32; `finish` makes [examples, k] of them.

        The sketch adds to twice its width, so that no rolled chunk has to be split in two at the end; `finish` folds.
        """
        return torch.zeros(examples, self.k * (2 if self.kind == "sketch" else 1), device=device)

    def finish(self, sums: Tensor) -> Tensor:
        """The features [b, k] float32 of accumulated `sums`."""
        if self.kind == "sketch":
            return sums[:, : self.k] + sums[:, self.k :]
        return sums * self.k**-0.5

    def add(self, sums: Tensor, values: Tensor, name: str, start: int, size: int) -> None:
        """Add coordinates [start, start + n) of parameter `name` (of `size`) to `sums`, in place.

        `values` [b, n] float32, `sums` as `begin` made them, b rows. Calls for the slabs of a parameter in rising
        order give the same bits however it is cut.
        """
        if self.kind == "sketch":
            self._add_sketch(sums, values, name, start, size)
        else:
            self._add_dense(sums, values, name, start)

    def _add_sketch(self, sums: Tensor, values: Tensor, name: str, start: int, size: int) -> None:
        k, stop = self.k, start + values.shape[1]
        signs, rolls, offsets = self._prepared(name, size, values.device)
        sign = signs[start:stop].to(values.dtype)
        if values.device.type != "cpu" and values.shape[1] > k:
            # many small kernels cost more than the gather's memory traffic
            self._add_grouped(sums, values * sign, offsets, start)
            return
        position = start
        while position < stop:
            chunk, inside = divmod(position, k)
            end = min(stop, position + k - inside)
            part = slice(position - start, end - start)
            to = rolls[chunk] + inside
            sums[:, to : to + end - position].addcmul_(values[:, part], sign[part])
            position = end

    def _add_grouped(self, sums: Tensor, signed: Tensor, offsets: Tensor, start: int) -> None:
        """The same sum in a few large operations: rows of chunks gathered at rolled positions, then summed."""
        k = self.k
        first, before = divmod(start, k)
        chunks = -(-(before + signed.shape[1]) // k)
        after = chunks * k - before - signed.shape[1]
        padded = torch.nn.functional.pad(signed, (before, after)).view(-1, chunks, k)
        source = (torch.arange(k, device=signed.device) - offsets[first : first + chunks, None]) % k
        sums[:, :k] += padded.gather(2, source.expand(padded.shape[0], -1, -1)).sum(1)

    def _prepared(self, name: str, size: int, device: torch.device) -> tuple[Tensor, list[int], Tensor]:
        """Signs (int8, one byte per trainable parameter, kept on the device) and the rolls of the chunks of one parameter,
        as the host and as the device read them."""
        place = name, str(device)
        if place not in self._signs:
            self._signs[place] = hashing.signs(size, hashing.key_of("sign", self.seed, name), device)
            chunks = torch.arange(-(-size // self.k))
            rolls = hashing.mix(chunks, hashing.key_of("roll", self.seed, self.k, name)) % self.k
            self._rolls[place] = rolls.tolist(), sent(rolls, device)
        return self._signs[place], *self._rolls[place]

    def _add_dense(self, sums: Tensor, values: Tensor, name: str, start: int) -> None:
        key, words = hashing.key_of("dense", self.seed, name), -(-self.k // 64)
        step = max(1, _TILE // (64 * words))
        for lo in range(0, values.shape[1], step):
            hi = min(lo + step, values.shape[1])
            counters = torch.arange((start + lo) * words, (start + hi) * words, device=values.device)
            tile = hashing.unpack(hashing.mix(counters, key).view(hi - lo, words))[:, : self.k]
            sums.addmm_(values[:, lo:hi], tile.to(values.dtype))

    def flops(self, parameters: int) -> float:
        """FLOPs to project one example's `parameters` coordinates: 2 for each the sketch, 2 k for each the dense."""
        return 2.0 * parameters * (1 if self.kind == "sketch" else self.k)
