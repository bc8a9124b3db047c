"""A law of precision: bfloat16 on CUDA unless told otherwise, and what was settled is what keys and configs hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from paydirt.core.config import deciding, dump_yaml
from paydirt.core.progress import say_once
from paydirt.models import load
from paydirt.models.load import ModelConfig


def machine(monkeypatch: pytest.MonkeyPatch, cuda: bool, bfloat16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: bfloat16)


@pytest.mark.parametrize(
    ("cuda", "asked", "held"),
    [
        (False, {}, "float32"),
        (True, {}, "bfloat16"),
        (True, {"dtype": "auto", "device": "cuda:1"}, "bfloat16"),
        (True, {"device": "cpu"}, "float32"),
        (True, {"dtype": "float32"}, "float32"),
        (True, {"dtype": "float16"}, "float16"),
        (False, {"device": "cuda"}, "bfloat16"),  # what a cluster's head asks of its nodes
        (False, {"dtype": "bfloat16"}, "bfloat16"),
    ],
)
def test_precision_is_settled_at_once(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, asked: dict[str, Any], held: str
) -> None:
    machine(monkeypatch, cuda)
    config = ModelConfig(path="m", **asked)
    assert config.dtype == held
    assert deciding(config)["dtype"] == held
    assert f"dtype: {held}" in dump_yaml(config.to_dict())
    machine(monkeypatch, not cuda)
    assert ModelConfig(**config.to_dict()).dtype == held, "a replay elsewhere keeps it"


def test_a_gpu_that_emulates_bfloat16_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, bfloat16=False)
    assert ModelConfig(path="m").dtype == "float32"


def test_float32_on_cuda_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    for _ in range(2):
        load._say_float32("cuda:7", torch.get_float32_matmul_precision())
    assert capsys.readouterr().err.count("models in float32 on cuda:7: products in full (TF32 is off)") == 1
