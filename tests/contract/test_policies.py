"""Contract of policies: an order of the pool, the same for every budget, decided by scores and ids and nothing else."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from paydirt.core.config import dump_yaml, parse
from paydirt.selection.policies.base import POLICIES, Policy, Ranking, make_policy
from paydirt.selection.scores import Column, Reduction, Scores, shard_path, write_columns, write_shard

OPTIONS: dict[str, dict[str, Any]] = {"tsds": {"vectors": "similarities"}}  # what a policy must be told
VARIANTS: dict[str, list[dict[str, Any]]] = {  # what else of a policy goes through the battery
    "mmr": [{"weight": 0}],
    "facility": [{"weight": 0}, {"neighbours": 4}],
    "top": [{"shuffle_third": True}],
    "round_robin": [{"over": "reference"}],
    "knn": [{"draw": True}, {"nearest": 5}],
    "tsds": [{"draw": True}],
    "transport": [{"draw": True}],
    "quota": [{"by": "subtask", "unit": "tokens", "temperature": 2}, {"repeat": 2}, {"policy": "random"}],
}
SUBTASKS = ("one", "two")
SHARD = 16

every_policy = pytest.mark.parametrize("name", POLICIES.names())
every_variant = pytest.mark.parametrize(
    ("name", "options"), [(name, o) for name in POLICIES.names() for o in ({}, *VARIANTS.get(name, []))], ids=str
)


def some_rows(n: int = 50, seed: int = 0, ties: bool = True) -> list[tuple[str, str, np.ndarray]]:
    """(id, source, similarities [3]) of n examples; coarse values, so that many are equal; all may be cosines."""
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 5, size=(n, 3)) / 4 if ties else draw.uniform(-1, 1, size=(n, 3))
    return [(f"id-{draw.integers(1 << 30):09d}-{i}", "abc"[i % 3], values[i].astype(np.float32)) for i in range(n)]


def scores_on_disk(root: Path, rows: list[tuple[str, str, np.ndarray]]) -> Scores:
    (root / "values").mkdir(parents=True)
    columns = [Column("r0", "one"), Column("r1", "two"), Column("r2", "two")]
    write_columns(root, columns, True, SHARD, Reduction())
    ids, sources, values = zip(*rows)
    tokens = [5 + zlib.crc32(id.encode()) % 4 for id in ids]
    table = {"id": ids, "source": sources, "tokens": tokens, "supervised": [2] * len(rows)}
    pq.write_table(pa.table(table), root / "rows.parquet")
    for shard, start in enumerate(range(0, len(rows), SHARD)):
        write_shard(root, shard, np.stack(values[start : start + SHARD]))
        assert shard_path(root, shard).exists()
    return Scores(root)


def ranking(scores: Scores, rows: np.ndarray | None = None) -> Ranking:
    score, _ = scores.reduce()
    return Ranking(scores, score, np.arange(len(scores)) if rows is None else rows)


def ids_in_order(policy: Policy, scores: Scores, limit: int | None = None, seed: int = 0, **more: Any) -> list[str]:
    made = ranking(scores, **more)
    order = policy.order(made, limit or len(made.rows), seed)
    return scores.ids[order].tolist()


def policy(name: str, **options: Any) -> Policy:
    return make_policy({"name": name, **OPTIONS.get(name, {}), **options})


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


def test_random_depends_on_seed_and_ids_alone(tmp_path: Path) -> None:
    rows = some_rows()
    other = [(id, source, -values) for id, source, values in rows]
    one, two = scores_on_disk(tmp_path / "one", rows), scores_on_disk(tmp_path / "two", other)
    assert ids_in_order(policy("random"), one, seed=5) == ids_in_order(policy("random"), two, seed=5)
    assert ids_in_order(policy("random"), one, seed=5) != ids_in_order(policy("random"), one, seed=6)


def turns_by_hand(values: dict[str, list[float]], turns: int) -> list[str]:
    """Round robin as one would do it on paper: each turn takes the best example that nobody has taken."""
    left, out = set(values), []
    while left:
        for turn in range(turns):
            if left:
                best = min(left, key=lambda id: (-values[id][turn], id))
                left.remove(best)
                out.append(best)
    return out


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
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

    only_a = SelectionConfig(policy=policy("quota", shares={"a": 1.0}))
    chosen = choose(scores, only_a, Budget(fraction=0.2))
    assert len(chosen.rows) == 10
    with pytest.raises(ValueError, match="over"):
        choose(scores, only_a, Budget(fraction=0.5))


@pytest.mark.parametrize("within", ["mean", "max", "min"])
def test_round_robin_over_subtasks_reads_similarities_as_the_selection_says(tmp_path: Path, within: str) -> None:
    """The reduction of a selection holds for policies too, not only for the score."""
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

    rows = some_rows(ties=False)
    scores = scores_on_disk(tmp_path / "s", rows)
    config = SelectionConfig(policy=policy("round_robin"), reduction=Reduction(within=within))
    statistic = {"mean": np.mean, "max": np.max, "min": np.min}[within]
    values = {id: [float(v[0]), float(statistic(v[1:].astype(np.float64)))] for id, _, v in rows}
    chosen = choose(scores, config, Budget(count=20))
    assert scores.ids[chosen.rows].tolist() == turns_by_hand(values, 2)[:20]


def one_column(root: Path, columns: list[Column]) -> Scores:
    (root / "values").mkdir(parents=True)
    write_columns(root, columns, True, SHARD, Reduction(within="mean", across="max"))
    table = {"id": ["a", "b"], "source": ["s", "s"], "tokens": [5, 5], "supervised": [2, 2]}
    pq.write_table(pa.table(table), root / "rows.parquet")
    write_shard(root, 0, np.arange(2.0 * len(columns)).reshape(2, -1))
    return Scores(root)


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


def test_a_selection_changes_no_more_of_the_reduction_than_it_says(tmp_path: Path) -> None:
    """`within: mean` on a method that takes the max over subtasks keeps that max."""
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

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
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

    with pytest.raises(ValueError, match=message):
        choose(scores, parse(SelectionConfig, config), Budget(count=2))
    with pytest.raises(ValueError, match="flops_per_token is the price of a FLOPs budget"):
        choose(scores, SelectionConfig(), Budget(count=2), flops_per_token=3.0)


def test_one_number_an_example_has_nothing_to_reduce(tmp_path: Path) -> None:
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

    with pytest.raises(ValueError, match="one number an example"):
        choose(
            one_column(tmp_path / "s", [Column("score", "all")]),
            parse(SelectionConfig, {"reduction": {"within": "max"}}),
            Budget(count=1),
        )


def test_what_cannot_train_is_left_out_and_counted(tmp_path: Path) -> None:
    """Examples without a supervised token are never selected, whatever their score."""
    from paydirt.selection.budget import Budget
    from paydirt.selection.select import SelectionConfig, choose

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
