"""Laws of one training on a Ray cluster: Ray Train's ranks train torchrun's model, and a lost node changes no weight.

Two nodes of one core each, over gloo.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.nodes import SMALL, two_small_nodes
from support.stages import Tiny

from laws.test_processes import METHODS, data_of, torchrun, weights
from paydirt.core.artifacts import Artifact
from paydirt.core.config import parse
from paydirt.cost.ledger import Ledger
from paydirt.execution import Local, Ray
from paydirt.stages import TrainStage, Workspace, train

ray = pytest.importorskip("ray", reason="execution on Ray needs the extra `ray`")
LIMIT = 240.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_small_nodes() as made:
        yield made


def flags_of(settings: dict[str, Any]) -> list[str]:
    flags = [f"--set={k}={v}" for k, v in settings.items() if k != "lora"]
    return flags + [f"--set=lora.{k}={v}" for k, v in settings.get("lora", {}).items()]


def command(tiny: Tiny, data: Path, out: Path, settings: dict[str, Any]) -> list[str]:
    files = ["--data", data, "--model", tiny.model, "--out", out, "--cache", out.with_name(out.name + "-cache")]
    return [str(a) for a in ("train", *files, "--device", "cpu", "--max-length", 64, *flags_of(settings))]


def same_weights(a: Artifact, b: Artifact) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("count", "method"), [(29, "full"), (33, "lora")])
def test_ray_train_trains_the_model_of_torchrun(
    cluster: Any, tiny: Tiny, paydirt: Any, tmp_path: Path, count: int, method: str
) -> None:
    """The same bits: the same ranks over the same batches."""
    data = data_of(tmp_path, count)
    settings = METHODS[method] | {"batch_size": 8, "epochs": 2, "learning_rate": 1e-3}
    code, said = torchrun("paydirt", *command(tiny, data, tmp_path / "torchrun", settings))
    assert code == 0, said[-3000:]
    asked = ["--execution", "ray", "--address", cluster.address, "--workers", "2"]
    code, _, err = paydirt(*command(tiny, data, tmp_path / "ray", settings), *asked)
    assert code == 0, err
    theirs, ours = Artifact(tmp_path / "torchrun"), Artifact(tmp_path / "ray")
    assert same_weights(ours, theirs)
    assert ours.manifest["key"] == theirs.manifest["key"]
    assert ours.notes["processes"] == 2
    assert ours.notes == theirs.notes
    lines = Ledger(ours.path).entries()
    assert len(lines) == 2, "a line a rank"
    assert sum(line.measured_flops or 0 for line in lines) == pytest.approx(ours.notes["measured_flops"], rel=1e-6)
    assert not [*ours.path.glob(".ray*"), *ours.path.glob("**/*.part")]


def stage_of(tiny: Tiny, data: Path, settings: dict[str, Any]) -> TrainStage:
    values = {"pool": {"files": [str(data)]}, "model": tiny.model_config, "encoding": {"max_length": 64}}
    return parse(TrainStage, values | {"training": settings})


def test_what_the_training_refuses_is_said_as_on_one_machine(
    cluster: Any, tiny: Tiny, tmp_path: Path, capsys: Any
) -> None:
    data = data_of(tmp_path, 16)
    workspace = Workspace(tmp_path / "shared", executor=Ray(cluster.address, 2))
    odd = stage_of(tiny, data, METHODS["full"] | {"batch_size": 7})
    with pytest.raises(ValueError, match=r"^batch_size 7 is not a multiple of micro_batch_size 3 x 2 processes$"):
        train(odd, tmp_path / "odd", workspace)
    assert "was lost" not in capsys.readouterr().err, "it was tried again"
    workspace = Workspace(tmp_path / "shared", executor=Ray(cluster.address, 3))
    with pytest.raises(ValueError, match="--workers 3: the Ray cluster has 2 CPU cores"):
        train(odd, tmp_path / "odd", workspace)
    with pytest.raises(ValueError, match=r"one training in 2 processes needs .*--execution ray.*torchrun"):
        train(odd, tmp_path / "odd", Workspace(tmp_path / "shared", executor=Local(2)))


def test_a_lost_node_costs_seconds_and_no_weight(cluster: Any, tiny: Tiny, tmp_path: Path, capsys: Any) -> None:
    data, settings = data_of(tmp_path, 32), METHODS["full"] | {"batch_size": 8, "epochs": 12, "learning_rate": 1e-3}
    stage = stage_of(tiny, data, settings | {"save": "steps", "save_steps": 4})
    executor = Ray(cluster.address, 2)
    times = []
    whole = timed(times, lambda: train(stage, tmp_path / "whole", Workspace(tmp_path / "a", executor=executor)))
    node = next(n for n in cluster.list_all_nodes() if n is not cluster.head_node)
    lost: list[str] = []

    def replace_node() -> None:
        checkpoints = tmp_path / "broken.part" / "checkpoints"
        end = time.monotonic() + LIMIT
        while not [*checkpoints.glob("checkpoint-*/trainer_state.json")] and time.monotonic() < end:
            time.sleep(0.02)
        lost.extend(path.name for path in checkpoints.glob("checkpoint-*"))
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(**SMALL)

    beside = threading.Thread(target=replace_node, daemon=True)
    beside.start()
    broken = timed(times, lambda: train(stage, tmp_path / "broken", Workspace(tmp_path / "b", executor=executor)))
    beside.join(LIMIT)
    told = capsys.readouterr().err
    with capsys.disabled():
        print(f"\na node lost in a training of two ranks: {times[1]:.1f} s, {times[0]:.1f} s without")
    assert lost
    assert "a process of 2 was lost" in told
    assert same_weights(broken, whole)
    assert broken.notes["resumed_from"], "it began anew"


def timed(times: list[float], work: Callable[[], Artifact]) -> Artifact:
    began = time.monotonic()
    try:
        return work()
    finally:
        times.append(time.monotonic() - began)
