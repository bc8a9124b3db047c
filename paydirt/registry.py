"""Names to classes: a subclass registers itself, an unknown name is an error that suggests the nearest one.

A family (scorers, policies, targets) owns one `Registry` and one package; every module of that package is imported the
first time the registry is asked, so that a new file is a new method and no list of methods exists anywhere.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A remedy for a wrong word: the nearest choice, else all of them."""
    known = sorted(choices)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(known)}"


class Registry(Generic[T]):
    """The classes of one family, by name."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def add(self, name: str, cls: type[T]) -> None:
        """Register `cls`; two different classes of one name are a programming error."""
        other = self._classes.get(name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise ValueError(f"two {self.kind}s are called {name!r}: {other.__module__} and {cls.__module__}")
        self._classes[name] = cls

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._loaded = True

    def get(self, name: str) -> type[T]:
        """The class called `name`; ValueError with a suggestion if there is none."""
        self._load()
        if name not in self._classes:
            raise ValueError(f"unknown {self.kind} {name!r}; {did_you_mean(name, self._classes)}")
        return self._classes[name]

    def names(self) -> list[str]:
        self._load()
        return sorted(self._classes)
