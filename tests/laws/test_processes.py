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

from paydirt.core.artifacts import Artifact
from paydirt.core.config import dump_yaml
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


REFUSED = "runs in one process, but a launcher started 2"


@pytest.mark.parametrize("verb", ["score", "run"])
def test_what_runs_in_one_process_refuses_a_launcher_at_once(tiny: Tiny, tmp_path: Path, verb: str) -> None:
    """One rank would hold the lock of the tuned model while its Trainer waited for the other, for ever."""
    if verb == "score":
        target = ("--target", "t", "--references", tiny.root / "references.jsonl")
        files = ("--pool", tiny.root / "pool.jsonl", *target, "--model", tiny.model, "--out", tmp_path / "out")
        command = ("score", "gradient", *files, "--model-device", "cpu", "--k", "64", "--warmup-fraction", "0.3")
    else:
        recipe = tmp_path / "study.yaml"
        study = {"name": "s", "pool": tiny.pool, "targets": [tiny.target], "methods": ["random"], "workers": 2}
        recipe.write_text(dump_yaml(study | {"model": tiny.model_config, "fractions": [0.1], "seeds": [0]}))
        command = ("run", recipe, "--out", tmp_path / "out")
    code, said = torchrun("paydirt", *command, limit=60)
    assert code != 0
    assert REFUSED in said
    assert "without torchrun" in said
    assert not (tmp_path / "out").exists()


def test_a_tuned_model_refuses_a_launcher_from_python_too(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=REFUSED):
        tiny.score({"name": "ppl", "tune_epochs": 1}, tmp_path / "out", Workspace(tmp_path / "shared"))


class FourGpus:
    """What torch says on a machine of four GPUs, and the one that was made current."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: list[torch.device] = []
        answers = {"is_available": True, "device_count": 4, "is_bf16_supported": True, "current_device": 0}
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.current.append(torch.device(device)))


@pytest.mark.parametrize(("asked", "used"), [("cuda", 0), ("cuda:1", 1), ("cuda:3", 3)])
def test_the_trainer_keeps_to_the_gpu_it_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, used: int
) -> None:
    """The Trainer alone would take the first, wrap all in DataParallel, and train on batches of four times the size."""
    from accelerate.state import AcceleratorState, PartialState
    from transformers import TrainingArguments

    from paydirt.training.devices import OneDevice

    machine = FourGpus(monkeypatch)
    try:
        plain = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=8)
        assert (plain.n_gpu, plain.train_batch_size) == (4, 32), "what is mended here"
        own = OneDevice(output_dir=str(tmp_path), per_device_train_batch_size=8, place=asked)
        assert (own.n_gpu, own.train_batch_size) == (1, 8)
        assert own.device == torch.device("cuda", used) == machine.current[-1]
        assert PartialState().device == own.device, "what accelerate moves models and batches to"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_each_process_has_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from paydirt.models.load import resolve_device

    FourGpus(monkeypatch)
    assert [resolve_device(d) for d in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert [resolve_device(d) for d in ("auto", "cuda", "cuda:2", "cpu")] == ["cuda:2", "cuda:2", "cuda:2", "cpu"]
    with pytest.raises(ValueError, match="'cuda:1' is one GPU"):
        resolve_device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(ValueError, match="process 4 of this machine has no GPU: there are 4"):
        resolve_device("auto")


@pytest.mark.parametrize("states", ["SHARDED_STATE_DICT", "FULL_STATE_DICT"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_sharded_training_leaves_a_model_that_loads(tiny: Tiny, tmp_path: Path, states: str, method: str) -> None:
    """FSDP in two processes, whatever its checkpoints hold: the artifact has all weights, those of one process.

    Version 2: torch 2.13's version 1 ends in a segmentation fault when it gathers weights on the CPU.
    """
    data, out = data_of(tmp_path, 32), tmp_path / "out"
    settings = METHODS[method] | {"batch_size": 8, "epochs": 1, "learning_rate": 1e-3}
    flags = [f"--set={k}={v}" for k, v in settings.items() if k != "lora"]
    flags += [f"--set=lora.{k}={v}" for k, v in settings.get("lora", {}).items()]
    fsdp = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_STATE_DICT_TYPE": states,
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    }
    code, said = torchrun(
        *("support.fsdp", "train", "--data", data, "--model", tiny.model, "--out", out, "--cache", tmp_path / "cache"),
        *("--device", "cpu", "--max-length", "64", *flags),
        **fsdp,
    )
    assert code == 0, said[-3000:]
    stage = {"pool": {"files": [str(data)]}, "encoding": {"max_length": 64}}
    alone = tiny.train(tmp_path / "alone", Workspace(tmp_path / "cache2"), settings, **stage)
    found, expected = weights(Artifact(out)), weights(alone)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert Artifact(out).notes["trainable_parameters"] == alone.notes["trainable_parameters"]
