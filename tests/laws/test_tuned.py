"""Laws of shared tuned models: each id, token, mask and setting of the model decides which one is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.config import parse
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.models.load import ModelConfig, load_tokenizer
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
