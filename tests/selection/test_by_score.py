"""Top, mid, low, the published thirds, and random."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.policies import ids_in_order, policy, scores_on_disk, some_rows

from paydirt.selection.scores import Scores


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    return scores_on_disk(tmp_path / "scores", some_rows())


def test_top_is_descending_with_ties_by_id(scores: Scores) -> None:
    score = dict(zip(scores.ids, scores.reduce()[0]))
    expected = sorted(scores.ids, key=lambda id: (-score[id], id))
    assert ids_in_order(policy("top"), scores) == expected
    assert len(set(score.values())) < len(scores), "this test needs ties"


def test_low_is_ascending_with_ties_by_id(scores: Scores) -> None:
    score = dict(zip(scores.ids, scores.reduce()[0]))
    assert ids_in_order(policy("low"), scores) == sorted(scores.ids, key=lambda id: (score[id], id))


def test_mid_is_centred_on_the_median_at_every_budget(scores: Scores) -> None:
    by_rank = {id: rank for rank, id in enumerate(ids_in_order(policy("top"), scores))}
    chosen = [by_rank[id] for id in ids_in_order(policy("mid"), scores)]
    for k in range(1, len(chosen) + 1):
        window = sorted(chosen[:k])
        assert window == list(range(window[0], window[0] + k)), "mid takes a window of ranks"
        assert abs((window[0] + window[-1]) / 2 - (len(chosen) - 1) / 2) <= 0.5


PUBLISHED_ORDER = {"low": "lmh", "mid": "mlh", "top": "hml"}  # the scripts' top and mid, and the paper's top


@pytest.mark.parametrize("name", PUBLISHED_ORDER)
@pytest.mark.parametrize("n", [3, 50, 100])
def test_shuffle_third_is_the_published_order(tmp_path: Path, name: str, n: int) -> None:
    """Sorted upwards; cut at int(.333 n) and int(.666 n); middle, first and last shuffled in turn by random.seed(seed)."""
    scores = scores_on_disk(tmp_path / "s", some_rows(n, ties=False))
    value = dict(zip(scores.ids, scores.reduce()[0]))
    upwards = sorted(scores.ids, key=lambda id: value[id])
    for seed in (3, 6):
        a, b = int(n * 0.333), int(n * 0.666)
        first, middle, last = upwards[:a], upwards[a:b], upwards[b:]
        random.seed(seed)
        for third in (middle, first, last):
            random.shuffle(third)
        parts = {"l": first, "m": middle, "h": last}
        expected = [id for third in PUBLISHED_ORDER[name] for id in parts[third]]
        assert ids_in_order(policy(name, shuffle_third=True), scores, seed=seed) == expected


def test_random_depends_on_seed_and_ids_alone(tmp_path: Path) -> None:
    rows = some_rows()
    other = [(id, source, -values) for id, source, values in rows]
    one, two = scores_on_disk(tmp_path / "one", rows), scores_on_disk(tmp_path / "two", other)
    assert ids_in_order(policy("random"), one, seed=5) == ids_in_order(policy("random"), two, seed=5)
    assert ids_in_order(policy("random"), one, seed=5) != ids_in_order(policy("random"), one, seed=6)
