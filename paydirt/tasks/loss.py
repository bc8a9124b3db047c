"""Loss of a model on examples: mean negative log-likelihood of the supervised tokens, in nats.

Batched by length, logits only where they are scored. An example's loss does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paydirt.cost.measure import FlopMeter
from paydirt.data.encoding import Encoded


def token_losses(
    model: Any,
    examples: Sequence[Encoded],
    pad_id: int,
    token_budget: int = 4096,
    meter: FlopMeter | None = None,
    window: int | None = None,
) -> list[np.ndarray]:
    """Negative log-likelihood [supervised tokens] in float32 of each example; see `models.forward.TokenLosses`."""
    from paydirt.models.forward import TokenLosses

    reading = TokenLosses(model, pad_id, token_budget, window)
    losses, _ = reading(examples)
    if meter is not None:
        meter.add(float(reading.spent))  # an evaluation says what it took; a column charges each row for itself
    return losses


def mean_losses(losses: Sequence[np.ndarray]) -> np.ndarray:
    """Mean loss [N] of each example; NaN where an example has no supervised token."""
    return np.asarray([part.mean(dtype=np.float64) if len(part) else np.nan for part in losses])
