"""Draws by mass: with replacement as published, and no example more often than asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.policies import ids_in_order, policy, scores_on_disk, some_rows


@pytest.mark.parametrize("name", ["tsds", "knn", "transport"])
@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_what_was_drawn_often_enough_is_passed_over(tmp_path: Path, name: str, repeat: int) -> None:
    """The draws are those without a limit, less what comes too often."""
    scores = scores_on_disk(tmp_path / "s", some_rows(ties=False))
    drawn = ids_in_order(policy(name, draw=True), scores, 400, seed=7)
    assert max(Counter(drawn).values()) > 3, "this test needs repeats"
    expected = [id for at, id in enumerate(drawn) if drawn[:at].count(id) < repeat]
    found = ids_in_order(policy(name, draw=True, repeat=repeat), scores, 400, seed=7)
    assert found[: len(expected)] == expected
    assert max(Counter(found).values()) <= repeat


def test_a_limit_without_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="repeat is of draws"):
        policy("knn", repeat=2)
