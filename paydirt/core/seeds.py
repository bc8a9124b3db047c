"""The seeds of selecting: what varies them, so that spread over a study's seeds, or a consensus, covers selecting as well.

A scorer's own seeds are its integer fields that end in `_seed` (of the warm-up's share and order, of tuning on the
references, of the points, of the projection), in nested scorers too. The study's seed is *added* to what the recipe says:
two entries that differ in a seed stay different, and a recipe written out and read back means the same.
"""

from __future__ import annotations

from typing import Any, TypeVar

from paydirt.core.config import Config

C = TypeVar("C", bound=Config)


def varied(config: C, seed: int) -> C:
    """`config` with `seed` added to every selection seed inside; the same object where it has none."""
    found = {name: _varied(name, getattr(config, name), seed) for name in type(config).model_fields}
    changes = {name: value for name, value in found.items() if value is not None}
    return config.model_copy(update=changes) if changes else config


def _varied(name: str, value: Any, seed: int) -> Any:
    """The changed value of a field; None where nothing in it is a seed."""
    if name.endswith("_seed") and type(value) is int:
        return value + seed
    if isinstance(value, Config):
        inner = varied(value, seed)
        return inner if inner is not value else None
    if isinstance(value, list | tuple) and any(isinstance(v, Config) for v in value):
        new = type(value)(varied(v, seed) if isinstance(v, Config) else v for v in value)
        return new if any(a is not b for a, b in zip(new, value)) else None
    return None


def draws(config: Config) -> bool:
    """Whether a scorer's config holds a selection seed."""
    return varied(config, 1) is not config
