"""Laws of artifacts between processes: one makes and the others wait, ranks agree, and no reader sees half a file."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from paydirt.core import files
from paydirt.core.artifacts import MANIFEST, build, open_artifact

from .test_artifacts import make_file


def _race(out: Path, log: Path) -> None:
    def make(part: Path) -> None:
        with open(log, "a") as handle:
            handle.write("made\n")
        time.sleep(0.3)
        (part / "data.txt").write_text("x")

    build(out, "s", {}, {}, make)


def test_of_two_processes_one_makes_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_race, args=(tmp_path / "a", tmp_path / "log")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "made\n"


def _slow_rename() -> None:
    """Widen the window between the steps of a promotion, in this process."""
    rename = os.rename

    def slow(*arguments: Any) -> None:
        time.sleep(0.2)
        rename(*arguments)
        time.sleep(0.2)

    os.rename = slow  # type: ignore[assignment]


def _contend(out: Path, number: int, log: Path) -> None:
    """Build `out` with a key of its own, as another of several processes that all want the place."""
    _slow_rename()

    def make(part: Path) -> None:
        with open(log, "a") as handle:
            handle.write(f"begin {number}\n")
        (part / "data.txt").write_text(f"{number}")
        time.sleep(0.05)
        assert (part / "data.txt").read_text() == f"{number}"
        with open(log, "a") as handle:
            handle.write(f"end {number}\n")

    build(out, "s", {"x": number}, {}, make)


def test_processes_that_want_the_same_place_with_other_keys_take_turns(tmp_path: Path) -> None:
    """Nobody dies, nobody works while another does, and what is left is whole."""
    out, log = tmp_path / "a", tmp_path / "log"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_contend, args=(out, n, log)) for n in range(4)]
    for worker in workers:
        worker.start()
    seen = set()
    while any(worker.is_alive() for worker in workers):
        if (out / "data.txt").exists():
            seen.add((out / "data.txt").read_text())
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0, 0]
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) == 8
    for begin, end in zip(lines[::2], lines[1::2]):
        assert end == begin.replace("begin", "end"), "two worked at once"
    last = lines[-1].split()[1]
    assert (open_artifact(out).path / "data.txt").read_text() == last
    assert seen <= {"0", "1", "2", "3"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "log"]


def _write(path: Path, letter: str) -> None:
    until = time.time() + 1.5
    while time.time() < until:
        files.write_atomic(path, letter * 200_000)


def test_two_writers_of_one_file_never_show_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_atomic(path, "a" * 200_000)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(path, letter)) for letter in "abc"]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        text = path.read_text()
        assert len(text) == 200_000
        assert len(set(text)) == 1
        reads += 1
    assert [w.exitcode or w.join() or w.exitcode for w in writers] == [0, 0, 0]
    assert reads > 20
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_leaves_does_not_become_output(tmp_path: Path) -> None:
    def make(part: Path) -> None:
        (part / "deep").mkdir()
        (part / "deep" / f"{files.WRITING}1-2-x.npy").write_text("hal")
        (part / "deep" / "x.npy").write_text("half")

    made = build(tmp_path / "a", "s", {}, {}, make)
    assert list(made.manifest["outputs"]) == ["deep/x.npy"]
    assert [p.name for p in (made.path / "deep").iterdir()] == ["x.npy"]


def _rank(root: Path, rank: int, forced: bool) -> None:
    """One rank of a collective work: rank 0 waits in `make` for the other, writes, and is slow to finish."""
    os.environ["RANK"] = str(rank)

    def make(part: Path) -> dict[str, int]:
        (root / f"here-{rank}").touch()
        while not (root / f"here-{1 - rank}").exists():
            time.sleep(0.01)
        if rank == 0:
            time.sleep(0.5)
            (part / "data.txt").write_text("new")
        return {}

    replace: Any = "anything" if forced else "nothing"
    artifact = build(root / "a", "s", {"x": 1}, {}, make, collective=True, replace=replace)
    (root / f"rank-{rank}").write_text((artifact.path / "data.txt").read_text())


@pytest.mark.parametrize("left", ["nothing", "finished", "finished and half made", "all but the rename"])
def test_no_rank_of_a_forced_work_leaves_with_the_old_output(tmp_path: Path, left: str) -> None:
    """The same key is there already: only another making of it is what was asked for."""
    if left != "nothing":
        build(tmp_path / "a", "s", {"x": 1}, {}, make_file("old"))
        if left != "finished":
            key = json.loads((tmp_path / "a" / MANIFEST).read_text())["key"]
            part = tmp_path / "a.part"
            part.mkdir()
            (part / "key").write_text(key)
            if left == "all but the rename":
                for file in (tmp_path / "a").iterdir():
                    (part / file.name).write_bytes(file.read_bytes())
    ranks = [multiprocessing.get_context("fork").Process(target=_rank, args=(tmp_path, r, True)) for r in (1, 0)]
    for process in ranks:
        process.start()
        time.sleep(0.2)  # the follower comes first, and meets what an earlier run left
    for process in ranks:
        process.join(30)
        process.kill()
    assert [(tmp_path / f"rank-{r}").read_text() for r in (0, 1)] == ["new", "new"]


def test_ranks_agree_where_only_the_rename_was_missing(tmp_path: Path) -> None:
    """Rank 0 renames and does not work again, so the other must not begin to wait for it."""
    build(tmp_path / "a", "s", {"x": 1}, {}, make_file("old"))
    key = json.loads((tmp_path / "a" / MANIFEST).read_text())["key"]
    os.rename(tmp_path / "a", tmp_path / "a.part")
    (tmp_path / "a.part" / "key").write_text(key)
    ranks = [multiprocessing.get_context("fork").Process(target=_rank, args=(tmp_path, r, False)) for r in (1, 0)]
    for process in ranks:
        process.start()
        time.sleep(0.2)
    for process in ranks:
        process.join(30)
        process.kill()
    assert [(tmp_path / f"rank-{r}").read_text() for r in (0, 1)] == ["old", "old"]
