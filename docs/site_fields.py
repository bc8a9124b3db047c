"""Fields of configs as tables of the documentation site, and the Markdown that all its generated pages are written in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args


def fields_table(cls: Any) -> str:
    """Keys with type, default and description; nested configs by dotted keys."""
    rows = list(_fields(cls, ""))
    return table(["key", "type", "default", ""], rows) if rows else "None."


def _fields(cls: Any, prefix: str, deep: int = 0) -> Iterator[tuple[str, str, str, str]]:
    for name, field in cls.model_fields.items():
        key = f"{prefix}{name}"
        nested = None if deep > 2 else _config_in(field.annotation)
        default = "required" if field.is_required() else _default(field)
        yield f"`{key}`", cell(_type(field.annotation)), default, cell(field.description or "")
        if nested is not None and not hasattr(nested, "registry"):
            yield from _fields(nested, f"{key}.", deep + 1)


def _config_in(annotation: Any) -> Any:
    from paydirt.core.config import Config

    if inspect.isclass(annotation) and issubclass(annotation, Config):
        return annotation if annotation.model_fields else None
    if getattr(annotation, "__origin__", None) in (list, dict, tuple):
        return None
    return next((found for inner in get_args(annotation) if (found := _config_in(inner)) is not None), None)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if hasattr(value, "model_fields"):
        return ""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return cell(f"`{text}`") if text else '`""`'


def _type(annotation: Any) -> str:
    if inspect.isclass(annotation) and not get_args(annotation):
        return annotation.__name__
    text = str(annotation).replace("typing.", "").replace("NoneType", "null")
    text = re.sub(r"Annotated\[(\w+|[\w.]+)[^\]]*\]", r"\1", text)
    text = re.sub(r"[\w.]+\.(\w+)", r"\1", text).replace("| None", "or null").replace("Optional", "")
    return re.sub(r"Literal\[([^\]]*)\]", lambda f: f[1].replace("'", "").replace(", ", " or "), text)[:80]


def prose(text: str) -> str:
    """A docstring as Markdown: angle brackets stay text, indented lines stay code."""
    return re.sub(r"<(?=[a-zA-Z/])", "&lt;", text)


def cell(text: str) -> str:
    """Text inside a table's cell."""
    return prose(" ".join(text.split())).replace("|", "\\|")


def table(head: list[str], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
