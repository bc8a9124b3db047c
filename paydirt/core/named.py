"""Configs with a name: the common part of scorers, policies and benchmarks.

A subclass with a `name` registers itself in its family's registry; its config, written anywhere, carries the name and can
be read back by `make`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from paydirt.core.config import Config, parse
from paydirt.core.registry import Registry


class Named(Config):
    """Base of a family's base class, which sets `registry`."""

    name: ClassVar[str] = ""
    registry: ClassVar[Registry[Any] | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register a class once it is whole: one whose fields are faulty must not stay under its name."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.name and cls.registry is not None:
            cls.registry.add(cls.name, cls)

    @classmethod
    def called(cls) -> str:
        return f"{cls.registry.kind} {cls.name}" if cls.registry is not None and cls.name else cls.__name__

    @model_validator(mode="before")
    @classmethod
    def _without_name(cls, values: Any) -> Any:
        """A config nested under its own type may carry its name, as it is written; another's name is an error."""
        if isinstance(values, dict) and "name" in values and "name" not in cls.model_fields:
            if values["name"] != cls.name:
                raise ValueError(f"expected the settings of {cls.name!r}, found those of {values['name']!r}")
            return {key: value for key, value in values.items() if key != "name"}
        return values

    @model_serializer(mode="wrap")
    def _with_name(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The name is part of the config wherever it is nested, so that a written config can be read back."""
        return {"name": self.name, **rest(self)}


def make(registry: Registry[Any], values: Any) -> Any:
    """An instance from `{name: ..., option: ...}` or a bare name; ValueError with a suggestion for what is unknown."""
    if isinstance(values, Named):
        return values
    if isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, dict) or "name" not in values:
        raise ValueError(f"a {registry.kind} is a name, or a mapping with the key 'name' and its options")
    cls = registry.get(str(values["name"]))
    options = {key: value for key, value in values.items() if key != "name"}
    return parse(cls, options, where=cls.called())
