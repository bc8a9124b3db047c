"""Laws of training: the set of examples and the seed decide the model, and a killed run continues."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.command import start
from support.data import record, write_jsonl
from support.stages import Tiny, files_of

from paydirt.artifacts import Artifact
from paydirt.config import parse
from paydirt.stages import TrainStage, Workspace
from paydirt.training.config import TrainConfig

LORA = {"method": "lora", "lora": {"r": 4, "alpha": 8, "dropout": 0.1}}


def weights(trained: Artifact) -> dict[str, torch.Tensor]:
    [file] = (trained.path / "model").glob("*.safetensors")
    return load_file(file)


def losses(trained: Artifact) -> list[float]:
    return [entry["loss"] for entry in json.loads((trained.path / "train.json").read_text())["history"]]


def fake_selection(directory: Path, ids: list[str]) -> str:
    """What training reads of a selection: the ids, in rank order."""
    directory.mkdir(parents=True)
    (directory / "selection.json").write_text(json.dumps({"ids": ids}))
    return str(directory)


@pytest.mark.parametrize("method", [{"method": "full"}, LORA], ids=["full", "lora"])
def test_rank_order_of_the_same_set_gives_identical_model_bytes(tiny: Tiny, tmp_path: Path, method: dict) -> None:
    """Two methods that choose the same examples train the same model, whatever order they rank them in."""
    ids = [f"sums-{i:03d}" for i in range(0, 60, 3)]
    outputs = []
    for name, order in (("up", ids), ("down", ids[::-1])):
        selection = fake_selection(tmp_path / f"selection-{name}", order)
        trained = tiny.train(tmp_path / name, Workspace(tmp_path / "shared"), method, selection=selection)
        outputs.append(files_of(trained.path / "model"))
    assert outputs[0] == outputs[1]


def test_row_order_of_the_pool_gives_identical_model_bytes(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    outputs = [
        files_of(tiny.train(tmp_path / name, workspace, pool=pool).path / "model")
        for name, pool in (("one", tiny.pool), ("other", tiny.shuffled))
    ]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("method", [{"method": "full"}, LORA], ids=["full", "lora"])
def test_the_seed_decides(tiny: Tiny, tmp_path: Path, method: dict) -> None:
    workspace = Workspace(tmp_path / "shared")
    made = {n: tiny.train(tmp_path / n, workspace, method, seed=s) for n, s in (("a", 1), ("again", 1), ("other", 2))}
    assert files_of(made["a"].path / "model") == files_of(made["again"].path / "model")
    assert files_of(made["a"].path / "model") != files_of(made["other"].path / "model")


@pytest.mark.parametrize("method", [{"method": "full"}, LORA], ids=["full", "lora"])
def test_accumulation_is_the_batch_cut_into_pieces(tiny: Tiny, tmp_path: Path, method: dict) -> None:
    """Mean over the supervised tokens of the whole batch, not a mean of the pieces' means."""
    settings = method | {"batch_size": 8, "epochs": 1, "lora": {"r": 4, "alpha": 8, "dropout": 0.0}}
    workspace = Workspace(tmp_path / "shared")
    whole = tiny.train(tmp_path / "whole", workspace, settings)
    pieces = tiny.train(tmp_path / "pieces", workspace, settings | {"micro_batch_size": 2})
    assert whole.notes["steps"] == pieces.notes["steps"] == 8
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(pieces)[name], value, rtol=1e-3, atol=2e-5)


def test_padding_and_neighbours_do_not_change_the_first_loss(tiny: Tiny, tmp_path: Path) -> None:
    """The loss of the untrained model on the whole pool is the token mean of the examples' own losses."""
    from support.models import byte_tokenizer, tiny_llama

    from paydirt.data.encoding import Encoder, EncodingConfig
    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.evaluation.loss import token_losses

    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), {"batch_size": 64})
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=128))
    pool = open_pool(PoolConfig(**tiny.pool), tmp_path / "shared")
    each = token_losses(tiny_llama(), encoder.encode_batch([e.messages for e in pool.examples()]), 0, token_budget=1)
    expected = sum(float(part.sum()) for part in each) / sum(len(part) for part in each)
    assert trained.notes["steps"] == 1
    assert losses(trained)[0] == pytest.approx(expected, rel=1e-4)


def test_a_training_of_one_step_trains(tiny: Tiny, tmp_path: Path) -> None:
    """The warm-up of the schedule begins at rate 0: it must not be all there is."""
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), {"batch_size": 64})
    before = load_file(tiny.model / "model.safetensors")
    assert any(not torch.equal(before[n], v) for n, v in weights(trained).items())


def test_training_lowers_the_loss(tiny: Tiny, tmp_path: Path) -> None:
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), {"epochs": 6, "learning_rate": 5e-3})
    assert losses(trained)[-1] < 0.8 * losses(trained)[0]


def test_what_has_no_supervised_token_is_left_out_and_counted(tiny: Tiny, tmp_path: Path) -> None:
    short = {"template": "tulu", "max_length": 40}
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), encoding=short)
    assert 0 < trained.notes["without_supervised_tokens"] < 60
    assert trained.notes["examples"] + trained.notes["without_supervised_tokens"] == 60
    with pytest.raises(ValueError, match="no example to train on has a supervised token"):
        tiny.train(tmp_path / "u", Workspace(tmp_path / "shared"), encoding={"template": "tulu", "max_length": 8})


def test_recipes_are_defaults_that_given_keys_win_over() -> None:
    config = parse(TrainConfig, {"recipe": "seeds", "batch_size": 8})
    assert config.batch_size == 8
    assert config.precision == "bf16"
    assert config.rate_for(0.025) == config.rate_for(0.05) == 4e-5
    assert config.rate_for(0.1) == 2e-5
    with pytest.raises(ValueError, match=r"unknown training recipe 'sedes'; did you mean 'seeds'\?"):
        parse(TrainConfig, {"recipe": "sedes"})
    with pytest.raises(ValueError, match="batch_size 10 is not a multiple of micro_batch_size 4"):
        parse(TrainConfig, {"batch_size": 10, "micro_batch_size": 4})


class TestKilled:
    """A process that dies by SIGKILL in the middle of training is continued from its last whole checkpoint."""

    STEPS = 30

    def config(self, tiny: Tiny, tmp_path: Path) -> Path:
        """A stage file for `paydirt run`: 30 steps, a checkpoint each 5."""
        from paydirt.config import dump_yaml

        training = {
            "method": "full",
            "learning_rate": 1e-3,
            "batch_size": 4,
            "epochs": 2,
            "save": "steps",
            "save_steps": 5,
        }
        stage = parse(
            TrainStage,
            {
                "pool": tiny.pool,
                "model": tiny.model_config,
                "encoding": {"max_length": 128},
                "training": training,
            },
        )
        path = tmp_path / "train.yaml"
        path.write_text(dump_yaml({"stage": "train", **stage.to_dict()}))
        return path

    def kill_after_checkpoint(self, config: Path, out: Path, cache: Path) -> str:
        """Start, wait for a checkpoint, kill; the name of the last checkpoint left."""
        process = start("run", config, "--out", out, "--cache", cache)
        try:
            deadline = time.monotonic() + 120
            checkpoints = out.with_name(out.name + ".part") / "checkpoints"
            while not list(checkpoints.glob("checkpoint-*/trainer_state.json")):
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                assert time.monotonic() < deadline, "no checkpoint within two minutes"
                time.sleep(0.002)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert not out.exists(), "it must be killed before it ends"
        return max(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1])).name

    def test_it_continues_and_ends_as_if_nothing_had_happened(self, tiny: Tiny, tmp_path: Path) -> None:
        from paydirt.config import read_yaml
        from paydirt.stages import train

        config = self.config(tiny, tmp_path)
        values = read_yaml(config)
        values.pop("stage")
        stage = parse(TrainStage, values)
        workspace = Workspace(tmp_path / "cache")
        whole = train(stage, tmp_path / "whole", workspace)
        assert whole.notes["steps"] == self.STEPS
        assert whole.notes["resumed_from"] is None

        self.kill_after_checkpoint(config, tmp_path / "killed", tmp_path / "cache")
        part = tmp_path / "killed.part"
        # What a kill inside the writing of a checkpoint leaves: weights, but no state. It must not be taken for whole.
        half = part / "checkpoints" / f"checkpoint-{self.STEPS - 1}"
        half.mkdir()
        shutil.copy(tiny.model / "model.safetensors", half)
        (half / "trainer_state.json").write_text('{"global_st')

        continued = train(stage, tmp_path / "killed", workspace)
        assert continued.notes["resumed_from"].startswith("checkpoint-")
        assert continued.notes["resumed_from"] != half.name
        assert continued.notes["steps"] == self.STEPS
        assert [e["step"] for e in history(continued)] == [e["step"] for e in history(whole)]
        # The first line after the resume is a mean over fewer steps; all others are equal.
        at = int(continued.notes["resumed_from"].split("-")[1])
        first = next(i for i, entry in enumerate(history(continued)) if entry["step"] > at)
        for i, (mine, theirs) in enumerate(zip(losses(continued), losses(whole))):
            assert i == first or mine == pytest.approx(theirs, rel=1e-3)
        for name, value in weights(whole).items():
            torch.testing.assert_close(weights(continued)[name], value, rtol=1e-3, atol=1e-4)
        assert not (continued.path / "checkpoints").exists()


def history(trained: Artifact) -> list[dict]:
    return json.loads((trained.path / "train.json").read_text())["history"]


@pytest.mark.skipif(sys.platform != "linux", reason="accelerate's CPU launcher")
def test_two_processes_make_one_artifact(tiny: Tiny, tmp_path: Path) -> None:
    """`accelerate launch` on two CPU processes: the batch is shared out, one directory is promoted, nothing is left."""
    import subprocess

    from support.command import ROOT, environment

    out = tmp_path / "out"
    launcher = Path(sys.executable).with_name("accelerate")
    if not launcher.exists():
        pytest.skip("accelerate's launcher is not beside this Python")
    data = write_jsonl(tmp_path / "d.jsonl", [record(f"x{i}", f"Say {i}.", f"It is {i}.") for i in range(32)])
    command = [
        *(launcher, "launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"),
        *("--dynamo_backend", "no", "--main_process_port", "0", "-m", "paydirt", "train", "--data", data),
        *("--model", tiny.model, "--out", out, "--cache", tmp_path / "cache", "--device", "cpu", "--method", "full"),
        *("--batch-size", "8", "--epochs", "1", "--learning-rate", "1e-3", "--max-length", "64"),
    ]
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trained = Artifact(out)
    assert trained.notes["steps"] == 4, "32 examples in batches of 8, whatever the number of processes"
    assert not out.with_name("out.part").exists()
    stage = {"pool": {"files": [str(data)]}, "encoding": {"max_length": 64}}
    alone = tiny.train(tmp_path / "alone", Workspace(tmp_path / "cache2"), {"batch_size": 8}, **stage)
    assert losses(trained)[0] == pytest.approx(losses(alone)[0], rel=1e-3)
    assert trained.notes["predicted_flops"] == alone.notes["predicted_flops"]
    assert trained.notes["measured_flops"] == pytest.approx(alone.notes["measured_flops"], rel=0.2)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(trained)[name], value, rtol=1e-2, atol=1e-3)
