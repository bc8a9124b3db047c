"""Quota: shares of any prefix, groups that run dry, groups that are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.policies import ids_in_order, policy, scores_on_disk, some_rows

from paydirt.selection.budget import Budget
from paydirt.selection.scores import Scores
from paydirt.selection.select import SelectionConfig, choose


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    return scores_on_disk(tmp_path / "scores", some_rows())


def test_quota_keeps_its_shares_in_every_prefix(scores: Scores) -> None:
    """Within one example, until a source runs dry."""
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    source = dict(zip(scores.ids, scores.sources))
    order = [source[id] for id in ids_in_order(policy("quota", shares=shares), scores)]
    supply = {s: list(scores.sources).count(s) for s in shares}
    dry = min(int(supply[s] / share) for s, share in shares.items())
    for k in range(1, dry):
        for s, share in shares.items():
            assert abs(order[:k].count(s) - share * k) <= 1


def test_quota_hands_the_share_of_a_dry_source_to_the_others(tmp_path: Path) -> None:
    rows = [
        (f"{s}{i:02d}", s, np.full(3, 100 - i, np.float32))
        for s, n in (("a", 4), ("b", 40), ("c", 20))
        for i in range(n)
    ]
    scores = scores_on_disk(tmp_path / "s", rows)
    order = ids_in_order(policy("quota", shares={"a": 0.5, "b": 0.25, "c": 0.25}), scores)
    assert sorted(order) == sorted(scores.ids)
    after = [id[0] for id in order[8:40]]  # a is dry after 8
    assert set(after) == {"b", "c"}
    assert after.count("b") == after.count("c") == 16
    for s in "abc":  # each source gives its best first
        own = [id for id in order if id[0] == s]
        assert own == sorted(own)


def test_quota_without_shares_keeps_the_mix_of_the_pool(tmp_path: Path) -> None:
    rows = [(f"{s}{i:02d}", s, np.full(3, i, np.float32)) for s, n in (("a", 30), ("b", 10)) for i in range(n)]
    order = ids_in_order(policy("quota"), scores_on_disk(tmp_path / "s", rows), 20)[:20]
    assert [sum(id[0] == s for id in order) for s in "ab"] == [15, 5]


def test_quota_names_a_source_that_the_pool_lacks(scores: Scores) -> None:
    with pytest.raises(ValueError, match="no source 'bb'"):
        ids_in_order(policy("quota", shares={"bb": 1.0}), scores)
    for bad in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"finite and not negative|finite number"):
            ids_in_order(policy("quota", shares={"a": bad}), scores)
    with pytest.raises(ValueError, match="every share is 0"):
        ids_in_order(policy("quota", shares={"a": 0.0}), scores)


def test_a_fraction_is_of_the_pool_whatever_the_policy_leaves_out(scores: Scores) -> None:
    """Half of the pool is half of the pool; what the shares cannot fill is an error, not a smaller selection."""
    only_a = SelectionConfig(policy=policy("quota", shares={"a": 1.0}))
    chosen = choose(scores, only_a, Budget(fraction=0.2))
    assert len(chosen.rows) == 10
    with pytest.raises(ValueError, match="over"):
        choose(scores, only_a, Budget(fraction=0.5))
