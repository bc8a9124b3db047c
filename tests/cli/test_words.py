"""Law: no message and no page names an option, a key or a verb that does not exist.

Read are the texts of the package's source (docstrings are `tests/laws/test_docstrings.py`'s), README and docs. A flag must
be one of some verb; in a command line that is spelt out (`paydirt score bm25 --pool ...`), one of that verb. What an error
calls by an identifier's name must be a key of a config, a registered name, or something of the module's own.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from transformers import TrainingArguments

import paydirt
from paydirt.cli import app
from paydirt.cli.command import FAMILIES
from paydirt.core.config import Config
from paydirt.scoring.base import SCORERS
from paydirt.selection.policies.base import POLICIES
from paydirt.tasks.benchmark import BENCHMARKS

PACKAGE = Path(paydirt.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAGES = [PACKAGE.parent / "README.md", *sorted((PACKAGE.parent / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w<-])--[a-z0-9]{2,}(?:-[a-z0-9]+)*(?![\w-])")
OTHERS = re.compile(
    r"`(?:ray|torchrun|accelerate|sbatch|srun|trl|axolotl|llamafactory-cli) [^`]*`"
)  # another program's command line
IDENTIFIER = re.compile(r"(?<![\w.*])[a-z]+(?:_[a-z]+)+(?![\w.*])|(?<![\w.])[a-z_.]+(?==\S)")
# Names that others gave to what they wrote, and a source that an example names
FOREIGN = {"save_to_disk", "session_latest", "state_dict", "exp_avg", "exp_avg_sq", "eos_token", "dolly"}


@cache
def verbs() -> dict[str, set[str]]:
    """Options of each verb ("score bm25"); of the command itself under ""."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts) if flag.startswith("--")}
        found[name] = flags | {"--help", "--debug"}
        for part, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {part}".strip())

    before = list(app.registered_commands), list(app.registered_groups)
    for family in FAMILIES:
        family.register(app)
    walk(typer.main.get_command(app), "")
    app.registered_commands, app.registered_groups = before
    return found


@cache
def keys() -> set[str]:
    """Every key that a config may have, and every name that a value may be."""
    for module in pkgutil.walk_packages([str(PACKAGE)], "paydirt."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {*SCORERS.names(), *POLICIES.names(), *BENCHMARKS.names()}
    found |= {field.name for field in dataclasses.fields(TrainingArguments)}  # of trainings that others ran

    def walk(cls: type[Config]) -> None:
        found.update(cls.model_fields)
        found.update(value for field in cls.model_fields.values() for value in literals(field.annotation))
        for inner in cls.__subclasses__():
            walk(inner)

    walk(Config)
    return found


def literals(annotation: Any) -> list[str]:
    """The words that an annotation names, however deep: of `Literal["a", "b"] | None` a and b."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return [value for inner in get_args(annotation) for value in literals(inner)]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every literal but docstrings."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield node.lineno, node.value


def wrong_flags(source: str) -> list[str]:
    """Flags named in a module's texts that no verb has, nor the module's own parser."""
    tree = ast.parse(source)
    known = set().union(*verbs().values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"):
            known |= {str(ast.literal_eval(argument)) for argument in node.args}
    return [
        f"{line}: {flag}"
        for line, text in texts(tree)
        for flag in FLAG.findall(OTHERS.sub("", text))
        if flag not in known
    ]


def wrong_keys(source: str) -> list[str]:
    """Identifiers in the texts of a module's errors that are no key, no name, and nothing of the module's own."""
    tree = ast.parse(source)
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {text for _, text in texts(tree)}  # columns and keys that the module reads by this name
    raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    found = [(line, word) for node in raised for line, text in texts(node) for word in IDENTIFIER.findall(text)]
    return [f"{line}: {w}" for line, w in found if w.split(".")[-1] not in keys() | own | FOREIGN]


def wrong_commands(page: str) -> list[str]:
    """Command lines of a page with a verb that is not, or a flag that its verb has not."""
    wrong = []
    for line in re.findall(r"(?:^|`)(paydirt [a-z][^`\n]*)", page.replace("\\\n", " "), re.M):
        words = line.split("  #")[0].split()[1:]
        verb = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in verbs()), None)
        if verb is None:
            wrong.append(line)
        else:
            wrong += [f"{line}: {flag}" for flag in FLAG.findall(line) if flag not in verbs()[verb] | verbs()[""]]
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_text_names_an_option_that_does_not_exist(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert wrong_flags(source) == []
    assert wrong_keys(source) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_no_page_names_a_command_that_does_not_exist(path: Path) -> None:
    page = "```\npaydirt select x --share a=1 --labels y\npaydirt pick x\n```\nor `paydirt score bm25 --pool a`"
    assert wrong_commands(page) == ["paydirt select x --share a=1 --labels y: --labels", "paydirt pick x"]
