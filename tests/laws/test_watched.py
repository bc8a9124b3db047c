"""A training that people watch: the bytes of one that nobody watches, reports, an early end, its chat form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.data import reference_records, write_jsonl
from support.stages import ENCODING, Tiny, files_of
from transformers import AutoTokenizer

from paydirt.core.types import Message
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.models.load import ModelConfig, load_model
from paydirt.stages import Workspace

LORA = {"method": "lora", "lora": {"r": 4, "dropout": 0.1}, "learning_rate": 1e-2, "watch_every": 2}


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_jsonl(tmp_path_factory.mktemp("watch") / "references.jsonl", reference_records()))


@pytest.fixture(scope="module")
def watched(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory, references: str) -> Path:
    """A LoRA training of 8 steps, watched every two, reported to tensorboard."""
    pytest.importorskip("tensorboard")
    folder = tmp_path_factory.mktemp("watched")
    training = LORA | {"report_to": ["tensorboard"]}
    return tiny.train(folder / "tuned", Workspace(folder / "shared"), training, references=references).path


def test_watching_changes_no_byte_of_the_model(watched: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Dropout draws at every step, so any draw or mode that watching left behind would show."""
    alone = tiny.train(tmp_path / "tuned", Workspace(tmp_path / "shared"), LORA).path
    ours, theirs = files_of(watched / "model"), files_of(alone / "model")
    assert {k: v for k, v in ours.items() if k.endswith(".safetensors")} == {
        k: v for k, v in theirs.items() if k.endswith(".safetensors")
    }
    assert "reference_loss" not in json.loads((alone / "train.json").read_text())


def test_the_loss_is_that_of_a_plain_loop_over_the_references(watched: Path, tiny: Tiny) -> None:
    told = json.loads((watched / "train.json").read_text())
    assert [look["step"] for look in told["reference_loss"]] == [2, 4, 6, 8]
    assert told["reference_loss"][-1]["reference_loss"] == pytest.approx(plain_loss(watched / "model", tiny), rel=1e-4)


def plain_loss(path: Path, tiny: Tiny) -> float:
    model = load_model(ModelConfig(path=str(path), device="cpu"))
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny.model), EncodingConfig(**ENCODING))
    total, count = 0.0, 0
    for record in reference_records():
        one = encoder.encode([Message(m["role"], m["content"]) for m in record["messages"]])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(one.ids[None].astype(np.int64))).logits[0].log_softmax(-1)
        for place in np.flatnonzero(one.supervised[1:]):
            total, count = total - float(logits[place, int(one.ids[place + 1])]), count + 1
    return total / count


def test_tensorboard_reads_what_was_reported(watched: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = watched.with_name("tuned.logs")
    events = EventAccumulator(str(next(logs.rglob("events.out.*")).parent))
    events.Reload()
    names = {name.rsplit("/", 1)[-1] for name in events.Tags()["scalars"]}
    assert {"loss", "reference_loss", "learning_rate"} <= names
    assert not list(watched.rglob("events.out.*")), "times of day are no part of an artifact"


@pytest.mark.parametrize(
    ("name", "words"), [("tensorbord", "did you mean 'tensorboard'"), ("swanlab", "swanlab is not installed here")]
)
def test_a_tool_that_is_not_there_is_refused_before_anything_runs(
    tiny: Tiny, tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        tiny.train(tmp_path / "tuned", Workspace(tmp_path / "shared"), LORA | {"report_to": [name]})


def test_training_ends_early_by_the_references(tiny: Tiny, tmp_path: Path, references: str) -> None:
    """At a rate that ruins the model no loss is better than those of the first looks, and two looks later it ends."""
    ruinous = LORA | {"learning_rate": 0.3, "epochs": 4, "early_stop": 2}
    made = tiny.train(tmp_path / "tuned", Workspace(tmp_path / "shared"), ruinous, references=references)
    looks = [look["reference_loss"] for look in json.loads((made.path / "train.json").read_text())["reference_loss"]]
    assert made.notes["stopped_early"] is True
    assert len(looks) >= 3
    assert min(looks[-2:]) >= min(looks[:-2])
    assert made.notes["steps"] == 2 * len(looks) < 32
    with pytest.raises(ValueError, match="early_stop goes by the loss of references"):
        tiny.train(tmp_path / "none", Workspace(tmp_path / "shared"), ruinous)


def told_and_found(made: Any, tiny: Tiny) -> tuple[list[float], float]:
    """What the looks at the references saw, and the loss of the model that was saved, by a plain loop."""
    told = json.loads((made.path / "train.json").read_text())
    return [look["reference_loss"] for look in told["reference_loss"]], plain_loss(made.path / "model", tiny)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_early_end_saves_the_weights_of_the_best_look(
    tiny: Tiny, tmp_path: Path, references: str, method: str
) -> None:
    """The best look lies before the last, at a rate that ruins the model; its step is in the notes, nothing is left over."""
    training = LORA | {"method": method, "learning_rate": {"lora": 0.1, "full": 0.03}[method], "epochs": 4}
    training |= {"early_stop": 2, "watch_every": 1, "schedule": "constant"}
    made = tiny.train(tmp_path / "tuned", Workspace(tmp_path / "shared"), training, references=references)
    looks, found = told_and_found(made, tiny)
    assert made.notes["saved_step"] == 1 + int(np.argmin(looks)) == made.notes["steps"] - 2
    assert found == pytest.approx(min(looks), rel=1e-4)
    assert found < looks[-1] - 1e-3, "the last weights are worse, or this shows nothing"
    assert sorted(p.name for p in made.path.iterdir() if p.is_dir()) == ["model"]


def test_beside_an_adapter_the_best_look_is_saved_too(
    tiny: Tiny, tmp_path: Path, references: str, watched: Path
) -> None:
    training = LORA | {"learning_rate": 0.1, "epochs": 4, "early_stop": 2, "watch_every": 1, "schedule": "constant"}
    base = {"path": str(watched / "model"), "device": "cpu"}
    made = tiny.train(tmp_path / "tuned", Workspace(tmp_path / "shared"), training, references=references, model=base)
    looks, found = told_and_found(made, tiny)
    assert made.notes["saved_step"] < made.notes["steps"]
    assert found == pytest.approx(min(looks), rel=1e-4)
    assert found < looks[-1] - 1e-3


def test_a_killed_run_ends_with_the_best_weights_all_the_same(
    tiny: Tiny, tmp_path: Path, references: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended after a look whose checkpoint names an older best: the run that continues saves the bytes of a whole one."""
    from paydirt.training.watch import Watch

    training = LORA | {"learning_rate": 0.1, "epochs": 4, "early_stop": 4, "watch_every": 1, "schedule": "constant"}
    training |= {"save": "steps", "save_steps": 2}
    space = Workspace(tmp_path / "shared")
    whole = tiny.train(tmp_path / "whole", space, training, references=references)
    end = Watch.on_step_end
    last = whole.notes["saved_step"] + 3  # a checkpoint or two after the best look

    def dies(self: Watch, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        end(self, args, state, control, **kwargs)
        if state.global_step == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "on_step_end", dies)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(tmp_path / "killed", space, training, references=references)
    kept = {p.name for p in (tmp_path / "killed.part" / "best").iterdir()}
    assert str(whole.notes["saved_step"]) in kept
    assert len(kept) <= 2
    monkeypatch.setattr(Watch, "on_step_end", end)
    again = tiny.train(tmp_path / "killed", space, training, references=references)
    assert again.notes["resumed_from"] is not None
    assert again.notes["saved_step"] == whole.notes["saved_step"]
    assert files_of(again.path / "model") == files_of(whole.path / "model")


def test_the_tuned_tokenizer_carries_the_form_it_was_tuned_in(watched: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(watched / "model")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}], tokenize=False
    )
    assert "<|user|>\nHello\n<|assistant|>\nHi" + tokenizer.eos_token in text


def test_evaluation_uses_the_adapter_or_refuses(watched: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Tuned and base differ; an adapter that changes nothing (its B is zero) is an error, not a copy of the base's score."""
    import shutil

    from safetensors.torch import load_file, save_file

    space = Workspace(tmp_path / "shared")

    def loss(path: Path, name: str) -> Any:
        made = tiny.evaluate(tmp_path / name, space, model={"path": str(path), "device": "cpu"})
        return made.notes["metrics"]["test_loss"]

    assert loss(watched / "model", "tuned") != loss(tiny.model, "base")
    blank = shutil.copytree(watched / "model", tmp_path / "blank")
    weights = load_file(blank / "adapter_model.safetensors")
    save_file(
        {k: torch.zeros_like(v) if "lora_B" in k else v for k, v in weights.items()},
        blank / "adapter_model.safetensors",
    )
    with pytest.raises(ValueError, match="the adapter changes nothing"):
        loss(blank, "blank-result")
