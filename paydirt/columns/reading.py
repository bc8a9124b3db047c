"""What the columns that a model fills by reading a pool's tokens have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from paydirt.columns.spec import Spec
from paydirt.columns.tokens import TokensRef
from paydirt.models.load import ModelConfig


class Reading(Spec):
    """Tokens, the model that reads them and what identifies it; the shape of its batches."""

    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft")
    places: ClassVar[frozenset[str]] = frozenset({"model"})

    tokens: TokensRef
    model: ModelConfig
    identity: dict[str, Any]
    pad_id: int = 0
    token_budget: int = 4096

    @property
    def size(self) -> int:
        return self.tokens.size
