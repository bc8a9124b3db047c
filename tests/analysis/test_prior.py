"""The prior that ships is what the project's own script fits to the published tables."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from paydirt.analysis.prior import FILE, fit, fitted_levels, levels


def _close(found: object, shipped: object, where: str, tolerance: float) -> None:
    """Equal keys, numbers within a share of `tolerance` of each other (or 0.001), texts the same."""
    if isinstance(shipped, dict):
        assert isinstance(found, dict), where
        assert found.keys() == shipped.keys(), where
        for key in shipped:
            _close(found[key], shipped[key], f"{where}/{key}", tolerance)
    elif isinstance(shipped, list):
        assert isinstance(found, list), where
        assert len(found) == len(shipped), where
        for number, value in enumerate(shipped):
            _close(found[number], value, f"{where}/{number}", tolerance)
    else:
        assert found == (shipped if isinstance(shipped, str) else pytest.approx(shipped, rel=tolerance, abs=1e-3)), (
            where
        )


def test_the_levels_that_ship_are_those_of_the_fit() -> None:
    """2 %: a search for an optimum ends a little elsewhere with another linear algebra library."""
    found, shipped = fitted_levels(), levels()
    _close(dict(found.sd), dict(shipped.sd), "sd", 0.02)
    _close(dict(found.study_noise), dict(shipped.study_noise), "study_noise", 0.02)


def test_all_that_ships_is_fitted_again() -> None:
    """Calibrations included, which rest on every panel held out by model and by task. Minutes."""
    shipped = json.loads(resources.files("paydirt.analysis").joinpath(FILE).read_text(encoding="utf-8"))
    _close(json.loads(json.dumps(fit())), shipped, FILE, 0.05)
