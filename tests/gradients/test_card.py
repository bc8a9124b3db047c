"""What runs on an accelerator runs on a pretended one (`on_card.py`), in a process of its own: torch counts its devices at
the first backward pass of a process, and can't forget one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ROOT, environment


@pytest.mark.parametrize("cases", ["refuses or llama", "not refuses and not llama"])
def test_nothing_meets_another_device_or_waits_for_it(cases: str) -> None:
    file = Path(__file__).with_name("on_card.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", cases, str(file)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), text=True, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout or done.stdout.startswith("."), done.stdout
