"""Contract of policies: an order of the pool, the same for every budget, decided by scores and ids and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import yaml
from support.policies import every_policy, every_variant, ids_in_order, policy, ranking, scores_on_disk, some_rows

from paydirt.core.config import dump_yaml
from paydirt.selection.budget import Budget
from paydirt.selection.combine import Weighted
from paydirt.selection.policies.base import POLICIES, Policy, Ranking, make_policy
from paydirt.selection.scores import Column, Reduction, Scores
from paydirt.selection.select import SelectionConfig, choose


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    return scores_on_disk(tmp_path / "scores", some_rows())


@every_policy
def test_a_policy_is_documented_and_survives_yaml(name: str) -> None:
    cls = POLICIES.get(name)
    assert cls.name == name
    assert cls.__doc__
    assert cls.__doc__ != Policy.__doc__
    assert cls.use_when
    assert cls.cost_note
    assert cls.source
    assert make_policy(yaml.safe_load(dump_yaml(policy(name).to_dict()))) == policy(name)


@every_policy
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"policy {name}: unknown key 'shuffle_thirdd'"):
        make_policy({"name": name, "shuffle_thirdd": True})


def test_an_unknown_policy_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'round-robin'; did you mean 'round_robin'\?"):
        make_policy("round-robin")


@every_variant
def test_the_order_is_of_the_eligible_rows_each_once_unless_it_repeats(
    name: str, options: dict, scores: Scores
) -> None:
    eligible = np.asarray([i for i in range(len(scores)) if i % 7])
    made = policy(name, **options)
    order = made.order(ranking(scores, eligible), len(eligible), 0)
    assert len(order) >= len(eligible)
    assert set(order.tolist()) <= set(eligible.tolist())
    if not made.repeats:
        assert sorted(order.tolist()) == eligible.tolist()


@every_variant
@pytest.mark.parametrize("limit", [1, 4, 17, 49])
def test_selections_are_nested_over_budgets(name: str, options: dict, scores: Scores, limit: int) -> None:
    """A policy told to stop early gives the beginning of what it gives in full."""
    made = policy(name, **options)
    assert ids_in_order(made, scores, limit)[:limit] == ids_in_order(made, scores)[:limit]


@every_variant
@pytest.mark.parametrize("several", [None, "turns", "ranks"])
def test_selections_are_nested_over_budgets_of_every_kind(
    name: str, options: dict, several: Literal["turns", "ranks"] | None, tmp_path: Path
) -> None:
    """As they are written: by share, count and words, for one target or two; only a curriculum numbers each anew."""
    scores = scores_on_disk(tmp_path / "one", some_rows(ties=False))
    config = SelectionConfig(policy=policy(name, **options), combine=several or "turns", curriculum="best_last")
    others = [Weighted(scores_on_disk(tmp_path / "two", some_rows(ties=False, other=7)), 2.0)] if several else []
    if several and config.policy and config.policy.repeats:
        with pytest.raises(ValueError, match="takes examples more than once"):
            choose(scores, config, Budget(count=9), others=others)
        return
    budgets = (
        [{"count": n} for n in (1, 9, 30)] + [{"fraction": f} for f in (0.1, 0.5)] + [{"words": n} for n in (60, 200)]
    )
    made = [choose(scores, config, Budget(**b), 3, others=others) for b in budgets]
    made.sort(key=lambda chosen: int(chosen.times.sum()))
    for small, large in itertools.pairwise(made):
        shared = len(small.rows)
        assert small.rows.tolist() == large.rows[:shared].tolist()
        assert (small.times <= large.times[:shared]).all()
        assert small.order is not None
        assert small.order.tolist() == [*range(shared, 0, -1)]


# Scores for which some rules have nothing to go by but the one order that is there: columns, reduction, sources.
DEGENERATE: dict[str, tuple[Sequence[Column], Reduction, str]] = {
    "one number an example": ([Column("score", "all")], Reduction(), "a"),
    "one reference": ([Column("r0", "all")], Reduction(within="mean", across="max"), "ab"),
    "subtasks of one reference each, the best counts": (
        [Column(f"r{i}", f"t{i}") for i in range(3)],
        Reduction(within="mean", across="max"),
        "a",
    ),
    "one subtask, the best reference counts": (
        [Column(f"r{i}", "t") for i in range(3)],
        Reduction(within="max", across="mean"),
        "a",
    ),
    "a column a subtask": ([Column(f"t{i}", f"t{i}") for i in range(3)], Reduction(), "a"),
}


@every_variant
@pytest.mark.parametrize("kind", DEGENERATE)
def test_a_rule_that_could_only_give_the_order_of_top_is_refused(
    name: str, options: dict, kind: str, tmp_path: Path
) -> None:
    """Over scores that leave it nothing to do, a rule says so and what to do instead; it never passes for another."""
    columns, reduction, sources = DEGENERATE[kind]
    made = policy(name, **options)
    draw = np.random.default_rng(0)
    rows = [
        (
            f"{draw.integers(1 << 30)}-{i}",
            sources[i % len(sources)],
            draw.uniform(-1, 1, len(columns)).astype(np.float32),
        )
        for i in range(50)
    ]
    scores = scores_on_disk(tmp_path / "s", rows, columns, reduction)
    score, _ = scores.reduce()
    found = [order_or_refusal(p, Ranking(scores, score, np.arange(50), reduction)) for p in (policy("top"), made)]
    if isinstance(found[1], str):
        assert re.search(r"use |give ", found[1])
    else:
        assert (found[0] == found[1]) == (name == "top" and not options)


@pytest.mark.parametrize("name", [n for n in POLICIES.names() if "neighbours" in POLICIES.get(n).model_fields])
def test_whoever_has_itself_alone_for_a_neighbour_changes_nothing(name: str) -> None:
    """Of itself everybody stands for the same share, and is as dense: `facility` would be `top`, `tsds` be `knn`."""
    with pytest.raises(ValueError, match="neighbours: Input should be greater than or equal to 2"):
        policy(name, neighbours=1)


def order_or_refusal(made: Policy, of: Ranking) -> list[int] | str:
    try:
        return made.order(of, 50, 0).tolist()  # type: ignore[no-any-return]
    except ValueError as refusal:
        return str(refusal)


@every_variant
@pytest.mark.parametrize("ties", [True, False])
def test_row_order_decides_nothing(name: str, options: dict, tmp_path: Path, ties: bool) -> None:
    """Equal scores are ordered by id, so a shuffled pool gives the same list of ids."""
    rows = some_rows(ties=ties)
    turned = [rows[i] for i in np.random.default_rng(9).permutation(len(rows))]
    one, other = scores_on_disk(tmp_path / "one", rows), scores_on_disk(tmp_path / "other", turned)
    made = policy(name, **options)
    assert ids_in_order(made, one, seed=3) == ids_in_order(made, other, seed=3)


@every_policy
def test_equals_come_in_order_of_their_ids(name: str, tmp_path: Path) -> None:
    """Examples that nothing but the id tells apart keep that order; only what draws may not."""
    values = np.asarray([[0.9, 0.1, 0.3], [0.2, 0.8, 0.1]], np.float32)
    rows = [
        (f"{number:02d}", "ab"[number % 2], values[number % 2]) for number in np.random.default_rng(1).permutation(20)
    ]
    made = policy(name)
    ids = ids_in_order(made, scores_on_disk(tmp_path / "s", rows))
    if not made.draws and name != "mid":  # which goes outwards from the middle of what ids have ordered
        for parity in (0, 1):
            same = [id for id in ids if int(id) % 2 == parity]
            assert same == sorted(same)


@every_variant
def test_a_policy_says_whether_it_draws(name: str, options: dict, scores: Scores) -> None:
    """The seed changes the order where, and only where, the policy says so."""
    made = policy(name, **options)
    orders = {tuple(ids_in_order(made, scores, seed=seed)) for seed in range(4)}
    assert (len(orders) > 1) == made.draws


@every_variant
def test_the_order_depends_on_what_the_policy_says_it_reads(name: str, options: dict, scores: Scores) -> None:
    """A reduction that a policy does not read leaves its order as it is."""
    made = policy(name, **options)
    own = scores.reduction
    for part, other in (("within", "min"), ("across", "min")):
        if part not in made.reads:
            changed = own.model_copy(update={part: other})
            two = Ranking(scores, scores.reduce(changed)[0], np.arange(len(scores)), changed)
            assert made.order(two, 50, 0).tolist() == made.order(ranking(scores), 50, 0).tolist()
