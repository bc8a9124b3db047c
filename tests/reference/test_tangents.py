"""Influence distillation by its definition: embeddings against backward passes, the landmarks' map against plain algebra."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stages import Tiny
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from paydirt.core.artifacts import read_json
from paydirt.cost.architecture import Architecture
from paydirt.cost.forms import forward_flops
from paydirt.data.encoding import Encoded
from paydirt.gradients.tangents import LastTangents
from paydirt.prediction.kernel import MedianRidge
from paydirt.prediction.learners import fit_values
from paydirt.selection.scores import Scores
from paydirt.selection.vectors import open_vectors
from paydirt.stages import Workspace

SMALL = {"vocab_size": 50, "bos_token_id": None, "eos_token_id": None}


def llama() -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, attn_implementation="eager", **sizes, **SMALL))


def gpt2() -> Any:
    sizes = {"n_embd": 16, "n_layer": 4, "n_head": 4, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(attn_implementation="eager", **sizes, **SMALL))


def texts(lengths: list[int]) -> list[Encoded]:
    draw = np.random.default_rng(0)
    return [Encoded(draw.integers(0, 50, n), np.ones(n, dtype=bool)) for n in lengths]


def backwards(
    model: Any, norm: Any, text: Encoded, blocks: int, directions: list[dict[str, torch.Tensor]]
) -> np.ndarray:
    """Each number of the state by a backward pass of its own through the whole model, times each direction."""
    ids = torch.as_tensor(text.ids)[None]
    deep = model(input_ids=ids, output_hidden_states=True).hidden_states[blocks]
    state = norm(deep)[0, -1]
    moved = {name: p for name, p in model.get_decoder().named_parameters() if name in directions[0]}
    rows = [torch.autograd.grad(x, list(moved.values()), retain_graph=True, allow_unused=True) for x in state]
    out = [
        sum(float((g * d[name]).sum()) for name, g in zip(moved, row) if g is not None)
        for d in directions
        for row in rows
    ]
    return np.asarray(out)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_embedding_is_the_derivative_of_the_last_state(make: Any) -> None:
    """Forward mode of a cut model against backward mode of the whole one, texts of unlike lengths in one batch."""
    torch.manual_seed(0)
    whole = make().eval()
    torch.manual_seed(0)
    read = LastTangents(make().eval(), 0, blocks=2, directions=2, k=4096, seed=3)
    found, flops = read(texts([9, 5, 14, 1]))
    decoder = whole.get_decoder()
    norm = getattr(decoder, "norm", None) or decoder.ln_f
    for row, text in zip(found, texts([9, 5, 14, 1])):
        expected = backwards(whole, norm, text, 2, read.directions)
        np.testing.assert_allclose(row, expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())
    shallow = replace(Architecture.from_config(whole.config), layers=2, language_head=False)
    closed = [3 * 2 * forward_flops(shallow, width, width, "matmul") * n / width for n, width in ((9, 16), (14, 16))]
    np.testing.assert_allclose(flops[[0, 2]], closed, rtol=0.2)  # what learned's price is made of
    alone = np.concatenate([read([text])[0] for text in texts([9, 5, 14, 1])])
    np.testing.assert_array_equal(found, alone)


def test_a_wide_embedding_is_projected_and_keeps_its_inner_products() -> None:
    found = []
    for k in (4096, 128):
        torch.manual_seed(0)
        found.append(LastTangents(llama().eval(), 0, blocks=2, directions=16, k=k, seed=0)(texts([9, 5, 14, 11]))[0])
    wide, narrow = found
    assert wide.shape == (4, 256)
    assert narrow.shape == (4, 128)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (wide, narrow)]
    np.testing.assert_allclose(unit[0] @ unit[0].T, unit[1] @ unit[1].T, atol=0.2)


def plainly(landmarks: np.ndarray, influence: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The published map, entry by entry: sigma the median distance of two landmarks, damping 1e-2 of the mean diagonal."""
    m = len(landmarks)
    apart = [np.linalg.norm(landmarks[i] - landmarks[j]) for i in range(m) for j in range(i)]
    sigma = np.median(apart)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.sum((a - b) ** 2) / (2 * sigma**2)))

    inner = np.asarray([[kernel(a, b) for b in landmarks] for a in landmarks])
    inner += 1e-2 * np.diag(inner).mean() * np.eye(m)
    outer = np.asarray([[kernel(a, b) for b in landmarks] for a in others])
    return outer @ np.linalg.solve(inner, influence)


def test_the_map_from_landmarks_is_the_published_one() -> None:
    draw = np.random.default_rng(1)
    rows, influence = draw.normal(size=(60, 8)) * 3 + 5, draw.normal(size=(40, 3)) + 1
    expected = plainly(rows[:40], influence, rows[40:])
    np.testing.assert_allclose(
        MedianRidge().fit(rows[:40], influence).predict(rows[40:]), expected, rtol=1e-6, atol=1e-9
    )
    fitted = fit_values("landmark", rows[:40], influence, widths=[8])
    np.testing.assert_allclose(fitted.predict(rows[40:]), expected, rtol=1e-6, atol=1e-9)


def test_learned_can_be_influence_distillation(tiny: Tiny, tmp_path: Path) -> None:
    """True influence for the landmarks, the published map from their tangents for the rest; nothing else enters."""
    cheap = {"warmup_fraction": 0.2, "warmup_epochs": 1, "warmup_batch_size": 4, "checkpoints": 1, "k": 256}
    gradient = {**cheap, "lora": {"r": 4, "alpha": 8}, "token_budget": 256}
    workspace = Workspace(tmp_path / "shared")
    method = {"name": "learned", "learner": "landmark", "features": ["jvp"], "predict": "references", "points": 30}
    made = tiny.score(
        {**method, "folds": 2, "truth": {"name": "gradient", **gradient}}, tmp_path / "learned", workspace
    )
    true = np.concatenate(
        [b for _, b in Scores(tiny.score({"name": "gradient", **gradient}, tmp_path / "g", workspace).path).blocks()]
    )
    found = np.concatenate([b for _, b in Scores(made.path).blocks()])
    known = np.isclose(found, true, rtol=1e-4, atol=1e-6).all(axis=1)
    assert known.sum() == 30
    [place] = (tmp_path / "shared" / "tangents").iterdir()
    by_id = {id: row for ids, block in open_vectors(str(place)).blocks() for id, row in zip(ids, block)}
    rows = np.stack([by_id[id] for id in Scores(made.path).ids.tolist()]).astype(np.float64)
    expected = plainly(rows[known], true[known].astype(np.float64), rows[~known])
    np.testing.assert_allclose(found[~known], expected, rtol=1e-3, atol=1e-4 * np.abs(true).max())
    assert read_json(made.path, "diagnostics.json")["features"] == ["jvp"]
