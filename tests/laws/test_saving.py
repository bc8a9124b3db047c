"""Laws of a saved model: it is proved whole before its checkpoints go, and what is not whole is not loaded either."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.stages import Tiny

from paydirt.core.config import parse
from paydirt.core.files import file_digest
from paydirt.models.load import ModelConfig, load_model
from paydirt.stages import Workspace
from paydirt.training.saving import prove_whole

NAME = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change(model: Path, value: torch.Tensor | None) -> None:
    weights = load_file(model / "model.safetensors")
    weights.pop(NAME) if value is None else weights.update({NAME: value})
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_model_passes(model: Path) -> None:
    prove_whole(model)


@pytest.mark.parametrize("value", [None, torch.zeros(3, 3)], ids=["missing", "other shape"])
def test_a_missing_or_wrong_parameter_is_named(model: Path, value: torch.Tensor | None) -> None:
    change(model, value)
    with pytest.raises(ValueError, match=rf"not saved whole: 1 parameters are missing.*first {NAME}"):
        prove_whole(model)


def test_a_truncated_file_is_named(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        prove_whole(model)


def test_no_weights_at_all(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights were written"):
        prove_whole(model)


def test_an_adapter_is_compared_with_what_was_trained(model: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in load_file(model / "model.safetensors").items()}
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "x"}')
    prove_whole(model, shapes)
    with pytest.raises(ValueError, match=r"base\.lora_A should have shape \(4, 8\), found nothing"):
        prove_whole(model, shapes | {"base.lora_A": (4, 8)})


def test_what_is_not_whole_is_not_promoted_and_its_checkpoints_stay(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a launcher's sharded state did: `save_model` returns and has written nothing."""
    from paydirt.training.trainer import CountingTrainer

    real = CountingTrainer.save_model

    def only_checkpoints(self: CountingTrainer, output_dir: str, _internal_call: bool = False) -> None:
        if "checkpoint-" in output_dir:
            real(self, output_dir, _internal_call)

    monkeypatch.setattr(CountingTrainer, "save_model", only_checkpoints)
    with pytest.raises(ValueError, match="no weights were written"):
        tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), {"save": "epoch"})
    assert not (tmp_path / "t").exists()
    assert list((tmp_path / "t.part" / "checkpoints").glob("checkpoint-*"))
    monkeypatch.undo()
    again = tiny.train(tmp_path / "t", Workspace(tmp_path / "shared"), {"save": "epoch"})
    assert again.notes["resumed_from"] == "checkpoint-8", "the remedy: the same command, from the last checkpoint"


def test_a_model_with_a_missing_weight_is_not_filled_at_random(model: Path) -> None:
    change(model, None)
    with pytest.raises(ValueError, match=f"1 weights are missing from its files, first {NAME}"):
        load_model(parse(ModelConfig, {"path": str(model), "device": "cpu"}))


def test_no_pickle_of_the_run_stays(tiny: Tiny, tmp_path: Path) -> None:
    """The Trainer's `training_args.bin` holds paths of this run, so that kept checkpoints would never be equal bytes."""
    made = [
        tiny.train(
            tmp_path / place,
            Workspace(tmp_path / "cache"),
            {"save": "steps", "save_steps": 4, "keep_checkpoints": True},
        )
        for place in ("here", "elsewhere")
    ]
    kept = [
        {str(p.relative_to(a.path)): file_digest(p) for p in a.path.glob("checkpoints/**/*") if p.is_file()}
        for a in made
    ]
    assert any(name.endswith("optimizer.pt") for name in kept[0])
    assert not any(name.endswith("training_args.bin") for name in kept[0])
    assert kept[0] == kept[1]
