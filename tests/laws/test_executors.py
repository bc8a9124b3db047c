"""Laws of executors: how many processes work, which units they are given and who dies changes no byte and no cost."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
from support.stages import Tiny, files_of, set_shard_rows

from paydirt.columns import PoolColumn
from paydirt.columns.losses import Losses
from paydirt.cost.ledger import Ledger
from paydirt.execution.local import Local, local
from paydirt.models.load import model_identity, visible_gpus
from paydirt.stages import Workspace


def double(number: int) -> int:
    if number == 13:
        raise ValueError("13 is refused")
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.fixture(scope="module")
def spec(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Losses:
    root = tmp_path_factory.mktemp("executor")
    job = tiny.job("ppl", root / "job", Workspace(root / "shared"))
    identity = model_identity(job.selector)
    return Losses(tokens=job.tokens_ref, model=job.selector, identity=identity, pad_id=job.encoder.pad_id)


def test_processes_fill_a_column_as_one_would(spec: Losses, tmp_path: Path) -> None:
    """Shards and pieces, shuffled, by three processes: the same losses, FLOPs and tokens of every row."""
    alone = PoolColumn(spec, tmp_path / "one", 4096)
    Local(1).fill(alone, alone.plan())
    shared = PoolColumn(spec, tmp_path / "three", 7)
    some = shared.plan(np.array([5, 8, 13, 21, 34, 55]))
    assert [type(unit) for unit in some] == [tuple]
    Local(3).fill(shared, some)
    units = shared.plan()
    assert len(units) == 9
    Local(3).fill(shared, list(reversed(units)))
    one, three = alone.read(np.arange(60)), shared.read(np.arange(60))
    assert one.values["losses"].flat.tobytes() == three.values["losses"].flat.tobytes()  # type: ignore[union-attr]
    assert one.flops.tolist() == three.flops.tolist()
    assert one.tokens.tolist() == three.tokens.tolist()
    assert sum(line["flops"] for line in shared.lines()) == sum(one.flops.tolist())


PLAIN = {"name": "gradient", "warmup_epochs": 0, "direction": "sgd", "k": 64, "lora": {"r": 2, "alpha": 4}}


@pytest.mark.parametrize("method", [{"name": "ppl", "tune_epochs": 0}, PLAIN], ids=["ppl", "gradient"])
def test_a_score_does_not_depend_on_the_workers(
    method: dict, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, the columns that the method reads, and its scores where it spreads them: the same files and FLOPs."""
    set_shard_rows(monkeypatch, 16)
    found = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        workspace = Workspace(root / "shared", executor=Local(workers))
        artifact = tiny.score(method, root / "scores", workspace)
        found.append((files_of(artifact.path), Ledger(artifact.path).entries()[-1].measured_flops))
    assert found[0] == found[1]


def test_results_come_in_order_and_errors_as_they_are() -> None:
    assert Local(2).map(double, [3, 1, 2], "doubling") == [6, 2, 4]
    with pytest.raises(ValueError, match=r"^13 is refused$"):
        Local(2).map(double, [1, 13, 2], "doubling")


def test_a_killed_worker_is_an_error_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"one of 2 workers died.*run it again, with fewer --workers"):
        Local(2).map(double, [99, 1], "doubling")


def test_what_is_asked_for_must_be_there() -> None:
    assert local(3, None) == Local(3)
    assert local(None, "all") == Local()
    assert local(None, "0,2") == Local(gpus=(0, 2))
    for workers, gpus in ((0, None), (None, "x"), (None, "1,1"), (2, "0")):
        with pytest.raises(ValueError, match="--"):
            local(workers, gpus)
    missing = len(visible_gpus())
    with pytest.raises(ValueError, match=f"there is no GPU {missing}.*leave out --gpus"):
        Local(gpus=(missing,)).map(double, [1, 2], "doubling")


def test_an_executor_and_its_units_travel(spec: Losses, tmp_path: Path) -> None:
    assert pickle.loads(pickle.dumps(Local(2))) == Local(2)
    assert spec.placed("cuda:1").key == spec.key
    assert spec.placed("cuda:1").model.device == "cuda:1"  # type: ignore[attr-defined]
