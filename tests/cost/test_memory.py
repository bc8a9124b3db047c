"""Memory by closed form against what autograd keeps, and the table in docs/cluster.md against the closed form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from paydirt.cost.architecture import Architecture
from paydirt.cost.memory import (
    gradient_memory,
    kept_by_gradients,
    kept_by_training,
    scoring_memory,
    training_memory,
)
from paydirt.gradients.batches import GradientBatch
from paydirt.gradients.per_example import PerExample
from paydirt.models.load import LoraSpec, attach_lora

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
LLAMA = {
    "Llama-2-7B": Architecture(32, 4096, 11008, 32, 32, 128, 32000, max_sequence=4096, name="Llama-2-7B"),
    "Llama-3-8B": Architecture(32, 4096, 14336, 32, 8, 128, 128256, max_sequence=8192, name="Llama-3-8B"),
}


class Kept:
    """Bytes of distinct storages that autograd saves, weights aside."""

    def __init__(self, model: Any) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.sizes: dict[int, int] = {}
        self.alive: list[torch.Tensor] = []

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.sizes[storage.data_ptr()] = storage.nbytes()
            self.alive.append(tensor)  # else another tensor could take its place
        return tensor

    def __enter__(self) -> Kept:
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def llama(layers: int, dtype: torch.dtype) -> Any:
    config = tf.LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation="sdpa",
    )
    return tf.LlamaForCausalLM(config).to(dtype)


def batch() -> GradientBatch:
    ids = torch.randint(0, 64, (4, 96))
    return GradientBatch.of(ids, ids.clone())


def kept_a_layer(dtype: torch.dtype, lora: bool) -> tuple[float, Architecture]:
    """What two layers more keep, for a layer and token: everything outside the layers drops out."""
    found = []
    for layers in (1, 3):
        model = llama(layers, dtype)
        if lora:
            model = attach_lora(model, LoraSpec(r=4), 0)
        with PerExample(model) as runner:
            merged = {id(tap.merged) for tap in runner.taps if getattr(tap, "merged", None) is not None}
            kept = Kept(model)
            kept.weights |= {
                t.merged.untyped_storage().data_ptr() for t in runner.taps if id(getattr(t, "merged", 0)) in merged
            }
            with kept:
                if lora:
                    runner.run(batch(), lambda name, lo, hi, gradient: None)
        if not lora:
            kept = Kept(model)
            with kept:
                model(input_ids=batch().input_ids, use_cache=False)
        found.append(kept.bytes)
    config = model.get_base_model().config if lora else model.config
    return (found[1] - found[0]) / 2 / batch().labels.numel(), Architecture.from_config(config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_autograd_keeps(dtype: torch.dtype) -> None:
    size = dtype.itemsize
    measured, facts = kept_a_layer(dtype, lora=True)
    assert measured == pytest.approx(kept_by_gradients(facts, size), rel=0.08)
    measured, facts = kept_a_layer(dtype, lora=False)
    assert measured == pytest.approx(kept_by_training(facts, size), rel=0.08)


def test_weights_are_what_the_model_holds() -> None:
    model = llama(2, torch.bfloat16)
    held = sum(p.numel() * p.itemsize for p in model.parameters())
    assert scoring_memory(Architecture.from_config(model.config), 1).parts["weights"] == held


def test_recomputing_and_smaller_batches_take_less() -> None:
    facts = LLAMA["Llama-3-8B"]
    assert gradient_memory(facts, 2048, kept=False).total < gradient_memory(facts, 2048).total
    assert gradient_memory(facts, 1024).total < gradient_memory(facts, 2048).total
    assert training_memory(facts, 2048, rank=128).total < training_memory(facts, 2048).total / 3


def rows() -> dict[str, list[float]]:
    """What the docs print: GB (1e9 bytes) of each model by use."""
    found = {}
    for name, facts in LLAMA.items():
        sizes = [
            scoring_memory(facts, 4096),
            gradient_memory(facts, 2048),
            gradient_memory(facts, 2048, kept=False),
            training_memory(facts, 2048, rank=128),
            training_memory(facts, 2048),
        ]
        found[name] = [round(memory.total / 1e9, 1) for memory in sizes]
    return found


def test_the_docs_print_these_numbers() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, numbers in rows().items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert [float(n) for n in re.findall(r"\| *([\d.]+) *(?=\|)", row)] == numbers, f"{name}: {numbers}"
