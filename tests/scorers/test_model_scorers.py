"""Perplexity, RDS+ and IFD against their definitions, one example at a time on the plain model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stages import Tiny
from transformers import AutoModelForCausalLM

from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

ALONE = 1e-4  # batched against one at a time


def plain_losses(model, encoded) -> np.ndarray:
    """Loss [T - 1] of every predicted token, by the model's own forward pass on one example."""
    ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()


def scored(tiny: Tiny, method: dict, root: Path) -> tuple[np.ndarray, list]:
    """Scores [N, C] and the encoded pool."""
    workspace = Workspace(root / "shared")
    scores = Scores(tiny.score(method, root / json.dumps(method)[:40].replace("/", "_"), workspace).path)
    stage = tiny.score_stage(method)
    tokens = workspace.tokens(stage.pool, stage.model, stage.encoding)
    return np.concatenate([b for _, b in scores.blocks()]), [tokens[i] for i in range(len(tokens))]


@pytest.fixture
def model(tiny: Tiny):
    return AutoModelForCausalLM.from_pretrained(tiny.model).eval()


@pytest.mark.parametrize("which", ["supervised", "all"])
def test_perplexity_is_the_exponential_of_the_mean_loss(tiny: Tiny, tmp_path: Path, model, which: str) -> None:
    """Untuned, equal to one example at a time through the plain model, whichever tokens count."""
    values, encoded = scored(tiny, {"name": "ppl", "tune_epochs": 0, "tokens": which}, tmp_path)
    for row, one in enumerate(encoded):
        losses = plain_losses(model, one)
        wanted = losses[one.supervised[1:]] if which == "supervised" else losses
        assert values[row, 0] == pytest.approx(np.exp(wanted.mean()), rel=ALONE)


def test_losses_of_all_tokens_serve_the_supervised_variant(tiny: Tiny, tmp_path: Path) -> None:
    """After a pass over all tokens, the supervised-only score needs no second pass."""
    scored(tiny, {"name": "ppl", "tune_epochs": 0, "tokens": "all"}, tmp_path)
    before = set((tmp_path / "shared" / "losses").iterdir())
    values, _ = scored(tiny, {"name": "ppl", "tune_epochs": 0}, tmp_path)
    assert set((tmp_path / "shared" / "losses").iterdir()) == before
    own, _ = scored(tiny, {"name": "ppl", "tune_epochs": 0}, tmp_path / "fresh")
    np.testing.assert_allclose(values, own, rtol=1e-5)


def test_tuning_on_the_references_makes_them_likely(tiny: Tiny, tmp_path: Path) -> None:
    """Scores come from the tuned model: a pool in the references' form is less surprising to it."""
    plain, _ = scored(tiny, {"name": "ppl", "tune_epochs": 0}, tmp_path)
    tune = {"tune_method": "full", "tune_learning_rate": 3e-3, "tune_epochs": 20, "tune_batch_size": 4}
    tuned, _ = scored(tiny, {"name": "ppl", **tune}, tmp_path)
    assert np.median(tuned / plain) < 0.9


def test_long_texts_are_read_in_windows_that_score_every_token_once(tiny: Tiny, model) -> None:
    """Windows of w tokens: each token but the first is scored once, with at most w - 1 tokens before it."""
    from paydirt.data.encoding import Encoded
    from paydirt.tasks.loss import token_losses

    generator = np.random.default_rng(0)
    ids = generator.integers(3, 300, 50).astype(np.int32)
    one = Encoded(ids, np.ones(50, dtype=bool))
    found = token_losses(model, [one], 0, window=16)[0]
    expected = [plain_losses(model, Encoded(ids[a : a + 16], one.supervised[a : a + 16])) for a in range(0, 49, 15)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert len(found) == 49


def test_rds_is_the_cosine_of_position_weighted_means(tiny: Tiny, tmp_path: Path, model) -> None:
    """mean_t t h_t / sum t of the last hidden states, one example at a time (arXiv 2503.01807)."""
    values, encoded = scored(tiny, {"name": "rds"}, tmp_path)
    workspace = Workspace(tmp_path / "shared")
    stage = tiny.score_stage("rds")
    references = workspace.encoder(stage.model, stage.encoding).encode_batch(
        [e.messages for e in workspace.target(stage.target).references]
    )

    def vector(one) -> np.ndarray:
        ids = torch.from_numpy(one.ids.astype(np.int64))[None]
        with torch.no_grad():
            hidden = model.model(input_ids=ids).last_hidden_state[0].numpy().astype(np.float64)
        mean = (np.arange(1, len(hidden) + 1)[:, None] * hidden).sum(0)
        return mean / np.linalg.norm(mean)

    expected = np.stack([vector(e) for e in encoded]) @ np.stack([vector(e) for e in references]).T
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_ifd_is_the_ratio_of_losses_with_and_without_the_instruction(tiny: Tiny, tmp_path: Path, model) -> None:
    """Equal to two plain passes; a ratio above 1 ranks last by default (arXiv 2308.12032)."""
    from paydirt.data.encoding import Encoded

    values, encoded = scored(tiny, {"name": "ifd", "keep_misleading": True}, tmp_path)
    ranked, _ = scored(tiny, {"name": "ifd"}, tmp_path)
    for row, one in enumerate(encoded):
        conditioned = plain_losses(model, one)[one.supervised[1:]].mean()
        answer = np.concatenate([one.ids[:1], one.ids[1:][one.supervised[1:]]])
        bare = plain_losses(model, Encoded(answer, np.ones(len(answer), dtype=bool))).mean()
        assert values[row, 0] == pytest.approx(conditioned / bare, rel=ALONE)
        assert ranked[row, 0] == pytest.approx(values[row, 0] if values[row, 0] <= 1 else -values[row, 0], rel=1e-6)


@pytest.mark.parametrize("method", [{"name": "ppl", "tune_epochs": 0}, {"name": "rds"}, {"name": "ifd"}])
def test_scores_do_not_depend_on_the_batch(tiny: Tiny, tmp_path: Path, method: dict) -> None:
    """One example a batch or all in one: the same scores."""
    one, _ = scored(tiny, {**method, "token_budget": 1}, tmp_path / "one")
    many, _ = scored(tiny, {**method, "token_budget": 100_000}, tmp_path / "many")
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-6)


def test_measured_and_predicted_flops_agree(tiny: Tiny, tmp_path: Path) -> None:
    """Within a factor of two on a tiny model, where the forms' constant parts weigh most."""
    workspace = Workspace(tmp_path / "shared")
    for method in ({"name": "ppl", "tune_epochs": 0, "tokens": "all"}, {"name": "rds"}, {"name": "ifd"}):
        artifact = tiny.score(method, tmp_path / method["name"], workspace, convention="matmul")
        entry = json.loads((artifact.path / "ledger.jsonl").read_text().splitlines()[-1])
        assert 0.5 < entry["measured_flops"] / entry["predicted_flops"] < 2, (method, entry)


def test_perplexity_without_tuning_is_of_no_target(tiny: Tiny, tmp_path: Path) -> None:
    """Quality without a target: other references give the same scores, and drop reads the same losses."""
    method = {"name": "ppl", "tune_epochs": 0}
    workspace = Workspace(tmp_path / "shared")
    other = tiny.target | {"name": "other", "references": str(tiny.root / "test.jsonl"), "test": None}
    one = Scores(tiny.score(method, tmp_path / "a", workspace).path).column(0)
    two = Scores(tiny.score(method, tmp_path / "b", workspace, target=other).path).column(0)
    assert (one == two).all()
    tiny.score({"name": "drop", "depth": 0}, tmp_path / "c", workspace)
    assert len(list((tmp_path / "shared" / "losses").iterdir())) == 1
