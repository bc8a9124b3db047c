"""The code of a class as 16 hex digits, so that scores made by a method's older code are known to be stale.

What enters: a class and the base class of its family. What leaves: a digest of its source and of what that names in its
own package and in the rooms that its family shares (`code_rooms` of the base: helper functions, constants, other classes,
whole modules), without comments, docstrings and layout; the base is left out, since its stage has a version. A class
without source (typed at a prompt) counts by its bytecode.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@functools.cache
def code_digest(cls: type, base: type) -> str:
    """16 hex digits of SHA-256 over the code of `cls` and of its ancestors below `base`."""
    own = [c for c in cls.__mro__ if issubclass(c, base) and c is not base]
    return hashlib.sha256("\n".join(_class_code(c, base) for c in own).encode()).hexdigest()[:16]


def _class_code(cls: type, base: type) -> str:
    try:
        lines, number = inspect.findsource(cls)
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError):
        return _bytecode(cls)
    holder = [node for node in tree.body if node.lineno <= number + 1 <= (node.end_lineno or 0)]
    package = cls.__module__.rpartition(".")[0]
    walk = _Walk({package, *getattr(base, "code_rooms", ())} - {""}, {base.__module__})
    walk.modules[cls.__module__] = _definitions(tree)
    for node in holder or tree.body:
        walk.add(cls.__module__, node)
    return "\n".join(sorted(walk.found.values()))


class _Walk:
    """Gathers definitions by following names through the modules of some packages."""

    def __init__(self, packages: set[str], stop: set[str]) -> None:
        self.packages = packages
        self.stop = stop
        self.modules: dict[str, dict[str, ast.stmt]] = {}
        self.found: dict[tuple[str, int], str] = {}
        self.followed: set[tuple[str, str]] = set()

    def add(self, module: str, node: ast.stmt) -> None:
        """Add a definition and, in turn, what it names."""
        if (module, node.lineno) in self.found:
            return
        self.found[module, node.lineno] = ast.unparse(_without_docstrings(node))
        known = self.modules[module]
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in known and known[inner.id] is not node:
                self.follow(module, known[inner.id], inner.id)
            elif isinstance(inner, ast.ImportFrom):
                for alias in inner.names:
                    self.follow(module, inner, alias.asname or alias.name)

    def follow(self, module: str, node: ast.stmt, name: str) -> None:
        """What a name stands for: a definition here, or what is imported from one of the packages."""
        if (module, name) in self.followed:
            return
        self.followed.add((module, name))
        if not isinstance(node, ast.ImportFrom):
            if not isinstance(node, ast.Import):
                self.add(module, node)
            return
        other = node.module or ""
        if node.level:
            other = ".".join([*module.split(".")[: -node.level], *([other] if other else [])])
        original = next((a.name for a in node.names if (a.asname or a.name) == name), name)
        if other in self.packages and (whole := self.known(f"{other}.{original}")):  # a module: all of it
            for part, inner in whole.items():
                self.follow(f"{other}.{original}", inner, part)
        elif other.rpartition(".")[0] in self.packages and original in (known := self.known(other)):
            self.follow(other, known[original], original)

    def known(self, module: str) -> dict[str, ast.stmt]:
        """The definitions of a module; none of one whose code does not count."""
        if module in self.stop:
            return {}
        if module not in self.modules:
            self.modules[module] = _definitions(_parsed(module))
        return self.modules[module]


def _parsed(module: str) -> ast.Module:
    """The syntax tree of a module that is not imported for it; an empty one where it has no source."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """Top-level names and the statements that define them; those under `if` too."""
    out: dict[str, ast.stmt] = {}
    for node in tree.body:
        for inner in ast.walk(node) if isinstance(node, ast.If | ast.Try) else (node,):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                out[inner.name] = inner
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                out |= {n.id: inner for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                out |= {(a.asname or a.name).split(".")[0]: inner for a in inner.names}
    return out


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    copy = ast.parse(ast.unparse(node)).body[0]
    for inner in ast.walk(copy):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            inner.body = inner.body[1:] or [ast.Pass()]
    return copy


def _bytecode(cls: type) -> str:
    """Code and constants of the methods of `cls`, and of the functions of its module that they call."""
    seen: dict[str, str] = {}
    for name, value in sorted(vars(cls).items()):
        function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and function.__module__ == cls.__module__:
            _gather(f"{cls.__qualname__}.{name}", function, seen)
        elif not name.startswith("_") and isinstance(value, str | int | float | tuple):
            seen[f"{cls.__qualname__}.{name}"] = repr(value)
    return f"{sys.version_info[:2]} {sorted(seen.items())}"


def _gather(name: str, function: types.FunctionType, seen: dict[str, str]) -> None:
    if name in seen:
        return
    code = function.__code__
    seen[name] = " ".join(_parts(code, function.__doc__)) + repr((function.__defaults__, function.__kwdefaults__))
    for called in code.co_names:
        other = function.__globals__.get(called)
        if isinstance(other, types.FunctionType) and other.__module__ == function.__module__:
            _gather(called, other, seen)
        elif isinstance(other, str | int | float | tuple):
            seen[called] = repr(other)


def _parts(code: types.CodeType, docstring: str | None = None) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _parts(constant)
        elif docstring is None or constant != docstring:
            yield repr(_ordered(constant))


def _ordered(constant: Any) -> Any:
    """A set's order differs between processes."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
