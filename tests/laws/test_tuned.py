"""Laws of shared tuned models: each id, token, mask and setting of the model decides which one is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.stages import Tiny

from paydirt.core.config import parse
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.models.load import ModelConfig, load_model, load_tokenizer
from paydirt.scoring.gradient_passes import warmup_rows
from paydirt.stages import Workspace
from paydirt.tasks.loss import token_losses
from paydirt.training import shared
from paydirt.training.config import TrainConfig


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where tuned models would be looked for; nothing is trained."""
    found: list[Path] = []
    monkeypatch.setattr(shared, "build", lambda place, *more: found.append(place))
    return found


def test_every_reference_decides_which_tuned_model_is_found(tiny: Tiny, tmp_path: Path, places: list[Path]) -> None:
    """40 references, changed one after another: in a token, in a mask, in an id; no change finds the old model."""
    model = parse(ModelConfig, tiny.model_config)
    encoder = Encoder(load_tokenizer(model), EncodingConfig(max_length=128))
    rng = np.random.default_rng(0)
    masks = [np.arange(20) > 10 for _ in range(40)]
    examples = [shared.Encoded(rng.integers(3, 300, 20, dtype=np.int32), mask) for mask in masks]
    ids = [f"r{i}" for i in range(40)]

    def place(examples: Any, ids: Any, **changes: Any) -> Path:
        config = model.model_copy(update=changes)
        shared.tuned_model(tmp_path, "p", config, encoder, examples, ids, TrainConfig(), 0, "architectural")
        return places[-1]

    first = place(examples, ids)
    assert place(examples, ids) == first
    for i, example in enumerate(examples):
        tokens, mask = example.ids.copy(), example.supervised.copy()
        tokens[19] += 1
        mask[11] = False
        for changed in (replace(example, ids=tokens), replace(example, supervised=mask)):
            assert place([*examples[:i], changed, *examples[i + 1 :]], ids) != first, f"reference {i}"
        assert place(examples, [*ids[:i], "other", *ids[i + 1 :]]) != first
    for changes in ({"quantization": "4bit"}, {"dtype": "bfloat16"}, {"attention": "eager"}):
        assert place(examples, ids, **changes) != first, changes


@pytest.mark.parametrize("weighting", ["tokens", "sequences"])
def test_a_warm_up_weighs_what_it_is_told(tiny: Tiny, tmp_path: Path, weighting: str) -> None:
    """The published warm-up weighs sequences equally; the artifact says which was done, and each is a model of its own."""
    method = {
        "name": "gradient", "warmup_fraction": 0.3, "warmup_epochs": 1, "warmup_batch_size": 8, "k": 32,
        "warmup_learning_rate": 1e-2, "lora": {"r": 2, "alpha": 4, "dropout": 0.0}, "warmup_weighting": weighting,
    }  # fmt: skip
    score = tiny.score(method, tmp_path / "score", Workspace(tmp_path / "shared"))
    (tuned,) = (tmp_path / "shared" / "tuned").glob("warmup-*")
    told = yaml.safe_load((tuned / "config.yaml").read_text())["training"]["weighting"]
    assert told == weighting == score.manifest["config"]["method"]["warmup_weighting"]
    losses = [e["loss"] for e in json.loads((tuned / "train.json").read_text())["history"]]
    stage = tiny.score_stage(method)
    workspace = Workspace(tmp_path / "shared")
    tokens = workspace.tokens(stage.pool, stage.model, stage.encoding)
    job = tiny.job(method, tmp_path / "job", workspace)
    rows = warmup_rows(job, 0.3, 0)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    first = token_losses(load_model(stage.model), [tokens[int(rows[i])] for i in order[:8]], 0)
    by_sequence = float(np.mean([part.mean() for part in first]))
    by_token = float(np.concatenate(first).mean())
    assert abs(by_sequence - by_token) > 1e-3
    # Fresh LoRA parameters change nothing yet: the first step's loss is the base model's, weighed as told.
    assert losses[0] == pytest.approx(by_sequence if weighting == "sequences" else by_token, rel=1e-4)
