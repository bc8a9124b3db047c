"""The command line, called in this process through its real entry point, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paydirt ARGUMENTS`."""
    from paydirt import cli

    monkeypatch.setattr(sys, "argv", ["paydirt", *arguments])
    capsys.readouterr()
    apps = (cli.app, cli.score_app)
    before = [(list(a.registered_commands), list(a.registered_groups)) for a in apps]
    try:
        cli.main()
        code = 0
    except SystemExit as leave:
        code = int(leave.code or 0)
    finally:  # a process registers its commands once; here they would pile up call after call
        for app, (commands, groups) in zip(apps, before):
            app.registered_commands, app.registered_groups = commands, groups
    out, err = capsys.readouterr()
    return code, out, err


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """`python -m paydirt ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "paydirt", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def python(code: str) -> str:
    """stdout of `python -c CODE`; the test fails where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
