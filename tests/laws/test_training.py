"""Laws of training: the set of examples and the seed decide the model, and a killed run continues."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.command import start
from support.stages import Tiny, files_of

from paydirt.core.artifacts import Artifact, build
from paydirt.core.config import parse
from paydirt.stages import TrainStage, Workspace
from paydirt.training.config import TrainConfig

LORA = {"method": "lora", "lora": {"r": 4, "alpha": 8, "dropout": 0.1}}


def weights(trained: Artifact) -> dict[str, torch.Tensor]:
    [file] = (trained.path / "model").glob("*.safetensors")
    return load_file(file)


def losses(trained: Artifact) -> list[float]:
    return [entry["loss"] for entry in json.loads((trained.path / "train.json").read_text())["history"]]


def fake_selection(directory: Path, ids: list[str]) -> str:
    """What training reads of a selection: the ids, in rank order, and the share that was asked for."""

    def make(part: Path) -> dict[str, float]:
        (part / "selection.json").write_text(json.dumps({"ids": ids}))
        return {"fraction": len(ids) / 60}

    return str(build(directory, "select", {"ids": ids}, {}, make).path)


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
    from paydirt.tasks.loss import token_losses

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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_full_training_moves_weights_that_a_short_format_would_hold_in_place(
    tiny: Tiny, tmp_path: Path, dtype: str
) -> None:
    """At a rate of 2e-5 a step is below half a unit in the last place of most bfloat16 weights."""
    model = tiny.model_config | {"dtype": dtype}
    settings = {"learning_rate": 2e-5, "batch_size": 4, "epochs": 3} | (
        {"precision": "bf16"} if dtype != "bfloat16" else {}
    )
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), settings, model=model)
    before, after = load_file(tiny.model / "model.safetensors"), weights(trained)
    assert {v.dtype for v in after.values()} == {torch.float32}
    assert trained.notes["precision"] == "bf16"
    layers = [n for n in after if "proj" in n]  # embeddings of words that never occur do not move
    still = sum(int((before[n] == after[n]).sum()) for n in layers) / sum(after[n].numel() for n in layers)
    assert still < 0.01, f"{still:.0%} of the weights did not move in 45 steps"


def test_lora_parameters_are_float32_on_a_short_base(tiny: Tiny, tmp_path: Path) -> None:
    model = tiny.model_config | {"dtype": "bfloat16"}
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), LORA, model=model)
    assert {v.dtype for v in weights(trained).values()} == {torch.float32}


def hand_loop(tiny: Tiny, weighting: str, batch: int, steps: int) -> dict[str, torch.Tensor]:
    """AdamW by hand, one example a pass: the gradient of a batch is the sum of its examples', each with its weight."""
    from support.models import byte_tokenizer, tiny_llama

    from paydirt.data.encoding import Encoder, EncodingConfig
    from paydirt.data.pool import PoolConfig, open_pool

    examples = sorted(open_pool(PoolConfig(**tiny.pool), tiny.root / "hand").examples(), key=lambda e: e.id)
    encoded = Encoder(byte_tokenizer(), EncodingConfig(max_length=128)).encode_batch([e.messages for e in examples])
    model = tiny_llama().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    order = torch.randperm(len(encoded), generator=torch.Generator().manual_seed(0)).tolist()
    warmup = 1  # ceil(0.03 x steps)
    for step in range(steps):
        chosen = [encoded[i] for i in order[step * batch : (step + 1) * batch]]
        tokens = sum(e.n_supervised for e in chosen)
        for example in chosen:
            ids = torch.from_numpy(example.ids).long()[None]
            labels = ids.where(torch.from_numpy(example.supervised)[None], torch.tensor(-100))
            mean = model(input_ids=ids, labels=labels).loss
            share = 1 / len(chosen) if weighting == "sequences" else example.n_supervised / tokens
            (mean * share).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = step / warmup if step < warmup else (steps - step) / (steps - warmup)
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.mark.parametrize("weighting", ["tokens", "sequences"])
@pytest.mark.parametrize("micro", [1, 4, 8])
def test_a_batch_weighs_tokens_or_sequences(tiny: Tiny, tmp_path: Path, weighting: str, micro: int) -> None:
    """Against a loop by hand, whatever the size of a pass; the last batch has 4 examples of 8."""
    settings = {"weighting": weighting, "batch_size": 8, "micro_batch_size": micro}
    trained = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), settings)
    found = weights(trained)
    for name, value in hand_loop(tiny, weighting, 8, 8).items():
        if name in found:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-6)


def test_the_two_weightings_are_different_trainings(tiny: Tiny, tmp_path: Path) -> None:
    tokens, sequences = (hand_loop(tiny, name, 8, 2) for name in ("tokens", "sequences"))
    assert max(float((tokens[n] - sequences[n]).abs().max()) for n in tokens) > 1e-4


def test_evaluate_reads_a_tuned_model_through_its_adapter(tiny: Tiny, tmp_path: Path) -> None:
    """The score of an adapter directory is not its base's, and is that of the adapter merged into the base."""
    from peft import PeftModel
    from support.models import byte_tokenizer, save, tiny_llama

    workspace = Workspace(tmp_path / "shared")
    trained = tiny.train(tmp_path / "t", workspace, LORA | {"epochs": 6, "learning_rate": 5e-2})
    merged = PeftModel.from_pretrained(tiny_llama(), str(trained.path / "model")).merge_and_unload()
    places = {
        "base": tiny.model,
        "adapter": trained.path / "model",
        "merged": save(merged, byte_tokenizer(), tmp_path / "merged"),
    }
    found = {}
    for name, path in places.items():
        model = {"path": str(path), "device": "cpu"}
        made = tiny.evaluate(tmp_path / f"e-{name}", workspace, model=model, benchmark="likelihood")
        found[name] = made.notes["metrics"]["loss"]
    assert found["adapter"] == pytest.approx(found["merged"], rel=1e-4)
    assert found["adapter"] < found["base"] - 0.05


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

    def config(self, tiny: Tiny, tmp_path: Path, changes: dict) -> Path:
        """A stage file for `paydirt run`: 30 steps, a checkpoint each 5."""
        from paydirt.core.config import dump_yaml

        training = changes | {
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
            process.kill()  # SIGKILL
            process.wait()
        assert not out.exists(), "it must be killed before it ends"
        return max(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1])).name

    @pytest.mark.parametrize(
        "changes",
        [{"method": "full"}, LORA | {"micro_batch_size": 2}, {"method": "full", "group_by_length": True}],
        ids=["full", "lora", "grouped"],
    )
    def test_it_continues_and_ends_as_if_nothing_had_happened(self, tiny: Tiny, tmp_path: Path, changes: dict) -> None:
        from paydirt.core.config import read_yaml
        from paydirt.stages import train

        assert torch.get_num_threads() == 1, "sums depend on the number of threads; the tests run on one"
        config = self.config(tiny, tmp_path, changes)
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
        # On one thread nothing differs, not in the last bit: model, tokenizer, history and counted work.
        assert files_of(continued.path) == files_of(whole.path)
        assert continued.fingerprint == whole.fingerprint
        assert continued.notes["measured_flops"] == whole.notes["measured_flops"]
        assert not (continued.path / "checkpoints").exists()


def history(trained: Artifact) -> list[dict]:
    return json.loads((trained.path / "train.json").read_text())["history"]
