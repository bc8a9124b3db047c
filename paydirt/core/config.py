"""Typed configs to YAML and back. Unknown keys and wrong values are errors that name the place and the remedy.

A config is a frozen pydantic model whose field descriptions become `--help`; this module and `cli.options` are the only
places that know of pydantic's error forms.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from paydirt.core.registry import did_you_mean

C = TypeVar("C", bound="Config")
LARGEST = 100_000  # values of a config file, aliases unfolded


@dataclass(frozen=True)
class Aside:
    """Marks a field that decides no bytes of what is made, and says why: all other fields enter the key."""

    why: str


def absolute(path: str) -> str:
    """A relative path that leads somewhere from the current directory as an absolute one, so that a written config can be
    run from anywhere; what leads nowhere (a hub id, a name, a misspelling) stays as it is.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the path {path!r} is not UTF-8; rename the file") from None
    path = os.path.expanduser(path)
    fixed = re.split(r"[*?\[{]", path)[0]
    known = path if fixed == path else os.path.dirname(fixed) or "."
    return os.path.abspath(path) if path and os.path.exists(known) else path


def text_of_path(value: Any) -> Any:
    """Paths of Python are taken as their text."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


PLACE = Aside("a place; what lies there enters the key as an input")
PathText = Annotated[str, PLACE, BeforeValidator(text_of_path), AfterValidator(absolute)]
"""A path, a pattern of paths, or the name of something that is not here."""
DeviceText = Annotated[str, Aside("where it runs; results do not depend on it but for the last bits of floats")]


class Config(BaseModel):
    """Base of every config: frozen, strict about keys, fields documented, numbers finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    def __init__(self, **values: Any) -> None:
        """ValueError with the words that the same fault in a recipe gets."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explained(type(self), error, self.called()) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined] # what is nested is validated without a call of it

    if not TYPE_CHECKING:  # else checkers would take any assignment for allowed

        def __setattr__(self, name: str, value: Any) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError:
                raise ValueError(f"{self.called()}: does not change; make another with another {name!r}") from None

    @classmethod
    def called(cls) -> str:
        """What messages call it."""
        return cls.__name__

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, defaults included: what manifests and `config.yaml` hold."""
        return self.model_dump(mode="json", serialize_as_any=True)


def deciding(config: Config) -> dict[str, Any]:
    """What of a config enters a key: all of `to_dict` but the fields that are marked as an `Aside`."""
    whole = config.to_dict()
    asides = {name for name, field in type(config).model_fields.items() if aside(field) is not None}
    return {
        name: _deciding(getattr(config, name), value) if name in type(config).model_fields else value
        for name, value in whole.items()
        if name not in asides
    }


def _deciding(value: Any, plain: Any) -> Any:
    if isinstance(value, Config):
        return deciding(value)
    if isinstance(value, dict):
        return {key: _deciding(inner, plain[str(key)]) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_deciding(inner, other) for inner, other in zip(value, plain)]
    return plain


def aside(field: Any) -> Aside | None:
    """The mark of a pydantic field, if it has one; None for a field that decides."""
    return next(_asides(field.annotation, field.metadata), None)


def _asides(annotation: Any, metadata: Any) -> Iterator[Aside]:
    yield from (mark for mark in metadata if isinstance(mark, Aside))
    for inner in get_args(annotation):
        yield from _asides(inner, getattr(inner, "__metadata__", ()))


def parse(cls: type[C], values: Any, where: str = "config") -> C:
    """Build a config from plain values; ValueError lists every fault with its place."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a mapping of keys to values, found {type(values).__name__}")
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise _explained(cls, error, where) from None
    except RecursionError:
        raise ValueError(f"{where}: nested too deeply; no config needs more than ten levels") from None


def _explained(cls: type[BaseModel], error: ValidationError, where: str) -> ValueError:
    return ValueError("\n".join(_explain(cls, fault, where) for fault in error.errors()))


def _explain(cls: type[BaseModel], fault: Any, where: str) -> str:
    place = ".".join(str(part)[:80] for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        key = str(fault["loc"][-1])
        return f"{where}: unknown key {place!r}; {did_you_mean(key, _fields_at(cls, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        what = _described(cls, fault["loc"])
        return f"{where}: missing key {place!r}{f': {what}' if what else ''}"
    message = fault["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(fault.get("input"), dict | list) else f" (got {_short(fault.get('input'))})"
    return f"{where}: {place + ': ' if place else ''}{message}{shown}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python will write
        return f"a number of {value.bit_length()} bits"
    return text if len(text) <= 200 else text[:200] + "..."


def _fields_at(cls: type[BaseModel], path: tuple[Any, ...]) -> dict[str, Any]:
    """Fields of the model that `path` leads to, through optional fields and lists (whose parts are numbers)."""
    for part in path:
        field = cls.model_fields.get(str(part))
        cls = next(_models_in(field.annotation), cls) if field else cls
    return cls.model_fields


def _described(cls: type[BaseModel], path: tuple[Any, ...]) -> str:
    """What the field at `path` is, in its own words; "" where there are none."""
    field = _fields_at(cls, path[:-1]).get(str(path[-1]))
    return (field.description or "") if field else ""


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from disk; ValueError names file and line."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"byte {error.start} is not UTF-8"
        raise ValueError(f"{path}: cannot be read as YAML ({why})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply to be a config; a recipe has a few levels") from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        # PyYAML's constructors raise these for a tag whose text does not fit it (a timestamp of month 13, !!int of words).
        raise ValueError(f"{path}: a value does not fit its YAML tag ({error}); put it in quotes") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    if place := _not_plain(values, LARGEST):
        raise ValueError(f"{path}: {place}")
    return values


def _not_plain(values: Any, largest: int) -> str:
    """What in a YAML document is no plain value, or that its aliases unfold to more than `largest` values; else ""."""
    waiting, seen = [("", values)], 0
    while waiting:
        place, value = waiting.pop()
        seen += 1
        if seen > largest:
            return f"unfolds to more than {largest} values; a config is small, so look at its aliases"
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    where = f"{place}: " if place else ""
                    return f"{where}the key {key!r} is of type {type(key).__name__}; put it in quotes"
                waiting.append((f"{place}.{key}".lstrip("."), inner))
        elif isinstance(value, list):
            waiting += [(f"{place}[{i}]", inner) for i, inner in enumerate(value)]
        elif value is not None and not isinstance(value, str | int | float | bool):
            return f"{place}: {str(value)[:40]!r} is read as a {type(value).__name__}; put it in quotes"
    return ""


def load(cls: type[C], path: Path) -> C:
    """Read a config from a YAML file."""
    return parse(cls, read_yaml(path), where=str(path))


def dump_yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def paths_in(value: Any) -> Iterator[str]:
    """Every absolute path in a config."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from paths_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from paths_in(inner)
    elif isinstance(value, str) and os.path.isabs(value):
        yield value


def moved(value: Any, then: str, now: str) -> Any:
    """A config that was written in the folder `then`, which is `now`: paths that lead nowhere any more become those that
    lie to `now` as they lay to `then`, where these lead somewhere. What was moved together finds itself so."""
    if isinstance(value, dict):
        return {key: moved(inner, then, now) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [moved(inner, then, now) for inner in value]
    if not isinstance(value, str) or then == now or not os.path.isabs(value) or os.path.exists(value):
        return value
    there = os.path.normpath(os.path.join(now, os.path.relpath(value, then)))
    return there if os.path.exists(there) else value


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """`key: old value, now new value` for everything in which two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in dict.fromkeys([*old, *new])
            for line in differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
        ]
    return [] if old == new else [f"{place}: {str(old)[:60]}, now {str(new)[:60]}"]
