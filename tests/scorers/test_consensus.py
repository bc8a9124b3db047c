"""The mean rank over seeds, charged once for what no seed changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata
from support.stages import Tiny

from paydirt.scoring.base import make_scorer
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

DROP = {"name": "drop", "depth": 1, "rate": 1e-2, "tune_batch_size": 2}


def test_it_is_the_mean_rank_of_the_method_under_each_seed(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    whole = tiny.score(
        {"name": "consensus", "method": DROP | {"tune_seed": 4}, "seeds": [0, 3]}, tmp_path / "c", workspace
    )
    ranks = []
    for seed in (4, 7):
        one = Scores(tiny.score(DROP | {"tune_seed": seed}, tmp_path / str(seed), workspace).path)
        ranks.append(rankdata(one.reduce()[0]))
    assert not (ranks[0] == ranks[1]).all()
    np.testing.assert_allclose(Scores(whole.path).column(0), np.mean(ranks, axis=0) / 60, rtol=1e-6)
    passes = [place for place in whole.notes["charges"] if place.startswith("losses")]
    assert len(passes) == 3, "two tuned ends, and the base's pass once"


def test_a_method_that_draws_by_the_jobs_seed_gets_each(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    whole = tiny.score({"name": "consensus", "method": "random", "seeds": [0, 5]}, tmp_path / "c", workspace)
    ranks = [
        rankdata(Scores(tiny.score("random", tmp_path / str(s), workspace, seed=s).path).column(0)) for s in (0, 5)
    ]
    np.testing.assert_allclose(Scores(whole.path).column(0), np.mean(ranks, axis=0) / 60, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bm25"}, "'bm25' depends on no seed"),
        ({"method": DROP, "seeds": [1, 1]}, r"seeds \(1, 1\) hold one twice"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scorer({"name": "consensus", **options})
