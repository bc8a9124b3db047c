"""Configs as command-line options: every field of a config becomes a flag whose help is the field's description.

The only place that turns pydantic fields into typer parameters; adding a field or a scorer adds its flags.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from paydirt.core.config import Config


def options_of(cls: type[Config], skip: tuple[str, ...] = ()) -> list[inspect.Parameter]:
    """One keyword parameter a field; nested configs are left to YAML."""
    parameters = []
    for name, field in cls.model_fields.items():
        kind = _option_type(field.annotation)
        if name in skip or kind is None:
            continue
        default = None if field.default is PydanticUndefined else field.default
        shown = field.description or ""
        if field.default is PydanticUndefined and field.default_factory is None:
            shown = f"{shown} (required)".strip()
        if isinstance(default, tuple):
            default = list(default)
        flag = "--" + name.replace("_", "-")
        names = f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag
        annotation: Any = Annotated[kind, typer.Option(names, help=shown)]  # type: ignore[valid-type]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    return parameters


def _option_type(annotation: Any) -> Any:
    """The type that typer shall parse, or None for what a flag cannot hold."""
    if hasattr(annotation, "__metadata__"):
        return _option_type(get_args(annotation)[0])
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return _option_type(inner[0]) | None if len(inner) == 1 and _option_type(inner[0]) else None
    if origin is Literal:
        return str  # pydantic checks the value and names the choices
    if origin in (list, tuple) and get_origin(get_args(annotation)[0]) is Literal:
        return list[str]
    if origin in (list, tuple) and all(a in (str, int, float, ...) for a in get_args(annotation)):
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    if origin is dict or (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        return None
    return annotation if annotation in (str, int, float, bool) else None


def with_settings(options: dict[str, Any] | None, settings: list[str] | None) -> dict[str, Any]:
    """Options with `--set KEY=VALUE` merged in: a key may reach inside (`gradient.k`), a value is YAML.

    Raises ValueError for a setting without "=" or that is not YAML.
    """
    out = dict(options or {})
    for setting in settings or []:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise ValueError(f"--set {setting}: expected KEY=VALUE, such as gradient.k=4096")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {setting}: the value is not YAML ({str(error).splitlines()[0]})") from None
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(f"--set {setting[:80]}: the value does not fit its YAML tag ({error}); quote it") from None
        *path, last = key.replace("-", "_").split(".")
        inside = out
        for name in path:
            inside[name] = dict(inside.get(name) or {})
            inside = inside[name]
        inside[last] = value
    return out


def with_options(function: Callable[..., Any], extra: list[inspect.Parameter]) -> Callable[..., Any]:
    """`function(**fixed, options=dict)` as a function whose signature also lists `extra`, for typer to read."""
    fixed = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "options"]
    taken = {p.name for p in fixed}
    added = [p for p in extra if p.name not in taken]

    def call(**values: Any) -> Any:
        chosen = {p.name: values.pop(p.name) for p in added}
        return function(**values, options={k: v for k, v in chosen.items() if v is not None})

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in fixed] + added
    )
    call.__annotations__ = {p.name: p.annotation for p in [*fixed, *added]}
    return call
