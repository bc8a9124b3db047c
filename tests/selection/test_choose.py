"""What a selection makes of scores: reductions, what is refused, what cannot train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.policies import one_column, scores_on_disk, some_rows

from paydirt.core.config import dump_yaml, parse
from paydirt.selection.budget import Budget
from paydirt.selection.scores import Column, Reduction, Scores, write_shard
from paydirt.selection.select import SelectionConfig, choose


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    return scores_on_disk(tmp_path / "scores", some_rows())


def test_a_selection_changes_no_more_of_the_reduction_than_it_says(tmp_path: Path) -> None:
    """`within: mean` on a method that takes the max over subtasks keeps that max."""
    scores = one_column(tmp_path / "s", [Column("r0", "a"), Column("r1", "a"), Column("r2", "b")])  # 0 1 2 / 3 4 5
    for given, expected in (
        ({"within": "mean"}, [2.0, 5.0]),
        ({"within": "min"}, [2.0, 5.0]),
        ({"across": "min"}, [0.5, 3.5]),
        ({"within": "max", "across": "mean"}, [1.5, 4.5]),
    ):
        config = parse(SelectionConfig, {"reduction": given})
        assert parse(SelectionConfig, yaml.safe_load(dump_yaml(config.to_dict()))) == config
        assert choose(scores, config, Budget(count=2)).score.tolist() == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"policy": "random", "reduction": {"within": "max"}}, "within: the policy random does not read it"),
        ({"policy": "round_robin", "reduction": {"across": "max"}}, "across: the policy round_robin does not"),
    ],
)
def test_a_change_that_nothing_reads_is_refused(scores: Scores, config: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(scores, parse(SelectionConfig, config), Budget(count=2))
    with pytest.raises(ValueError, match="flops_per_token is the price of a FLOPs budget"):
        choose(scores, SelectionConfig(), Budget(count=2), flops_per_token=3.0)


def test_one_number_an_example_has_nothing_to_reduce(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one number an example"):
        choose(
            one_column(tmp_path / "s", [Column("score", "all")]),
            parse(SelectionConfig, {"reduction": {"within": "max"}}),
            Budget(count=1),
        )


def test_what_cannot_train_is_left_out_and_counted(tmp_path: Path) -> None:
    """Examples without a supervised token are never selected, whatever their score."""
    scores = scores_on_disk(tmp_path / "s", some_rows())
    table = pq.read_table(tmp_path / "s" / "rows.parquet").to_pydict()
    table["supervised"] = [0 if i % 5 == 0 else 3 for i in range(50)]
    pq.write_table(pa.table(table), tmp_path / "s" / "rows.parquet")
    chosen = choose(Scores(scores.path), SelectionConfig(), Budget(fraction=1.0))
    assert chosen.excluded == 10
    assert not set(chosen.rows.tolist()) & set(range(0, 50, 5))
    table["supervised"] = [0] * 50
    pq.write_table(pa.table(table), tmp_path / "s" / "rows.parquet")
    with pytest.raises(ValueError, match="supervised token"):
        choose(Scores(scores.path), SelectionConfig(), Budget(fraction=1.0))


def test_reductions_by_hand(tmp_path: Path) -> None:
    """Within a subtask, then across subtasks; `pooled` forgets the subtasks."""
    rows = [("x", "a", np.asarray([1.0, 2.0, 6.0], np.float32)), ("y", "a", np.asarray([3.0, 0.0, 1.0], np.float32))]
    scores = scores_on_disk(tmp_path / "s", rows)
    expected = {
        ("mean", "mean"): [2.5, 1.75],
        ("mean", "max"): [4.0, 3.0],
        ("max", "mean"): [3.5, 2.0],
        ("min", "min"): [1.0, 0.0],
        ("mean", "pooled"): [3.0, 4 / 3],
        ("max", "pooled"): [6.0, 3.0],
    }
    for (within, across), values in expected.items():
        score, _ = scores.reduce(Reduction(within=within, across=across))
        np.testing.assert_allclose(score, values, rtol=1e-12)
    _, by_subtask = scores.reduce(Reduction(within="mean"))
    np.testing.assert_allclose(by_subtask, [[1, 4], [3, 0.5]])


def test_a_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    (tmp_path / "values").mkdir()
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="row 1"):
            write_shard(tmp_path, 0, np.asarray([[0.0], [bad]]))
    assert json.dumps([p.name for p in (tmp_path / "values").iterdir()]) == "[]"
