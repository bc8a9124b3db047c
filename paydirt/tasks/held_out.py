"""Held-out likelihood: how probable a model finds the right answers, where generation says too little.

For targets without a test split the references serve: selection has seen them, training has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.types import EvalResult, Example, Target
from paydirt.data.encoding import Encoder, truncation
from paydirt.tasks.benchmark import Benchmark

if TYPE_CHECKING:
    from paydirt.tasks.spending import Expected


class Likelihood(Benchmark):
    """exp(-mean loss) over the supervised tokens: the geometric mean of their probabilities, in (0, 1]."""

    name: ClassVar[str] = "likelihood"
    limit: int | None = Field(None, ge=1, description="examples to use, from the first")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def expect(self, expected: Expected, encoder: Encoder, target: Target | None) -> bool:
        if target is None:
            return False
        expected.expect_reading([len(e.ids) for e in encoder.encode_examples(self._examples(target))])
        return True

    def _examples(self, target: Target) -> Sequence[Example]:
        return (target.test or target.references)[: self.limit]

    def evaluate(self, model: Any, encoder: Encoder, target: Target) -> EvalResult:
        from paydirt.tasks.loss import mean_losses, token_losses
        from paydirt.tasks.spending import Spending

        examples = self._examples(target)
        subtasks = [e.subset or "all" for e in examples] if target.test else list(target.subtask_of[: self.limit])
        encoded = encoder.encode_examples(examples)
        spending = Spending(model)
        self.expect(spending, encoder, target)
        spending.tokens = sum(len(e.ids) for e in encoded)
        losses = mean_losses(token_losses(model, encoded, encoder.pad_id, self.token_budget, spending.reading))
        known = np.isfinite(losses)
        if not known.any():
            raise ValueError(f"target {target.name!r}: no example has a supervised token within max_length")
        names = np.asarray(subtasks, dtype=object)
        by_subtask = {
            s: float(np.exp(-losses[known & (names == s)].mean())) for s in dict.fromkeys(names[known].tolist())
        }
        loss = float(losses[known].mean())
        metrics = {"likelihood": float(np.exp(-loss)), "loss": loss}
        settings: dict[str, object] = {
            "on": "test" if target.test else "references",
            "dropped": int((~known).sum()),
            "truncated": truncation(encoded)["truncated"],
        }
        return spending.on(EvalResult(target.name, "likelihood", metrics, int(known.sum()), by_subtask, settings))
