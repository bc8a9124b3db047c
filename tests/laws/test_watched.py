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
    model = load_model(ModelConfig(path=str(watched / "model"), device="cpu"))
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny.model), EncodingConfig(**ENCODING))
    total, count = 0.0, 0
    for record in reference_records():
        one = encoder.encode([Message(m["role"], m["content"]) for m in record["messages"]])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(one.ids[None].astype(np.int64))).logits[0].log_softmax(-1)
        for place in np.flatnonzero(one.supervised[1:]):
            total, count = total - float(logits[place, int(one.ids[place + 1])]), count + 1
    assert told["reference_loss"][-1]["reference_loss"] == pytest.approx(total / count, rel=1e-4)


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
