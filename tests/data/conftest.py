"""Fixtures of this folder: where the shared real data lies, and a writer of small JSONL files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def shared() -> Path:
    """`$PAYDIRT_SHARED/data` or `<repository>/../shared/data`; the test is skipped where there is none."""
    root = Path(os.environ.get("PAYDIRT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}; set PAYDIRT_SHARED")
    return root


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write records (dicts, or lines of text as they are) to `name`; returns the path."""

    def write(name: str, *records: dict[str, Any] | str) -> str:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return write
