"""Contract of policies: an order of the pool, the same for every budget, decided by scores and ids and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from support.policies import every_policy, every_variant, ids_in_order, policy, ranking, scores_on_disk, some_rows

from paydirt.core.config import dump_yaml
from paydirt.selection.policies.base import POLICIES, Policy, Ranking, make_policy
from paydirt.selection.scores import Scores


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
