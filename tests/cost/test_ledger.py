"""Laws of the ledger on CUDA: a line's device is where it allocated, its peak its own. The allocator is played here.

No test machine is sure to have a GPU; what is played is torch's contract: one peak a device, set to what is allocated by
`reset_peak_memory_stats`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paydirt.cost.ledger import Ledger


class Allocator:
    """Bytes on two devices, as `torch.cuda` tells them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.peak = [0, 0], [0, 0]
        for name, function in {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 2,
            "memory_allocated": lambda i=0: self.now[i],
            "max_memory_allocated": lambda i=0: self.peak[i],
            "reset_peak_memory_stats": self.reset,
        }.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def reset(self, device: int = 0) -> None:
        self.peak[device] = self.now[device]

    def use(self, size: int, device: int = 0) -> None:
        """Allocate and free."""
        self.peak[device] = max(self.peak[device], self.now[device] + size)


def test_a_peak_is_the_blocks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, ledger = Allocator(monkeypatch), Ledger(tmp_path)
    with ledger.record("first"):
        cuda.use(1000)
    with ledger.record("second", device="cuda"):
        cuda.use(10)
    with ledger.record("outer"):
        cuda.use(500)
        with ledger.record("inner"):
            cuda.use(20, device=1)
        cuda.use(30)
    with ledger.record("outer of a great inner"), ledger.record("great"):
        cuda.use(700)
    lines = {e.stage: (e.device, e.peak_bytes) for e in ledger.entries()}
    assert lines["first"] == ("cuda:0", 1000)
    assert lines["second"] == ("cuda", 10), "not what an earlier block had reached"
    assert lines["outer"] == ("cuda:0", 500), "an inner block takes nothing away"
    assert lines["inner"] == ("cuda:1", 20)
    assert lines["outer of a great inner"] == lines["great"] == ("cuda:0", 700)


def test_a_block_without_cuda_work_is_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where earlier work left something on the device."""
    cuda, ledger = Allocator(monkeypatch), Ledger(tmp_path)
    cuda.now = cuda.peak = [100, 0]
    with ledger.record("bm25"):
        pass

    def fails() -> None:
        with ledger.record("gradients"):
            cuda.use(50)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    lines = {e.stage: e for e in ledger.entries()}
    assert lines["bm25"].device == "cpu"
    assert lines["bm25"].peak_bytes > 1 << 20, "of the process"
    assert (lines["gradients"].device, lines["gradients"].peak_bytes) == ("cuda:0", 150)
    assert not lines["gradients"].finished
