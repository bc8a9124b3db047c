"""The token budget grows until the measured memory would not hold the next doubling."""

from __future__ import annotations

import pytest
import torch

from paydirt.gradients import budget

from .tiny import tiny_model


def test_a_cpu_gets_the_cache_sized_budget():
    model = tiny_model("llama")
    assert budget.fit_token_budget(model, 512) == 2048
    assert budget.fit_token_budget(model, 4096) == 4096


class FakeDevice:
    """A GPU of 100 bytes free where a row takes `per_row`: there is no GPU in the tests."""

    type = "cuda"

    def __init__(self, monkeypatch, per_row: int) -> None:
        parameter = type("P", (), {"device": self})()
        monkeypatch.setattr(budget, "trainable", lambda model: {"w": parameter})
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 100))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 7)
        monkeypatch.setattr(budget, "_peak", lambda runner, rows, length, device: 7 + rows * per_row)


@pytest.mark.parametrize(("per_row", "rows"), [(1, 64), (20, 4), (41, 1), (79, 1)])
def test_a_gpu_gets_what_fits(monkeypatch, per_row, rows):
    model = tiny_model("llama")
    FakeDevice(monkeypatch, per_row)
    assert budget.fit_token_budget(model, 10) == 10 * rows


def test_an_example_that_never_fits_is_an_error_with_the_remedy(monkeypatch):
    model = tiny_model("llama")
    FakeDevice(monkeypatch, 81)
    with pytest.raises(ValueError, match="gradient checkpointing"):
        budget.fit_token_budget(model, 10)


def test_the_probe_runs_a_real_pass(monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3)
    with budget.PerExample(model) as runner:
        assert budget._peak(runner, 2, 9, torch.device("cpu")) == 3
