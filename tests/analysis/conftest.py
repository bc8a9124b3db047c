"""Published reference tables, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paydirt.analysis.results import Panel, panels


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published numbers; tests that compare with them are skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("PAYDIRT_SHARED", beside)) / "reference"
    if not folder.is_dir():
        pytest.skip(
            f"no published reference tables at {folder}; set PAYDIRT_SHARED to the folder that holds reference/"
        )
    return folder


@pytest.fixture(scope="session")
def paper() -> dict[str, Panel]:
    """The seven published panels by name."""
    from paydirt.analysis.published import published

    return {p.name: p for p in panels(published())}
