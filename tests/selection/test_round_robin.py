"""Round robin: as one would do it on paper, and refused where nobody could take turns."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from support.policies import ids_in_order, one_column, policy, scores_on_disk, some_rows, turns_by_hand

from paydirt.selection.budget import Budget
from paydirt.selection.policies import base, round_robin
from paydirt.selection.policies.highest import highest
from paydirt.selection.scores import Column, Reduction
from paydirt.selection.select import SelectionConfig, choose


@pytest.mark.parametrize("over", ["reference", "subtask"])
@pytest.mark.parametrize("ties", [True, False])
def test_round_robin_equals_a_plain_loop(tmp_path: Path, over: str, ties: bool) -> None:
    rows = some_rows(ties=ties)
    scores = scores_on_disk(tmp_path / "s", rows)
    if over == "reference":
        values = {id: v.tolist() for id, _, v in rows}
    else:
        values = {id: [float(v[0]), float(np.mean(v[1:], dtype=np.float64))] for id, _, v in rows}
    expected = turns_by_hand(values, 3 if over == "reference" else 2)
    assert ids_in_order(policy("round_robin", over=over), scores) == expected


@pytest.mark.parametrize("over", ["reference", "subtask"])
@pytest.mark.parametrize("least", [1, 3])
def test_queues_that_end_are_made_anew_of_what_is_left(
    tmp_path: Path, over: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References that want the same: queues end long before the budget is met, and the order stays that of the loop."""
    monkeypatch.setattr(round_robin, "LEAST", least)
    monkeypatch.setattr(round_robin, "SHARES", 1)
    monkeypatch.setattr(base, "BLOCK", 50)
    passes: list[int] = []
    made = round_robin.highest
    monkeypatch.setattr(round_robin, "highest", lambda blocks, k: (passes.append(k), made(blocks, k))[1])
    for ties in (True, False):
        rows = [(id, source, values[0] + values / 100) for id, source, values in some_rows(120, ties=ties)]
        scores = scores_on_disk(tmp_path / f"{ties}", rows)
        if over == "reference":
            values = {id: v.tolist() for id, _, v in rows}
        else:
            values = {id: [float(v[0]), float(np.mean(v[1:], dtype=np.float64))] for id, _, v in rows}
        expected = turns_by_hand(values, 3 if over == "reference" else 2)
        for limit in (5, 60, 120):
            assert ids_in_order(policy("round_robin", over=over), scores, limit) == expected[:limit]
    assert len(passes) > 6, "this test needs queues that end"


def test_the_highest_of_columns_are_those_of_a_sort() -> None:
    """Ties, infinities and short matrices, in blocks of any size."""
    draw = np.random.default_rng(0)
    for rows, k, step in itertools.product((1, 7, 40), (1, 3, 50), (1, 6, 100)):
        values = draw.integers(0, 5, (rows, 4)).astype(np.float32)
        values[draw.random(values.shape) < 0.2] = -np.inf
        blocks = ((np.arange(at, min(at + step, rows)), values[at : at + step]) for at in range(0, rows, step))
        places, found = highest(blocks, k)
        expected = np.argsort(-values, axis=0, kind="stable")[:k].T
        assert places.tolist() == expected.tolist()
        assert found.tolist() == np.take_along_axis(values.T, expected, axis=1).tolist()


@pytest.mark.parametrize("within", ["mean", "max", "min"])
def test_round_robin_over_subtasks_reads_similarities_as_the_selection_says(tmp_path: Path, within: str) -> None:
    """The reduction of a selection holds for policies too, not only for the score."""
    rows = some_rows(ties=False)
    scores = scores_on_disk(tmp_path / "s", rows)
    config = SelectionConfig(policy=policy("round_robin"), reduction=Reduction(within=within))
    statistic = {"mean": np.mean, "max": np.max, "min": np.min}[within]
    values = {id: [float(v[0]), float(statistic(v[1:].astype(np.float64)))] for id, _, v in rows}
    chosen = choose(scores, config, Budget(count=20))
    assert scores.ids[chosen.rows].tolist() == turns_by_hand(values, 2)[:20]


@pytest.mark.parametrize(
    ("columns", "over", "message"),
    [
        ([Column("a", "a")], "subtask", "one subtask, and one alone takes no turns; use the policy top"),
        ([Column("a", "a")], "reference", "one reference, and one alone"),
        ([Column("r0", "a"), Column("r1", "a")], "subtask", "`over: reference`"),
        ([Column("a", "a"), Column("b", "b")], "reference", "one column a subtask"),
    ],
)
def test_round_robin_without_turns_is_refused(tmp_path: Path, columns: list, over: str, message: str) -> None:
    """Where one column alone takes turns it would silently equal `top`."""
    with pytest.raises(ValueError, match=message):
        ids_in_order(policy("round_robin", over=over), one_column(tmp_path / "s", columns))
