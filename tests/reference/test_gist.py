"""GIST by inner products alone equals GIST by the singular value decomposition of the references' gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.columns.gradients import stored_rows
from paydirt.scorers.gist import Space
from paydirt.scoring.base import make_scorer
from paydirt.scoring.gradient_passes import checkpoints, features_of
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

GROUPS = [[0, 3, 4], [1, 2], [5, 6]]


def by_svd(z: np.ndarray, g: np.ndarray, groups: list[list[int]], k: int) -> np.ndarray:
    """The definition (arXiv 2602.18584): z [n, D], g [R, D] -> cosines [n, S]."""
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    kept = [i for i in range(min(k, len(s))) if s[i] > 1e-5 * s[0]]
    z, rows = z @ vt[kept].T, u[:, kept] * s[kept]
    means = np.stack([rows[group].mean(0) for group in groups])
    return (z @ means.T) / np.linalg.norm(z, axis=1)[:, None] / np.linalg.norm(means, axis=1)


@pytest.mark.parametrize("k", [1, 3, 5, 150])
@pytest.mark.parametrize("rank", [7, 4])
def test_inner_products_are_enough(k: int, rank: int) -> None:
    draw = np.random.default_rng(k)
    scale = 10.0 ** draw.integers(-2, 2, size=(7, 1))  # gradients of unlike norms
    g = draw.normal(size=(7, rank)) @ draw.normal(size=(rank, 300)) * scale
    z = draw.normal(size=(40, 300)) + g[draw.integers(0, 7, 40)]
    space = Space.of(g @ g.T, GROUPS, k)
    found = space.cosines(z @ g.T)
    np.testing.assert_allclose(found, by_svd(z, g, GROUPS, k), atol=1e-5)
    assert not space.cosines(np.zeros((1, 7))).any(), "an example without a gradient is like nothing"


def test_scores_come_from_a_gradient_store_without_another_pass(tiny: Tiny, tmp_path: Path) -> None:
    """After `gradient` on plain gradients, GIST makes no store, no features and no warm-up; and equals the SVD form."""
    store = {
        **{"direction": "sgd", "checkpoints": 1, "warmup_fraction": 0.2, "warmup_epochs": 1, "warmup_batch_size": 4},
        **{"k": 256, "lora": {"r": 4, "alpha": 8}, "store_dtype": "float32"},
    }
    workspace = Workspace(tmp_path / "shared")
    tiny.score({"name": "gradient", **store}, tmp_path / "gradient", workspace)

    def made() -> set[str]:
        return {str(p) for p in (tmp_path / "shared").rglob("*") if p.suffix in (".safetensors", ".npy")}

    before = made()
    scores = Scores(tiny.score({"name": "gist", "gradient": store, "directions": 3}, tmp_path / "g", workspace).path)
    assert made() == before
    gradient = make_scorer({"name": "gradient", **store})
    job = tiny.job(gradient, tmp_path / "job", workspace)
    [step] = checkpoints(gradient, job)
    features = job.column(features_of(gradient, job, step, "sgd")).read(np.arange(60))
    z = stored_rows(features, "float32").float().numpy()
    [references] = (tmp_path / "shared" / "references").glob("checkpoint-*/features.npy")
    expected = by_svd(z, np.load(references), [[0, 1, 2], [3, 4]], 3)
    np.testing.assert_allclose(np.concatenate([b for _, b in scores.blocks()]), expected, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"direction": "adam_published"}, {"checkpoints": 2}, {"per": "subtask"}])
def test_another_store_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="plain gradients at one checkpoint, each reference's own"):
        make_scorer({"name": "gist", "gradient": wrong})


def test_what_a_recipe_says_of_the_store_keeps_it_plain() -> None:
    made = make_scorer({"name": "gist", "gradient": {"k": 64}})
    assert (made.gradient.k, made.gradient.direction, made.gradient.passes) == (64, "sgd", 1)
