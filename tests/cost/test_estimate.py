"""Laws of the estimate behind `paydirt cost`: it adds up, follows the share, and is the closed forms' own sum."""

from __future__ import annotations

import pytest

from paydirt.cost.architecture import Architecture
from paydirt.cost.estimate import estimate, estimates
from paydirt.cost.forms import CONVENTIONS, SelectionWork, forward_flops
from paydirt.cost.hardware import hours

TINY = Architecture(2, 64, 96, 4, 2, 16, 50, max_sequence=32)
WORK = SelectionWork(pool_tokens=1e6, reference_tokens=1e3, pool_examples=1e4, references=10, seq_len=32, lora=False)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_selection_and_training_add_up(convention: str) -> None:
    e = estimate("ppl", TINY, WORK, 0.1, convention=convention)
    forward = forward_flops(TINY, 1e6, 32, convention)
    assert e.training_flops == pytest.approx(0.3 * forward)
    assert e.selection.parts["pool forward"] == pytest.approx(forward)
    assert e.total_flops == pytest.approx(e.selection.flops + e.training_flops)
    assert 0.7 < e.selection_share < 0.8


def test_training_follows_share_and_epochs_and_selection_does_not() -> None:
    a, b = estimate("rds", TINY, WORK, 0.1), estimate("rds", TINY, WORK, 0.2, epochs=2)
    assert b.training_flops == pytest.approx(4 * a.training_flops)
    assert a.selection == b.selection


def test_hours_and_money_need_hardware() -> None:
    assert estimate("bm25", TINY, WORK, 0.1).hours is None
    e = estimate("bm25", TINY, WORK, 0.1, hardware="h100", devices=2, usd_per_hour=3.0)
    assert e.hours == pytest.approx(hours(e.total_flops, "h100", count=2))
    assert e.usd == pytest.approx(e.hours * 2 * 3.0)


def test_a_table_is_sorted_by_cost() -> None:
    rows = estimates(["random", "ppl", "less"], TINY, WORK, [0.05, 0.5], convention="6NT")
    assert len(rows) == 6
    assert [r.total_flops for r in rows] == sorted(r.total_flops for r in rows)
    assert rows[0].method == "random"


def test_a_share_outside_the_pool_is_an_error() -> None:
    with pytest.raises(ValueError, match="fraction"):
        estimate("random", TINY, WORK, 1.5)
