"""What a strategy needs beside FLOPs: memory that fits or not, processor hours, and that the answers say so."""

from __future__ import annotations

import pytest

import paydirt
from paydirt.analysis.needs import processor_hours, training_need
from paydirt.analysis.strategies import nominal_architecture

LLAMA = nominal_architecture(7e9)


def test_full_tuning_of_7b_fits_two_h100_lora_fits_one() -> None:
    """16 bytes a parameter of weights, gradients and moments, and 2 to compute with: 18 x 7e9 = 126 GB."""
    full, lora = training_need(LLAMA), training_need(LLAMA, rank=128)
    assert 18 * LLAMA.parameters < full.total < 26 * LLAMA.parameters
    assert full.devices(80e9) == 2
    assert lora.devices(80e9) == 1
    assert "it fits 2 of them" in full.text("h100")
    assert "1 will not do" in full.text("h100", 1)
    assert "which is what you have" in full.text("h100", 4)
    assert "it fits the 80 GB of one h100" in lora.text("h100")
    assert "activations alone" in training_need(LLAMA, tokens=2**20).text("h100")


def test_need_grows_with_what_it_holds_and_devices_hold_it() -> None:
    for tokens in (512, 2048, 8192):
        assert training_need(LLAMA, 2 * tokens).total > training_need(LLAMA, tokens).total
    for gb in (40, 80, 141):
        need = training_need(LLAMA)
        count = need.devices(gb * 1e9)
        assert count is not None
        assert need.sharded / count + (need.total - need.sharded) <= gb * 1e9
        assert count == 1 or need.sharded / (count - 1) + (need.total - need.sharded) > gb * 1e9


def test_only_what_costs_no_flops_is_told_in_processor_hours() -> None:
    assert processor_hours("Random", 1e8, 3e5) == 0
    assert processor_hours("LESS", 1e8, 3e5) is None
    one, two = (processor_hours("BM25", t, t / 300, 57) for t in (1e8, 2e8))
    assert one is not None
    assert two == pytest.approx(2 * one)
    assert 1e-4 < one < 1  # the published pool: below an hour of one core


def test_the_advice_tells_memory_processor_hours_dollars_and_why_wide_and_sure_both_hold() -> None:
    asked = {"train_params": 7e9, "pool_tokens": 97.91e6, "references": 285, "task": "MMLU", "budget": 1e18}
    advice = paydirt.advise(**asked, hardware="h100", utilisation=0.5, price=10.0)
    assert "it fits 2 of them" in advice.paragraph
    assert "wide and sure can both hold" in advice.paragraph
    assert "BM25 costs no FLOPs; it takes about" in advice.paragraph
    rows = {r["method"]: r for r in advice.table().to_pylist()}
    assert rows["BM25"]["processor_hours"] > 0 == rows["Random"]["processor_hours"]
    assert rows["LESS"]["processor_hours"] is None if "LESS" in rows else True
    best = advice.best
    assert best.hours == pytest.approx(best.strategy.total_flops / (989e12 * 0.5) / 3600)
    assert best.usd == pytest.approx(10.0 * best.hours)
    # A budget above one pass says what the rest may buy.
    assert "further epochs" in paydirt.advise(**asked | {"budget": 1e19}).paragraph
