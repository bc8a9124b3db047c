"""Reference: budget sizes worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from paydirt.core.config import parse
from paydirt.selection.budget import Budget

TOKENS = np.asarray([10, 20, 5, 5, 60])  # in rank order; 100 in all


@pytest.mark.parametrize(
    ("budget", "size"),
    [
        ({"count": 1}, 1),
        ({"count": 5}, 5),
        ({"fraction": 0.2}, 1),
        ({"fraction": 0.5}, 2),  # 2.5 rounds to even
        ({"fraction": 0.7}, 4),  # 3.5 rounds to even
        ({"fraction": 1.0}, 5),
        ({"tokens": 10}, 1),  # exactly the first
        ({"tokens": 29}, 1),  # the second does not fit as a whole
        ({"tokens": 30}, 2),
        ({"tokens": 40}, 4),
        ({"tokens": 99}, 4),
        ({"tokens": 100}, 5),
        ({"flops": 3000.0}, 2),  # at 100 FLOPs a token: 30 tokens
        ({"flops": 10_000.0}, 5),
    ],
)
def test_sizes(budget: dict, size: int) -> None:
    assert Budget(**budget).size(TOKENS, flops_per_token=100.0) == size


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"count": 6}, "over the pool"),
        ({"fraction": 1.2}, "for 1.2 % of the pool give 1.2%, for examples a count"),
        ({"fraction": 1.0001}, "a fraction is at most 1"),
        ({"tokens": 101}, "over the pool, which holds 100 tokens"),
        ({"count": 0}, "below one example"),
        ({"count": -3}, "below one example"),
        ({"fraction": 0.05}, "below one example; the smallest fraction here is 0.2"),
        ({"fraction": -0.5}, "a fraction is above 0"),
        ({"tokens": 9}, "below one example: the best one alone has 10 tokens"),
        ({"tokens": 0}, "give a positive number"),
        ({"tokens": 10**400}, "over the pool"),
        ({"count": 10**400}, "over the pool"),
        ({"fraction": float("inf")}, "at most 1.*got inf"),
        ({"fraction": float("nan")}, "at most 1.*got nan"),
        ({"fraction": 5e-324}, "below one example"),
        ({"flops": float("inf")}, "should be a finite number.*got inf"),
        ({"flops": 1e308}, "over the pool"),
        ({"flops": 5e-324}, "below one token"),
        ({"flops": 0.0}, "give a positive number"),
        ({"flops": -1.0}, "give a positive number"),
        ({"flops": 900.0}, "below one example"),
        ({"flops": 1e9}, "over the pool"),
    ],
)
def test_what_cannot_be_bought(budget: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**budget).size(TOKENS, flops_per_token=100.0)


def test_flops_need_the_price_of_a_token() -> None:
    with pytest.raises(ValueError, match="flops_per_token"):
        Budget(flops=1e6).size(TOKENS)


@pytest.mark.parametrize("price", [0.0, -1.0, float("inf"), float("nan")])
def test_the_price_of_a_token_is_a_price(price: float) -> None:
    with pytest.raises(ValueError, match="flops_per_token is"):
        Budget(flops=1e6).size(TOKENS, price)


def test_an_empty_ranking_meets_no_budget() -> None:
    with pytest.raises(ValueError, match="ranks no example"):
        Budget(count=1).size(TOKENS[:0])


@pytest.mark.parametrize("values", [{}, {"count": 3, "tokens": 4}, {"fraction": 0.5, "flops": 1.0}])
def test_a_budget_is_exactly_one_thing(values: dict) -> None:
    with pytest.raises(ValueError, match="exactly one of fraction, count, tokens, words, flops"):
        parse(Budget, values)


def test_smaller_budgets_are_prefixes_of_larger_ones() -> None:
    tokens = np.random.default_rng(0).integers(1, 50, 200)
    for kind, values in (("tokens", range(60, int(tokens.sum()), 97)), ("fraction", np.linspace(0.01, 1, 50))):
        sizes = [Budget(**{kind: v}).size(tokens) for v in values]
        assert sizes == sorted(sizes)


def test_labels_tell_budgets_apart() -> None:
    budgets = [Budget(fraction=0.05), Budget(count=5), Budget(tokens=5), Budget(flops=5.0), Budget(fraction=0.5)]
    assert [b.label for b in budgets] == ["p0.05", "n5", "t5", "f5", "p0.5"]


@pytest.mark.parametrize("kind", ["tokens", "flops"])
def test_words_are_no_tokens(kind: str) -> None:
    """Scores made without a model hold words; a budget over them is one of words, or refused."""
    with pytest.raises(ValueError, match=r"these scores hold words.*score again with --model"):
        Budget(**{kind: 30}).check_unit("words")
    Budget(**{kind: 30}).check_unit("tokens")
    assert Budget(words=30).size(TOKENS) == 2
    Budget(words=30).check_unit("words")
    with pytest.raises(ValueError, match="--tokens instead of --words"):
        Budget(words=30).check_unit("tokens")
