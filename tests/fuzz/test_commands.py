"""The law under fuzz: every command ends with 0 or 2 and without a traceback, whatever its files and arguments hold.

A minute's share of seeded cases; `python tests/fuzz/campaign.py --commands 10000` runs as many as are asked for.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.fuzz.cases import KINDS, WITHOUT_OUT, commands
from support.fuzz.ground import Ground, build
from support.fuzz.judge import try_case
from support.fuzz.process import call

CASES = int(os.environ.get("PAYDIRT_FUZZ", "1"))  # of each kind


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return build(tmp_path_factory.mktemp("fuzz-ground"))


def test_what_is_fuzzed_is_good_before(ground: Ground, tmp_path: Path) -> None:
    """A fuzzer whose commands fail anyway finds nothing."""
    for verb, line in commands(ground).items():
        out = [] if verb in WITHOUT_OUT else ["--out", str(tmp_path / verb)]
        done = call([*line, *out], tmp_path / "at")
        assert done.code == 0, f"{verb}: {done.text}"
        assert verb in ground.options, f"{verb}: its options are not known"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_traceback_and_an_end(kind: str, ground: Ground, tmp_path: Path) -> None:
    broken = []
    for number in range(CASES):
        found, line, done = try_case(ground, kind, number, tmp_path / str(number))
        if found:
            broken.append(f"{kind} {number}: {', '.join(found)}\n  {line}\n{done.err[-1500:]}")
    assert not broken, "\n\n".join(broken)
