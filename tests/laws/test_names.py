"""Law: `import paydirt` is light, and holds every name that it promises, to people and to type checkers alike."""

from __future__ import annotations

import ast
import inspect

from support.command import python

import paydirt
from paydirt.scoring.base import SCORERS
from paydirt.selection.policies.base import POLICIES


def typed_names() -> dict[str, str]:
    """What type checkers see in the package: name to the module that it is imported from."""
    tree = ast.parse(inspect.getsource(paydirt))
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    found = [n for n in block.body if isinstance(n, ast.ImportFrom)]
    assert all(a.asname == a.name for n in found for a in n.names), "only `import X as X` is an export"
    return {a.name: str(n.module) for n in found for a in n.names}


def test_importing_loads_no_library() -> None:
    code = """
import sys, time
start = time.perf_counter()
import paydirt
loaded = {m.split(".")[0] for m in sys.modules}
print(sorted(loaded & {"torch", "transformers", "numpy", "pyarrow", "pydantic", "rich", "typer", "pandas", "datasets"}))
dir(paydirt), paydirt.Gradient, paydirt.RoundRobin
print(sorted({m.split(".")[0] for m in sys.modules} & {"torch", "transformers", "peft", "datasets", "pandas"}))
"""
    assert python(code).split() == ["[]", "[]"]


def test_type_checkers_see_what_there_is() -> None:
    """The static names are the lazy ones and every method and policy of ours; each is the very same object."""
    families = [(f, name) for f in (SCORERS, POLICIES) for name in f.names()]
    ours = {f.get(name).__name__: f.get(name).__module__ for f, name in families if not f.origin(name)}
    assert typed_names() == {**ours, **paydirt.HOME}
    assert {f.get(name) for f, name in families} == {getattr(paydirt, f.get(name).__name__) for f, name in families}
    assert set(typed_names()) <= set(dir(paydirt))


def test_every_name_is_documented() -> None:
    for name in typed_names():
        assert getattr(paydirt, name).__doc__, name


def test_a_room_that_is_imported_does_not_hide_its_verb() -> None:
    code = """
import paydirt.cost.forms, paydirt.study.recipe
import paydirt as pay
import inspect
from paydirt import cost, study
from paydirt.cost.forms import PER_TOKEN
print(cost is pay.cost, study is pay.study, pay.cost.forms.PER_TOKEN is PER_TOKEN)
print(list(inspect.signature(pay.study).parameters)[0], list(inspect.signature(pay.cost).parameters)[0])
try:
    pay.cost("gradientt", model="nowhere")
except ValueError as error:
    print(error)
"""
    assert python(code).splitlines() == [
        "True True True",
        "recipe method",
        "unknown method 'gradientt'; did you mean 'gradient'?",
    ]


def test_an_unknown_name_is_an_attribute_error() -> None:
    code = """
import paydirt
for name in ("Gradientt", "gradient", "_repr_html_"):
    assert not hasattr(paydirt, name), name
"""
    python(code)
