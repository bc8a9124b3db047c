"""Names to classes: a subclass registers itself, an unknown name is an error that suggests the nearest one.

A family (scorers, policies, targets, benchmarks, learners) owns one `Registry` and one package; every module of that
package is imported the first time the registry is asked, so that a new file is a new method and no list of methods exists
anywhere. Other distributions bring theirs by entry points of the family's group: an entry names a class of the family, or
a module that defines some. One that cannot be used is named in one line, and the rest goes on without it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

OWN = "paydirt"
NOTEBOOK = ("__main__", "__mp_main__")  # where a class may be defined anew, cell by cell; the same module in a worker


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A remedy for a wrong word: the nearest choice, else all of them."""
    known = sorted(choices)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"choose one of: {', '.join(known)}"


class Registry(Generic[T]):
    """The classes of one family, by name.

    `package` may be a module; `group` is that of the entry points, if others may add.
    """

    def __init__(self, kind: str, package: str, group: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self._classes: dict[str, type[T]] = {}
        self._plugins: dict[str, str] = {}  # module of a plugin to its distribution
        self._loaded = False

    def add(self, name: str, cls: type[T]) -> None:
        """Register `cls`; two different classes of one name are a programming error."""
        other = self._classes.get(name)
        if other is not None and _place(other) != _place(cls):
            raise ValueError(f"two {self.kind}s are called {name!r}: {other.__module__} and {cls.__module__}")
        self._classes[name] = cls

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
                importlib.import_module(f"{self.package}.{module.name}")
        except BaseException:
            self._loaded = False
            raise
        for entry in sorted(entry_points(group=self.group) if self.group else (), key=lambda entry: entry.name):
            self._plug(entry)

    def _plug(self, entry: EntryPoint) -> None:
        """Load one entry; where it fails, what it registered on its way goes and one line says whose fault it was."""
        before = dict(self._classes)
        try:
            for cls in self._brought(entry, entry.load()):
                self._plugins[cls.__module__] = _distribution(entry)
        except Exception as error:  # code of others, which may raise anything
            from paydirt.core.progress import say

            self._classes = before
            fault = (str(error).strip() or "no further word").splitlines()[0][:200]
            say(
                f"the {self.kind} {entry.name!r} of the distribution {_distribution(entry)} is left out "
                f"({type(error).__name__}: {fault}); mend, update or uninstall it"
            )

    def _brought(self, entry: EntryPoint, loaded: Any) -> list[type[T]]:
        """What an entry has registered: the class that it names, or those of the module; ValueError where there is none."""
        known = self._classes.values()
        if isinstance(loaded, ModuleType):
            name = loaded.__name__
            found = [cls for cls in known if f"{cls.__module__}.".startswith(f"{name}.")]
        else:
            found = [cls for cls in known if cls is loaded]
        if not found:
            raise ValueError(f"{entry.value} is no {self.kind}: no class of the family with a `name` is there")
        return found

    def get(self, name: str) -> type[T]:
        """The class called `name`; ValueError with a suggestion if there is none."""
        self._load()
        if name not in self._classes:
            raise ValueError(
                f"unknown {self.kind} {name!r}; {self._elsewhere(name) or did_you_mean(name, self._classes)}"
            )
        return self._classes[name]

    def _elsewhere(self, name: str) -> str:
        """How what others call `name` is asked for here, by what a class says in its `known_as`; "" where none does."""
        folded = "".join(letter for letter in name.casefold() if letter.isalnum())
        told = (getattr(cls, "known_as", {}).get(folded) for cls in self._classes.values())
        return next((f"here it is {ours}" for ours in told if ours), "")

    def names(self) -> list[str]:
        self._load()
        return sorted(self._classes)

    def origin(self, name: str) -> str:
        """Where a class comes from: "" for our own, else its distribution and version, or the module that defines it."""
        module = self.get(name).__module__
        if module.split(".")[0] == OWN:
            return ""
        return "this session" if module in NOTEBOOK else self._plugins.get(module, module)

    def origins(self) -> list[str]:
        """Lines under a table of the family that say whose the classes of others are; none where all are ours."""
        foreign = [f"`{name}` from {origin}" for name in self.names() if (origin := self.origin(name))]
        told = "; ".join([*foreign, "the others from paydirt itself"])
        return ["", f"Where they come from: {told}."] if foreign else []


def _place(cls: type) -> tuple[str, str]:
    module = NOTEBOOK[0] if cls.__module__ in NOTEBOOK else cls.__module__
    return module, cls.__qualname__


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module
