"""Laws of execution on Ray: neither the cluster, nor a node that dies, nor a killed driver changes a byte or a cost.

One cluster of two nodes on this machine serves all tests; those that lose a node add it first.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import ROOT, environment
from support.nodes import SMALL, two_small_nodes
from support.slow import SlowLosses, double, steps
from support.stages import ENCODING, TRAINING, Tiny, files_of, set_shard_rows

from paydirt.columns import Block, PoolColumn
from paydirt.core.claims import SILENT
from paydirt.core.progress import Bar
from paydirt.cost.ledger import Ledger
from paydirt.execution import Local, Ray, cluster, crew, executor
from paydirt.models.load import model_identity
from paydirt.stages import Workspace

ray = pytest.importorskip("ray", reason="execution on Ray needs the extra `ray`")
ALONE = (
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)  # all of it goes with its first process
LIMIT = 240.0  # seconds after which a test that waits for the cluster has failed


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    with two_small_nodes() as made:
        yield made


@pytest.fixture
def cluster_of_two(two_nodes: Any) -> Ray:
    return Ray(two_nodes.address)


@pytest.fixture(scope="module")
def spec(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> SlowLosses:
    root = tmp_path_factory.mktemp("ray")
    job = tiny.job("ppl", root / "job", Workspace(root / "shared"))
    identity = model_identity(job.selector)
    return SlowLosses(tokens=job.tokens_ref, model=job.selector, identity=identity, pad_id=job.encoder.pad_id)


@pytest.fixture(scope="module")
def alone(spec: SlowLosses, tmp_path_factory: pytest.TempPathFactory) -> Block:
    """What one process computes."""
    column = PoolColumn(spec, tmp_path_factory.mktemp("alone"), 4096)
    Local(1).fill(column, column.plan())
    return column.read(np.arange(60))


def assert_same(column: PoolColumn, alone: Block) -> None:
    """The same losses, FLOPs and tokens of every row, and cost lines that add up to no more."""
    found = column.read(np.arange(60))
    assert found.values["losses"].flat.tobytes() == alone.values["losses"].flat.tobytes()  # type: ignore[union-attr]
    assert found.flops.tolist() == alone.flops.tolist()
    assert found.tokens.tolist() == alone.tokens.tolist()
    assert sum(line["flops"] for line in column.lines()) == sum(alone.flops.tolist())


def in_time(what: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """`what()` in a thread beside `meanwhile()`; the test fails where it takes too long."""
    found: dict[str, Any] = {}

    def run() -> None:
        try:
            found["result"] = what()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    meanwhile()
    thread.join(LIMIT)
    assert not thread.is_alive(), f"not done within {LIMIT} s"
    if "error" in found:
        raise found["error"]
    return found["result"]


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, f"not within {LIMIT} s"
        time.sleep(0.05)


def shards(column: PoolColumn) -> list[Path]:
    return sorted((column.path / "shards").glob("*.safetensors"))


def test_two_nodes_fill_a_column_as_one_process_would(
    cluster_of_two: Ray, spec: SlowLosses, alone: Block, tmp_path: Path
) -> None:
    """Some rows, then all shards, the last first."""
    column = PoolColumn(spec, tmp_path, 7)
    in_time(lambda: cluster_of_two.fill(column, column.plan(np.array([5, 8, 13, 21, 34, 55]))))
    units = column.plan()
    assert len(units) == 9
    in_time(lambda: cluster_of_two.fill(column, list(reversed(units))))
    assert_same(column, alone)
    assert not list(tmp_path.glob(".seen-*"))


def test_a_node_that_dies_costs_seconds_and_no_byte(
    two_nodes: Any, cluster_of_two: Ray, spec: SlowLosses, alone: Block, tmp_path: Path, capsys: Any
) -> None:
    node = two_nodes.add_node(**SMALL)
    column = PoolColumn(spec.model_copy(update={"pause": 0.3}), tmp_path, 2)
    last: list[float] = []

    def remove() -> None:
        wait_for(lambda: len(shards(column)) >= 6)
        two_nodes.remove_node(node, allow_graceful=False)
        last.append(time.monotonic())

    in_time(lambda: Ray(two_nodes.address, workers=3).fill(column, column.plan()), remove)
    ended = time.monotonic() - last[0]
    assert_same(column, alone)
    left = 24 * 0.3 / 2
    told = capsys.readouterr().err
    with capsys.disabled():
        print(f"\na node lost in a fill: {ended:.1f} s to the end; two workers' pauses alone are {left:.1f} s")
    assert "died" in told
    assert "its unit goes to another" in told


def test_workers_say_how_far_they_are(cluster_of_two: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of two trainings are known here before one of them has ended."""
    seen: list[float] = []
    reached = Bar.reached
    monkeypatch.setattr(Bar, "reached", lambda bar: seen.append(reached(bar)) or seen[-1])
    monkeypatch.setenv("PAYDIRT_PROGRESS", "0.1")
    # Long enough for the board, an actor of its own, to start on a busy machine.
    assert in_time(lambda: cluster_of_two.map(steps, [60, 60], "tuning")) == [60, 60]
    assert any(n not in (0, 1, 2) for n in seen)
    assert seen == sorted(seen)


def test_what_the_work_refuses_is_not_tried_again(cluster_of_two: Ray, spec: SlowLosses, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tasks = [(n, str(notes)) for n in (3, 1, 2)]
    assert in_time(lambda: cluster_of_two.map(double, tasks, "doubling")) == [6, 2, 4]
    with pytest.raises(ValueError, match=r"^13 is refused$") as caught:
        in_time(lambda: cluster_of_two.map(double, [(13, str(notes)), *tasks], "doubling"))
    assert type(caught.value) is ValueError
    assert notes.read_text() == "x"
    column = PoolColumn(spec.model_copy(update={"refused": 30, "notes": str(notes)}), tmp_path, 16)
    with pytest.raises(ValueError, match=r"^row 30 is refused$"):
        in_time(lambda: cluster_of_two.fill(column, column.plan()))
    assert notes.read_text() == "xx"


def test_work_that_kills_its_workers_is_given_up(
    cluster_of_two: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "DEATHS", 2)
    with pytest.raises(ValueError, match=r"2 Ray workers died over the same unit.*with fewer --workers"):
        in_time(lambda: cluster_of_two.map(double, [(99, str(tmp_path / "notes"))], "doubling"))
    assert (tmp_path / "notes").read_text() == "xx"


def test_what_a_frozen_worker_holds_is_given_out_twice(
    cluster_of_two: Ray, spec: SlowLosses, alone: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(crew, "PATIENCE", 1.0)
    column = PoolColumn(spec.model_copy(update={"frozen": 3, "notes": str(tmp_path / "notes")}), tmp_path, 7)
    in_time(lambda: cluster_of_two.fill(column, column.plan()))
    assert time.time() - (tmp_path / "notes").stat().st_mtime < SILENT, "it waited for the claim to be silent"
    assert_same(column, alone)
    assert "given out twice" in capsys.readouterr().err


DRIVER = """
import pickle, sys
from pathlib import Path
from paydirt.columns import PoolColumn
from paydirt.execution import Ray
spec = pickle.loads(bytes.fromhex(sys.argv[1]))
column = PoolColumn(spec, Path(sys.argv[2]), 2)
Ray(sys.argv[3]).fill(column, column.plan())
"""


def test_a_killed_driver_is_continued(
    two_nodes: Any, cluster_of_two: Ray, spec: SlowLosses, alone: Block, tmp_path: Path
) -> None:
    import pickle

    column = PoolColumn(spec, tmp_path, 2)
    slow = pickle.dumps(spec.model_copy(update={"pause": 0.3})).hex()
    env = environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, slow, str(tmp_path), two_nodes.address], env=env)
    try:
        wait_for(lambda: len(shards(column)) >= 4 or driver.poll() is not None)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {path: path.stat().st_mtime_ns for path in shards(column)}
    assert 4 <= len(before) < 30
    in_time(lambda: cluster_of_two.fill(column, column.plan()))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same(column, alone)


def test_a_node_that_does_not_see_the_storage_is_named(
    two_nodes: Any, cluster_of_two: Ray, spec: SlowLosses, tmp_path: Path
) -> None:
    """A third node, in which something else is mounted over the folder."""
    place = tmp_path / "shared"
    place.mkdir()
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
        pytest.skip("this user may not unshare mounts, so that no node can be kept from seeing a folder")
    start = f"{sys.executable} -m ray.scripts.scripts start --address={two_nodes.address} --num-cpus=1"
    command = f"mount -t tmpfs none {place} && exec {start} --object-store-memory=80000000 --block"
    joined(cluster_of_two)
    column, missing = PoolColumn(spec, place, 7), place / "model"

    def refusals(new: str) -> bool:
        """Whether the node was there for both; Ray may drop one that a busy machine starts slowly."""
        sees = rf"node .*{new[:8]}\) does not see what is written to {place}.*nodes share"
        try:
            with pytest.raises(ValueError, match=sees):
                in_time(lambda: cluster_of_two.fill(column, column.plan()))
            assert not list(place.iterdir())
            missing.mkdir()
            with pytest.raises(ValueError, match=rf"{new[:8]}\) has no {missing}"):
                in_time(lambda: cluster_of_two.check(tmp_path, inputs=[str(missing)]))
        except (AssertionError, pytest.fail.Exception):
            if new in {node.id for node in cluster.nodes()}:
                raise
            shutil.rmtree(place)
            place.mkdir()
            return False
        return True

    assert any(beside(command, refusals) for _ in range(3)), "no third node stayed long enough"


def beside(command: str, what: Callable[[str], bool]) -> bool:
    """`what(id)` of a node that the command starts and that goes at the end; False where none came."""
    before = {node.id for node in cluster.nodes()}
    node = subprocess.Popen([*ALONE, "sh", "-c", command], start_new_session=True, stdout=-3, stderr=-3)
    try:
        wait_for(lambda: {found.id for found in cluster.nodes()} > before or node.poll() is not None)
        added = {found.id for found in cluster.nodes()} - before
        return any(what(new) for new in added)
    finally:
        node.kill()
        node.wait()
        wait_for(lambda: {found.id for found in cluster.nodes()} <= before)


def joined(who: Ray) -> list[cluster.Node]:
    who.check()
    return cluster.nodes()


WARMUP = [
    "--warmup-epochs",
    "1",
    "--warmup-fraction",
    "0.5",
    "--warmup-batch-size",
    "8",
    "--k",
    "64",
    "--checkpoints",
    "1",
]


@pytest.mark.parametrize(("method", "options"), [("ppl", ["--tune-epochs", "0"]), ("gradient", WARMUP)])
def test_a_score_by_the_command_is_that_of_one_process(
    method: str,
    options: list[str],
    two_nodes: Any,
    tiny: Tiny,
    paydirt: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_shard_rows(monkeypatch, 16)
    found = []
    for name, more in (("local", ["--workers", "1"]), ("ray", ["--execution", "ray", "--address", two_nodes.address])):
        files = ["--pool", tiny.pool["files"][0], "--target", "t", "--references", tiny.target["references"]]
        model = ["--model", str(tiny.model), "--max-length", "128", *options]
        place = ["--out", str(tmp_path / name), "--cache", str(tmp_path / f"{name}-cache")]
        code, _, err = paydirt("score", method, *files, *model, *place, *more)
        assert code == 0, err
        found.append((files_of(tmp_path / name), Ledger(tmp_path / name).entries()[-1].measured_flops))
    assert found[0] == found[1]


def test_a_study_that_loses_a_node_ends_with_the_same_rows(
    two_nodes: Any, tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    from paydirt.core.config import parse
    from paydirt.study.recipe import Study
    from paydirt.study.run import run_study

    values = {
        "name": "small",
        "pool": tiny.pool,
        "targets": [tiny.target],
        "model": tiny.model_config,
        "encoding": ENCODING,
        "methods": ["random"],
        "fractions": [0.5],
        "seeds": [3, 6],
        "training": TRAINING | {"epochs": 4},
    }
    run_study(parse(Study, values | {"workers": 1}), tmp_path / "one")
    joined(Ray(two_nodes.address))
    others = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    ray.get(others.ready(), timeout=LIMIT)  # so that the study's worker must be on the node that is lost
    node = two_nodes.add_node(**SMALL)
    lost: list[float] = []

    def remove() -> None:
        models = tmp_path / "two" / "models"
        wait_for(lambda: len([*models.glob("*.part")]) >= 1)
        ray.util.remove_placement_group(others)
        two_nodes.remove_node(node, allow_graceful=False)
        lost.append(time.monotonic())

    asked = {"execution": "ray", "address": two_nodes.address, "workers": 1}
    in_time(lambda: run_study(parse(Study, values | asked), tmp_path / "two"), remove)
    ended, told = time.monotonic() - lost[0], capsys.readouterr().err
    with capsys.disabled():
        print(f"\na node lost in a study: {ended:.1f} s to the end")
    assert "died" in told
    assert "its unit goes to another" in told
    for kind in ("selections", "models", "evaluations"):
        one, two = outputs(tmp_path / "one" / kind), outputs(tmp_path / "two" / kind)
        assert one == two, kind


def outputs(folder: Path) -> dict[str, dict[str, bytes]]:
    """Content of every artifact below a folder; a Trainer's training_args.bin is a pickle of its paths."""
    found = {str(path.parent.relative_to(folder)): path.parent for path in folder.rglob("manifest.json")}
    return {
        name: {k: v for k, v in files_of(path).items() if not k.endswith("training_args.bin")}
        for name, path in found.items()
    }


def test_what_is_asked_for_must_go_together() -> None:
    assert executor("ray", "h:1", 3, None) == Ray("h:1", 3)
    assert executor("local", None, 3, None) == Local(3)
    for asked, complaint in (
        (("ray", None, None, "0,1"), "--gpus 0,1 are numbers of this machine"),
        (("ray", None, 0, None), "--workers 0: give at least 1"),
        (("local", "h:1", None, None), "add --execution ray"),
        (("slurm", None, None, None), "--execution slurm: give local or ray"),
    ):
        with pytest.raises(ValueError, match=complaint):
            executor(*asked)


def test_where_no_cluster_answers_that_is_said(two_nodes: Any, cluster_of_two: Ray) -> None:
    joined(cluster_of_two)
    with pytest.raises(ValueError, match=rf"joined the cluster at {two_nodes.address} already"):
        cluster.connect("127.0.0.1:1")
    with pytest.raises(ValueError, match="Ray's client cannot carry this"):
        cluster.connect("ray://127.0.0.1:10001")
    code = "from paydirt.execution import Ray\ntry:\n Ray('127.0.0.1:1').check()\nexcept ValueError as e:\n print(e)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=LIMIT, check=True
    )
    assert "--address 127.0.0.1:1: no Ray cluster answers there" in done.stdout
