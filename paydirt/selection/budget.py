"""Budgets: how far down a ranking to go, by count, fraction, tokens (or words) or training FLOPs.

Exactly one of them is set. A budget is a cut of an order, so a smaller budget's selection is a prefix of a larger's.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from paydirt.core.config import Config

MOST = 2**63 - 1  # what the integers of a table hold


def share(value: Any) -> Any:
    """A share of the pool from a number or `"5%"`; ValueError with both readings for a number over 1."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise ValueError("a fraction is a share of the pool such as 0.05 or 5%") from None
    if text.endswith("%"):
        number /= 100
    elif 1 < number <= 100:
        raise ValueError(
            f"a fraction is at most 1: for {number:g} % of the pool give {number:g}%, for examples a count"
        )
    if not 0 < number <= 1:
        raise ValueError("a fraction is above 0 and at most 1, or above 0% and at most 100%; for examples give a count")
    return number


Share = Annotated[float, BeforeValidator(share)]


class Budget(Config):
    """How much to select: give exactly one."""

    fraction: Share | None = Field(None, description="share of the pool, in (0, 1], or as 5%")
    count: int | None = Field(None, description="examples")
    tokens: int | None = Field(None, description="tokens (one pass over the selection)")
    words: int | None = Field(None, description="words, where scores were made without a tokenizer")
    flops: float | None = Field(None, description="training FLOPs (needs a model)")

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [k for k, v in self if v is not None]
        if len(given) != 1:
            raise ValueError(f"a budget is exactly one of fraction, count, tokens, words, flops; got {given or 'none'}")
        (name,) = given
        value = getattr(self, name)
        what = f"budget of {str(value)[:24]} ({name})"
        if not 0 < value < math.inf:  # NaN is neither
            below = "is below one example" if value <= 0 else "is not a finite number"
            raise ValueError(f"{what} {below}; give a positive number")
        if name == "fraction" and value > 1:
            raise ValueError(f"{what} is over the pool; a fraction is in (0, 1]")
        if value > MOST and name in ("count", "tokens", "words"):
            raise ValueError(f"{what} is over the pool; no pool holds more than {MOST}")
        return self

    @property
    def label(self) -> str:
        """Name for files and tables, such as `p0.05` or `n1000`."""
        if self.fraction is not None:
            return f"p{self.fraction:g}"
        if self.count is not None:
            return f"n{self.count}"
        if self.words is not None:
            return f"w{self.words}"
        return f"t{self.tokens}" if self.tokens is not None else f"f{self.flops:g}"

    def check_unit(self, unit: str) -> None:
        """Lengths are in `unit`, "tokens" or "words"; ValueError where the budget is in the other."""
        if unit == "words" and (self.tokens is not None or self.flops is not None):
            raise ValueError(
                f"a budget of {'tokens' if self.flops is None else 'FLOPs'} needs lengths in tokens, and these scores hold "
                "words, since they were made without a model; score again with --model (its tokenizer is enough for "
                "methods that run none)" + (", or give the budget as --words" if self.flops is None else "")
            )
        if unit == "tokens" and self.words is not None:
            raise ValueError("these scores hold lengths in tokens; give the budget as --tokens instead of --words")

    def size(self, tokens: np.ndarray, flops_per_token: float | None = None, pool_size: int | None = None) -> int:
        """Length of the prefix to keep of a ranking whose example lengths are `tokens` [n], in rank order.

        A fraction is one of `pool_size` (default n), since a policy may rank only part of the pool. A token or FLOPs
        budget keeps every leading example that still fits as a whole. Raises ValueError when the budget asks for more
        than was ranked or for less than one example.
        """
        n = len(tokens)
        if not n:
            raise ValueError("the policy ranks no example, so no budget can be met; check its shares")
        if self.fraction is not None:
            whole = n if pool_size is None else pool_size
            return self._checked(round(self.fraction * whole), n, f"{self.fraction:g} of {whole} examples")
        if self.count is not None:
            return self._checked(self.count, n, f"{self.count} examples of {n}")
        if self.tokens is not None:
            return self._prefix(tokens, float(self.tokens), f"{self.tokens} tokens")
        if self.words is not None:
            return self._prefix(tokens, float(self.words), f"{self.words} words")
        if flops_per_token is None:
            raise ValueError("a FLOPs budget needs the training FLOPs of one token; give flops_per_token")
        if not 0 < flops_per_token < math.inf:
            raise ValueError(f"flops_per_token is {flops_per_token}; give the training FLOPs of one token, above 0")
        assert self.flops is not None
        return self._prefix(tokens, self.flops / flops_per_token, f"{self.flops:g} FLOPs")

    def most(self, tokens: np.ndarray, flops_per_token: float | None = None, repeats: bool = False) -> int:
        """The most examples that the budget can hold of those with lengths `tokens` [n], whatever their order.

        With `repeats` an example may be taken more than once.
        """
        n = len(tokens)
        if self.fraction is not None:
            return max(1, round(self.fraction * n))
        if self.count is not None:
            return self.count if repeats else min(n, self.count)
        limit = self.tokens or self.words or (self.flops or 0.0) / (flops_per_token or math.inf)
        if repeats:
            return int(limit // max(1, tokens.min())) + 1
        return min(n, int(np.searchsorted(np.cumsum(np.sort(tokens)), limit, side="right")) + 1)

    def _checked(self, k: int, n: int, what: str) -> int:
        if k > n:
            raise ValueError(f"budget of {what} is over the pool, of which the policy ranks {n}; ask for at most {n}")
        if k < 1:
            raise ValueError(f"budget of {what} is below one example; the smallest fraction here is {1 / n:.2g}")
        return k

    @staticmethod
    def _prefix(tokens: np.ndarray, limit: float, what: str) -> int:
        total = np.cumsum(tokens)
        if not limit > 0:
            raise ValueError(f"budget of {what} is below one token; raise it, or check flops_per_token")
        if limit > total[-1]:
            raise ValueError(
                f"budget of {what} is over the pool, which holds {int(total[-1])} tokens; lower the budget"
            )
        k = int(np.searchsorted(total, limit, side="right"))
        if k < 1:
            raise ValueError(f"budget of {what} is below one example: the best one alone has {int(tokens[0])} tokens")
        return k
