"""Laws of the source itself: imports run one way, modules say what they are, files stay small, starting stays quick."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support.command import python

PACKAGE = Path(__file__).resolve().parents[2] / "paydirt"
MODULES = sorted(PACKAGE.rglob("*.py"))
# DESIGN's direction: a layer may import those above it in this list, and its own.
LAYERS = [
    {"types", "registry", "config", "named", "files", "source", "interrupt", "boundary", "libraries", "artifacts"}
    | {"progress", "units", "paydirt"},
    {"cost", "prediction"},
    {"data"},
    {"models", "targets", "gradients"},
    {"columns"},
    {"scorers", "selection", "scores", "training", "evaluation", "world", "analysis", "execution"},
    {"stages", "stages_data"},
    {"study"},
    {"report", "demo", "inspect", "doctor", "interop", "replay"},
    {"api"},
    {"cli", "entry", "__main__"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    """The first name below the package: `data`, `stages` ..."""
    relative = path.relative_to(PACKAGE)
    return "paydirt" if relative.name == "__init__.py" and len(relative.parts) == 1 else relative.parts[0].split(".")[0]


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
            yield node.module, node.lineno
            if node.module == "paydirt":
                yield from ((f"paydirt.{alias.name}", node.lineno) for alias in node.names)


def test_every_part_has_a_layer() -> None:
    for path in MODULES:
        assert LAYER_OF[part_of(path)] >= 0


def test_imports_run_one_way() -> None:
    wrong = []
    for path in MODULES:
        for name, line in imports(path):
            other = name.split(".")[1] if name.startswith("paydirt.") else "paydirt"
            if other != "__version__" and LAYER_OF[other] > LAYER_OF[part_of(path)]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}, which is a later layer")
    assert not wrong, "\n".join(wrong)


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
from paydirt.scorers.base import SCORERS
from paydirt.selection.policies.base import POLICIES
from paydirt.targets import TARGETS
SCORERS.names(), POLICIES.names(), TARGETS.names()
print(sorted({m.split(".")[0] for m in sys.modules} & {"torch", "transformers", "peft", "sentence_transformers"}))
"""
    assert python(code).strip() == "[]"
