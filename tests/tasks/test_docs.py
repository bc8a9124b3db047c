"""`docs/benchmarks.md` is executed: every command in a bash block, in order, beside the shared data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.data import shared_data

pytest.importorskip("lm_eval", reason="standard benchmarks need the extra `eval`")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def test_every_command_runs(paydirt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").symlink_to(shared_data().parent)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    blocks = re.findall(r"^```bash\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    commands = [line.split("  #")[0] for block in blocks for line in block.splitlines() if line.startswith("paydirt")]
    assert len(commands) >= 8
    printed = {}
    for command in commands:
        arguments = shlex.split(command)[1:]
        code, printed[arguments[0] + arguments[1]], said = paydirt(*arguments)
        assert code == 0, f"{command}\n{said}"
    assert re.search(
        r"prompt_level_strict_acc │ 0\.7722.*prompt_level_loose_acc  │ 0\.7963", printed["evaluate--responses"], re.S
    )
    assert (tmp_path / "work" / "runs" / "export" / "bbh-train-p0.05-bm25.jsonl").exists()
