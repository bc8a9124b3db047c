"""Law: a name in a docstring's backticks is a name of the code; a docstring that outlived its function fails here.

Checked are dotted names whose first part is the package or one of its modules (`paydirt.stages`, `front.cells`), which must
lead somewhere, and bare names that only code has (`snake_case`, `CamelCase`, `call()`), which must stand in the code or in
one of its texts.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "paydirt"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MARKED = re.compile(r"`([A-Za-z_]\w*(?:\.\w+)*)(\(\))?`")
FILES = re.compile(r"\.(py|json|jsonl|yaml|md|csv|pt|parquet|bin|npy|npz|html|safetensors|part)$")
WORD = re.compile(r"[A-Za-z_]\w*")
Documented = ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef


def docstrings(tree: ast.Module) -> list[ast.Constant]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) and isinstance(node.body[0], ast.Expr):
            value = node.body[0].value
            assert isinstance(value, ast.Constant)
            found.append(value)
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, list[str]]:
    """Full module names by every shorter way to say them: `paydirt.data.pool`, `data.pool` and `pool`."""
    names: dict[str, list[str]] = {}
    for path in SOURCES:
        parts = module_of(path).split(".")
        for start in range(len(parts)):
            names.setdefault(".".join(parts[start:]), []).append(".".join(parts))
    return names


@cache
def known_words() -> set[str]:
    """Every identifier of the code, and every word of its texts, docstrings left out."""
    words: set[str] = set()
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        documented = {(d.lineno, d.col_offset) for d in docstrings(ast.parse(text))}
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT or token.start in documented:
                continue
            words.update(WORD.findall(token.string))
    for path in PACKAGE.rglob("*.html"):
        words.update(WORD.findall(path.read_text(encoding="utf-8")))
    return words


def leads_somewhere(name: str) -> bool:
    """Whether a dotted name is a module or what a module holds, by any reading of its first parts."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        for full in modules().get(".".join(parts[:cut]), []):
            try:
                found: Any = importlib.import_module(full)
            except ModuleNotFoundError:  # of an optional library
                return True
            for part in parts[cut:]:
                fields = getattr(found, "model_fields", None) or getattr(found, "__annotations__", {})
                if not hasattr(found, part) and part not in fields:
                    break
                found = getattr(found, part, object)
            else:
                return True
    return False


def marked() -> Iterator[tuple[str, str, bool]]:
    """Place, name, and whether it is called, of everything in a docstring's backticks that may be a name."""
    for path in SOURCES:
        for text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            for found in MARKED.finditer(str(text.value)):
                line = text.lineno + str(text.value)[: found.start()].count("\n")
                yield f"{path.relative_to(PACKAGE)}:{line}", found[1], bool(found[2])


def test_dotted_names_lead_somewhere() -> None:
    wrong = []
    for place, name, _ in marked():
        first = name.split(".")[0]
        ours = first == "paydirt" or first in modules()
        if "." in name and ours and not FILES.search(name) and not leads_somewhere(name):
            words = name.split(".")
            if first == "paydirt" or not all(w in known_words() for w in words):
                wrong.append(f"{place}: `{name}`")
    assert not wrong, "\n".join(wrong)


def test_names_that_only_code_has_are_in_the_code() -> None:
    wrong = []
    for place, name, called in marked():
        only_code = "_" in name.strip("_") or called or re.search(r"[a-z][A-Z]", name)
        if "." not in name and only_code and name not in known_words():
            wrong.append(f"{place}: `{name}`")
    assert not wrong, "\n".join(wrong)


def test_the_law_sees_what_is_not_there() -> None:
    assert leads_somewhere("paydirt.stages.select")
    assert leads_somewhere("scores.Reduction.within")
    assert not leads_somewhere("paydirt.stages.selekt")
    assert not leads_somewhere("paydirt.nowhere")
    assert "selekt_all" not in known_words()
    assert len(list(marked())) > 300
