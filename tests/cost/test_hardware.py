"""Laws of the hardware table: hours and budgets are inverses; names and shares are checked."""

from __future__ import annotations

import pytest

from paydirt.cost.hardware import HARDWARE, budget_flops, hardware, hours, money


@pytest.mark.parametrize("name", HARDWARE)
def test_hours_and_budget_are_inverse(name: str) -> None:
    assert hours(budget_flops(name, 48, count=4), name, count=4) == pytest.approx(48)


def test_published_gradient_pass_takes_days_on_one_a100() -> None:
    """METHODS section 2: 48 h of gradients on an A100; S_LESS at the table's utilisation is of that order."""
    assert 12 < hours(8.2692e18, "a100") < 60


def test_money_is_device_hours_times_price() -> None:
    assert money(989e12 * 3600, "h100", mfu=1.0, usd_per_hour=2.0) == pytest.approx(2.0)
    assert money(989e12 * 3600 * 8, "H100", count=8, mfu=1.0, usd_per_hour=2.0) == pytest.approx(16.0)


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match="h100"):
        hardware("h10")
    with pytest.raises(ValueError, match="utilisation"):
        hours(1, "h100", mfu=1.5)
    with pytest.raises(ValueError, match="devices"):
        hours(1, "h100", count=0)
    with pytest.raises(ValueError, match="hours"):
        budget_flops("h100", 0)
