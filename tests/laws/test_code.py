"""Laws of the source itself: imports run one way, modules say what they are, files stay small, starting stays quick."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.command import python

PACKAGE = Path(__file__).resolve().parents[2] / "paydirt"
MODULES = sorted(PACKAGE.rglob("*.py"))
# DESIGN's direction, a room a line: a room may import those above it, and itself without circles.
ROOMS = {
    "paydirt": "the version, and the public names, found when they are asked for",
    "core": "artifacts, config, types, registries, keys of code, progress, errors",
    "data": "pools, forms, encoding, batches; curate/",
    "cost": "closed forms, hardware, ledger",
    "models": "load, identify, forward passes",
    "gradients": "per-example gradients, moments, projection, influence",
    "columns": "what is computed for every example, and its store",
    "execution": "who fills columns",
    "training": "fine-tuning",
    "tasks": "references, items, prompts, graders",
    "selection": "scores on disk, reductions, policies, budgets",
    "scoring": "the contract of a scorer, passes that several share",
    "prediction": "what learned and cascade share",
    "scorers": "one file a method",
    "world": "the built-in world",
    "workspace": "what stages share",
    "stages": "the pipeline on one page",
    "stages_data": "the stages of pools",
    "analysis": "law, front, advisor: tables in, tables out",
    "study": "methods x fractions x seeds",
    "interop": "other people's files, in and out",
    "replay": "every stage by its name",
    "planning": "what a verb or a recipe would take",
    "demo": "the built-in world's study",
    "inspect": "what an artifact says of itself",
    "doctor": "what this machine can do",
    "report": "figures and one page",
    "api": "what a notebook calls",
    "cli": "what the command calls",
    "entry": "the console script",
    "__main__": "python -m paydirt",
}
PLACE = {name: number for number, name in enumerate(ROOMS)}


def part_of(path: Path) -> str:
    """The first name below the package: `data`, `stages` ..."""
    relative = path.relative_to(PACKAGE)
    return "paydirt" if relative.name == "__init__.py" and len(relative.parts) == 1 else relative.parts[0].split(".")[0]


def is_module(name: str) -> bool:
    place = PACKAGE.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Full names that a module imports anywhere, inside functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            parts = [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
            modules = [(name, line) for name, line in parts if is_module(name)]
            yield from modules
            if len(modules) < len(parts):
                yield node.module, node.lineno


def test_every_room_has_a_place() -> None:
    assert {part_of(path) for path in MODULES} == set(ROOMS)


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def graph() -> dict[str, set[str]]:
    """Modules to the modules that they import, a package's `__init__` where no part of it is named."""
    known = {name_of(path) for path in MODULES}
    found: dict[str, set[str]] = {}
    for path in MODULES:
        names = {name for name, _ in imports(path)}
        found[name_of(path)] = {n for n in names if n in known and n != "paydirt"} - {name_of(path)}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    """A room knows those before it and none after."""
    wrong = []
    for path in (path for path in MODULES if part_of(path) == room):
        for name, line in imports(path):
            other = name.split(".")[1] if name.startswith("paydirt.") else "paydirt"
            if other in PLACE and PLACE[other] > PLACE[room]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}, which is a later room")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_of_imports() -> None:
    """Inside rooms neither; imports inside functions count."""
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' -> '.join(error.args[1])}") from None


def test_every_module_says_what_it_is() -> None:
    """A module begins with what enters, what leaves and why."""
    silent = [str(p.relative_to(PACKAGE)) for p in MODULES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert not silent


def test_no_file_is_over_400_lines() -> None:
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: n for name, n in lengths.items() if n > 400} == {}, "over 400 lines a file wants splitting"


def test_analysis_is_tables_in_tables_out() -> None:
    for path in MODULES:
        if part_of(path) == "analysis":
            heavy = {name.split(".")[0] for name, _ in imports(path)} & {"torch", "transformers", "peft"}
            assert not heavy, f"{path}: imports {heavy}"


def test_only_execution_knows_of_ray() -> None:
    for path in MODULES:
        assert part_of(path) == "execution" or "ray" not in {name.split(".")[0] for name, _ in imports(path)}, path


def test_nothing_reads_a_pickle() -> None:
    """A pickle from disk runs what it likes: `pickle.load` never, `torch.load` and `np.load` without its powers."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, place = ast.unparse(node.func), f"{path.relative_to(PACKAGE)}:{node.lineno}"
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert not name.startswith(("pickle.load", "pickle.Unpickler", "dill.", "joblib.load")), place
            assert name != "torch.load" or options.get("weights_only") == "True", place
            assert options.get("allow_pickle", "False") == "False", place


def test_starting_the_command_line_loads_no_heavy_library() -> None:
    """`paydirt --help` must answer at once: torch and transformers come when a stage runs."""
    code = """
import sys
import paydirt.cli
loaded = {m.split(".")[0] for m in sys.modules}
print(sorted(loaded & {"torch", "transformers", "peft", "sentence_transformers", "datasets", "ray", "matplotlib"}))
"""
    assert python(code).strip() == "[]"


def test_listing_methods_loads_no_torch() -> None:
    code = """
import sys
from paydirt.scoring.base import SCORERS
from paydirt.selection.policies.base import POLICIES
from paydirt.tasks import TARGETS
SCORERS.names(), POLICIES.names(), TARGETS.names()
print(sorted({m.split(".")[0] for m in sys.modules} & {"torch", "transformers", "peft", "sentence_transformers"}))
"""
    assert python(code).strip() == "[]"
