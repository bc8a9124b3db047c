"""Laws of several processes: torchrun trains the model that one process trains, and nothing hangs, whatever is asked.

Real processes over gloo on the CPU, each run with a time limit after which all of them are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.command import ROOT, environment
from support.data import record, write_jsonl
from support.stages import Tiny

from paydirt.artifacts import Artifact
from paydirt.stages import Workspace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torchrun over gloo")


def torchrun(*arguments: str | Path, limit: int = 180, processes: int = 2, **env: str) -> tuple[int, str]:
    """`torchrun --nproc_per_node 2 -m ARGUMENTS`; exit status and output. The test fails where it outlives `limit` s."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**env),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"still running after {limit} s:\n{output[-3000:]}")
    return process.returncode, output


def data_of(directory: Path, count: int) -> Path:
    rows = [record(f"x{i:02d}", f"Say {i}.", f"It is {'very ' * (i % 7)}{i}.") for i in range(count)]
    return write_jsonl(directory / "d.jsonl", rows)


def weights(trained: Artifact) -> dict[str, torch.Tensor]:
    [file] = (trained.path / "model").glob("*.safetensors")
    return load_file(file)


METHODS = {"full": {"method": "full"}, "lora": {"method": "lora", "lora": {"r": 4, "alpha": 8, "dropout": 0.0}}}


@pytest.mark.parametrize(
    ("count", "method", "more"),
    [
        (32, "full", {}),
        (29, "full", {}),
        (33, "lora", {"micro_batch_size": 2}),
        (29, "full", {"weighting": "sequences", "micro_batch_size": 1}),
    ],
)
def test_two_processes_train_the_model_of_one(
    tiny: Tiny, tmp_path: Path, count: int, method: str, more: dict[str, Any]
) -> None:
    """Whether or not they divide the data: no example is repeated to fill a batch."""
    data, out = data_of(tmp_path, count), tmp_path / "out"
    settings = METHODS[method] | {"batch_size": 8, "epochs": 2, "learning_rate": 1e-3} | more
    flags = [f"--set={k}={v}" for k, v in settings.items() if k != "lora"]
    flags += [f"--set=lora.{k}={v}" for k, v in settings.get("lora", {}).items()]
    code, said = torchrun(
        *("paydirt", "train", "--data", data, "--model", tiny.model, "--out", out, "--cache", tmp_path / "cache"),
        *("--device", "cpu", "--max-length", "64", *flags),
    )
    assert code == 0, said[-3000:]
    trained = Artifact(out)
    assert not out.with_name("out.part").exists()
    assert trained.notes["processes"] == 2, "a launcher that starts one process proves nothing"
    stage = {"pool": {"files": [str(data)]}, "encoding": {"max_length": 64}}
    alone = tiny.train(tmp_path / "alone", Workspace(tmp_path / "cache2"), settings, **stage)
    assert trained.notes["steps"] == alone.notes["steps"] == 2 * -(-count // 8)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(trained)[name], value, rtol=1e-5, atol=1e-6)
    assert trained.notes["predicted_flops"] == alone.notes["predicted_flops"]
    assert trained.notes["measured_flops"] == pytest.approx(alone.notes["measured_flops"], rel=0.25)
