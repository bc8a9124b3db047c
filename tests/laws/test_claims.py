"""Laws of claims: one process works at a time, a dead one's work goes on at once, another machine's after its silence."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from paydirt.core import claims
from paydirt.core.artifacts import build
from paydirt.core.claims import SILENT, claim_of, claimed, counts, locked, revoke


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def written(path: Path, **facts: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts))


HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("facts", "age", "free"),
    [
        ({"host": HERE, "process": "gone"}, 0, True),
        ({"host": HERE, "process": os.getppid()}, 0, False),
        ({"host": HERE, "process": os.getppid()}, SILENT + 5, False),
        ({"host": HERE, "process": os.getppid(), "born": "1"}, 0, True),  # its number was given to another
        ({"host": HERE, "process": os.getpid(), "born": "1"}, 0, True),  # to this one: a container begun anew
        ({"host": HERE, "process": "gone", "machine": "another container of this name"}, 0, False),
        ({"host": "another-machine", "process": "gone"}, 0, False),
        ({"host": "another-machine", "process": "gone"}, SILENT + 5, True),
        ({}, 0, False),
        ({}, SILENT + 5, True),
    ],
)
def test_whose_claim_counts(facts: dict[str, Any], age: float, free: bool, tmp_path: Path) -> None:
    claim = tmp_path / "claims" / "00000"
    written(claim, **{name: gone() if value == "gone" else value for name, value in facts.items()})
    before = claim.stat().st_mtime - age
    os.utime(claim, (before, before))
    assert counts(claim) != free
    with claimed(claim) as mine:
        assert bool(mine) == free
    assert claim.exists() != free
    assert len(list(claim.parent.iterdir())) == (0 if free else 1)


def test_a_zombie_is_gone(tmp_path: Path) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.02)
    written(tmp_path / "claim", host=HERE, process=zombie.pid)
    assert not counts(tmp_path / "claim")
    zombie.wait()


def test_what_may_be_done_twice_is_not_left_to_a_frozen_process(tmp_path: Path) -> None:
    claim = tmp_path / "00000"
    written(claim, host=HERE, process=os.getppid())
    os.utime(claim, (time.time() - SILENT - 5,) * 2)
    with claimed(claim) as mine:
        assert not mine
    with claimed(claim, frozen=True) as mine:
        assert mine


def test_the_claim_of_who_is_given_up_is_taken_back(tmp_path: Path) -> None:
    claim = tmp_path / "00000"
    written(claim, host="elsewhere", process=1)
    with claimed(claim) as mine:
        assert not mine
    revoke(claim, "elsewhere", 2)
    assert claim.exists()
    revoke(claim, "elsewhere", 1)
    with claimed(claim) as mine:
        assert mine


def _count(place: Path, rounds: int) -> None:
    for _ in range(rounds):
        with locked(place):
            seen = int((place / "count").read_text())
            time.sleep(0.001)
            (place / "count").write_text(str(seen + 1))


def test_many_who_find_a_dead_claim_take_turns(tmp_path: Path) -> None:
    """A counter that is read and written without care, by processes of which one is killed again and again."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "count").write_text("0")
    written(claim_of(place), host=HERE, process=gone())
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(place, 40)) for _ in range(4)]
    victim = _holder(place)
    for worker in workers:
        worker.start()
    time.sleep(0.2)
    victim.kill()
    victim.wait()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (place / "count").read_text() == "160"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["place"]


HOLD = """
import sys, time
from pathlib import Path
from paydirt.core import claims
claims.BEAT = 0.2
with claims.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def _holder(place: Path, *prefix: str) -> subprocess.Popen:
    process = subprocess.Popen([*prefix, sys.executable, "-c", HOLD, str(place)], stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


def test_what_another_machine_leaves_is_taken_over_when_it_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Another host name, in which a process holds an artifact, does half of it and is killed."""
    prefix = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this user may not give a process another host name")
    monkeypatch.setattr(claims, "SILENT", 1.5)
    monkeypatch.setattr(claims, "NOTICE", 0.2)
    out = tmp_path / "a"
    other = _holder(out, *prefix)
    try:
        assert json.loads(claim_of(out).read_text())["host"] == "elsewhere"
        time.sleep(2.0)
        assert counts(claim_of(out)), "it is touched"
    finally:
        died = time.monotonic()
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    with locked(out) as mine:
        assert 0.5 < time.monotonic() - died < 20
        assert mine.holds()
    assert "of elsewhere is making it; waiting" in capsys.readouterr().err


def test_who_was_taken_over_does_not_finish(tmp_path: Path) -> None:
    """As after a suspension: the other's work stays as it is."""
    out = tmp_path / "a"

    def slow(part: Path) -> None:
        (part / "data").write_text("mine")
        written(claim_of(out), host="elsewhere", process=1)

    with pytest.raises(ValueError, match="another machine took over"):
        build(out, "s", {"x": 1}, {}, slow)
    assert not out.exists()
    assert json.loads(claim_of(out).read_text())["host"] == "elsewhere"
