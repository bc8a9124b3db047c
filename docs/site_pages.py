"""The generated part of the documentation site: a page a method, and the reference of commands, YAML keys and Python.

mkdocs calls this as a hook (`hooks:` in mkdocs.yml). What enters: the package. What leaves: pages in memory, never on
disk, so that nothing generated can be committed or grow stale. Texts are those that the code says of itself: docstrings,
descriptions of fields, help.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # the package of this tree, whatever is installed

from site_fields import cell, fields_table, prose, table  # noqa: E402

HAND = {
    "Home": "index.md",
    "Start here": "start.md",
    "How to": {
        "My CSV to a tuned model": "how-to/my-csv.md",
        "One machine with 8 GPUs": "how-to/eight-gpus.md",
        "A cluster": "how-to/cluster.md",
        "A method of my own": "how-to/my-method.md",
        "A benchmark of my own": "how-to/my-benchmark.md",
        "From LESS": "how-to/from-less.md",
        "From and to other trainers": "how-to/from-llama-factory.md",
    },
}
SCIENCE = {
    "Selection": "selection.md",
    "Cheaper gradients": "selection-cost.md",
    "Gradients": "gradients.md",
    "Advisor": "advisor.md",
    "The law": "law.md",
    "Benchmarks": "benchmarks.md",
    "GPUs and clusters": "cluster.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    pages = generated()
    methods = [{Path(p).stem: p} for p in pages if p.startswith("methods/") and not p.endswith("index.md")]
    policies = [{Path(p).stem: p} for p in pages if p.startswith("policies/") and not p.endswith("index.md")]
    commands = [{Path(p).stem: p} for p in pages if p.startswith("reference/commands/")]
    known = set(SCIENCE.values())
    others = {
        p.stem: p.name for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in {*known, "index.md", "start.md"}
    }
    config.nav = [
        *({title: _nav(entry)} for title, entry in HAND.items()),
        {"Methods": ["methods/index.md", *methods]},
        {"Policies": ["policies/index.md", *policies]},
        {
            "Reference": [
                {"Commands": ["reference/commands.md", *commands]},
                {"YAML keys": "reference/recipe.md"},
                {"Python": "reference/python.md"},
                {"Tutorial notebook": "tutorial.md"},
            ]
        },
        {"Science": [{title: page} for title, page in {**SCIENCE, **others}.items()]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def _nav(entry: Any) -> Any:
    return [{title: page} for title, page in entry.items()] if isinstance(entry, dict) else entry


@cache
def generated() -> dict[str, str]:
    """Path under docs and text of every generated page."""
    return {**_methods(), **_policies(), **_commands(), "reference/recipe.md": recipe(), "reference/python.md": python(),
            "tutorial.md": tutorial()}  # fmt: skip


# ---- methods and policies -----------------------------------------------------------------------------------------------


def _methods() -> dict[str, str]:
    from paydirt.scoring.base import SCORERS
    from paydirt.scoring.listing import methods_markdown

    pages = {
        "methods/index.md": "# Methods\n\nP is the selector's parameters, T the pool's tokens.\n\n"
        + linked(methods_markdown())
    }
    for name in SCORERS.names():
        pages[f"methods/{name}.md"] = method_page(name, SCORERS.get(name))
    return pages


def method_page(name: str, cls: Any) -> str:
    """Definition, cost, when, evidence, options."""
    needs = "a selector model" if cls.needs_model else "no model (one gives it token counts)"
    facts = [
        ("selection FLOPs", cls.cost_note),
        ("published", cls.source or "its plugin does not say"),
        ("use it", cls.use_when),
        ("needs", f"{needs}; {'references of a target' if cls.uses_target else 'no target'}"),
        ("scores", "one number for each reference or subtask" if cls.pairwise else "one number an example"),
        ("selected by", f"policy `{cls.default_policy}` unless told otherwise"),
    ]
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    own = inspect.getdoc(cls) or ""
    rest = own.split("\n", 1)[1].strip() if "\n" in own else ""
    return "\n\n".join(
        filter(
            None,
            [
                f"# {name}",
                f"**{own.splitlines()[0]}**",
                table(["in short", ""], facts),
                "## Definition",
                prose(module),
                prose(rest),
                "## Evidence",
                evidence(name),
                "## Options",
                "On the command line with dashes, in YAML and Python as they stand; `--set KEY=VALUE` reaches nested keys.",
                fields_table(cls),
                f"In a recipe: `methods: [{name}]`, or `{{name: {name}, KEY: VALUE}}`. "
                f"In Python: `paydirt.{cls.__name__}(...)`.",
            ],
        )
    )


def _policies() -> dict[str, str]:
    from paydirt.selection.policies.base import POLICIES, policies_markdown

    intro = "N examples, R references, d numbers a vector, k chosen. How orders work: [selection](../selection.md)."
    pages = {"policies/index.md": f"# Policies\n\n{intro}\n\n{linked(policies_markdown())}"}
    for name in POLICIES.names():
        cls = POLICIES.get(name)
        own = inspect.getdoc(cls) or ""
        facts = [
            (k, getattr(cls, a) or "its plugin does not say")
            for k, a in (("cost", "cost_note"), ("published", "source"), ("use it", "use_when"))
        ]
        module = prose(inspect.getdoc(sys.modules[cls.__module__]) or "")
        rest = prose(own.split("\n", 1)[1].strip()) if "\n" in own else ""
        use = f"`paydirt select SCORES --policy {name} --set KEY=VALUE`, in a recipe `policy: {name}`."
        head = [f"# {name}", f"**{own.splitlines()[0]}**", table(["in short", ""], facts), rest]
        parts = [*head, "## Definition", module, "## Options", fields_table(cls), use]
        pages[f"policies/{name}.md"] = "\n\n".join(filter(None, parts))
    return pages


def evidence(name: str) -> str:
    """What was measured with the method: in the built-in world (README), and in the published studies that ship."""
    from paydirt.analysis.names import method_name
    from paydirt.analysis.published import SOURCE, TARGETED_SOURCE, published, targeted

    lines = []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for task, block in re.findall(r"^(\w+): exact_match.*?\n(.*?)^└", readme, re.M | re.S):
        head = next(line for line in block.splitlines() if line.startswith("┃"))
        fractions = [cell.strip() for cell in head.strip("┃").split("┃")][1:6]
        for line in block.splitlines():
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if re.fullmatch(rf"{re.escape(name)}(-\w+)?", cells[0]):
                shown = ", ".join(f"{f}: {c}" for f, c in zip(fractions, cells[1:6]) if c)
                lines.append(
                    f"- Built-in world, target `{task}`, `{cells[0]}`: {shown} (exact match, `make demo`, two seeds)."
                )
    key = method_name(name).representation
    for source, results in ((SOURCE, published()), (TARGETED_SOURCE, targeted())):
        rows = [(t, m) for t, m, label in zip(results.text("task"), results.text("model"), results.text("method"))
                if method_name(str(label)).representation == key]  # fmt: skip
        if rows:
            tasks = ", ".join(f"{task} ({count})" for task, count in Counter(str(t) for t, _ in rows).items())
            lines.append(
                f"- {source}: {len(rows)} runs on {len({m for _, m in rows})} models: {tasks}. The advisor knows them."
            )
    if not lines:
        lines.append(
            "- None in the demo's tables or in the published studies that ship: try it beside `random` in a "
            "[study](../start.md#which-method-should-it-be) before you rely on it."
        )
    log = len(re.findall(rf"(?i)\b{re.escape(name)}\b", (ROOT / "LOG.md").read_text(encoding="utf-8")))
    if log:
        lines.append(f"- `LOG.md` of the repository names it {log} times, failures included.")
    return "\n".join(lines)


def linked(markdown: str) -> str:
    """The names in a table's first column as links to their pages."""
    return re.sub(r"^\| `(\w+)` \|", r"| [`\1`](\1.md) |", markdown, flags=re.M)


# ---- reference ----------------------------------------------------------------------------------------------------------


def _commands() -> dict[str, str]:
    import typer

    from paydirt.cli import command

    if not command.app.registered_commands:
        command._register()
    root: Any = typer.main.get_command(command.app)
    pages = {}
    parts = [
        "# Commands",
        "Every verb in the order of the pipeline, with what `--help` says of it. `--debug` and `--verify` go with any.",
    ]
    for heading, names in root.sections().items():
        parts += [f"## {heading}"]
        rows = []
        for name in names:
            verb = root.commands[name]
            text = (verb.help or "").strip().split("\n\n")[0].replace("\n", " ")
            if not verb.hidden:
                rows.append((f"[`{name}`](commands/{name}.md)", cell(text)))
                pages[f"reference/commands/{name}.md"] = _command(f"paydirt {name}", verb)
        parts.append(table(["verb", ""], rows))
    return {"reference/commands.md": "\n\n".join(parts), **pages}


def _command(path: str, verb: Any, level: int = 1) -> str:
    text = inspect.cleandoc(verb.help or "")
    parts = [f"{'#' * level} {path}", prose(text)]
    if hasattr(verb, "commands"):
        for name in verb.list_commands(None):
            parts.append(_command(f"{path} {name}", verb.commands[name], level + 1))
        return "\n\n".join(parts)
    arguments = [p for p in verb.params if p.param_type_name == "argument"]
    options = [p for p in verb.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join([path, *(f"{p.name.upper()}{'...' if p.nargs == -1 else ''}" for p in arguments), "[OPTIONS]"])
    parts.append(f"```sh\n{usage}\n```")
    rows = [
        (f"`{p.name.upper()}`", "required" if p.required else "", cell(getattr(p, "help", "") or "")) for p in arguments
    ]
    for p in options:
        names = ", ".join(f"`{o}`" for o in [*p.opts, *p.secondary_opts])
        default = (
            "required"
            if p.required
            else ""
            if p.default is None or callable(p.default) or p.default == ()
            else f"`{p.default}`"
        )
        rows.append((names, default, cell(p.help or "")))
    return "\n\n".join([*parts, table(["option", "default", ""], rows)])


def recipe() -> str:
    """Keys of a study's recipe, and of every stage's config.yaml."""
    from paydirt.replay import STAGES
    from paydirt.study.recipe import MethodEntry, Study

    parts = [
        "# YAML keys",
        "A **recipe** (`paydirt run recipe.yaml`) is a study. Every artifact holds a `config.yaml` with `stage:` and its "
        "keys, which `paydirt run` makes again. Keys that are not known are refused with the nearest known one.",
        "## study",
        prose(inspect.getdoc(Study) or ""),
        fields_table(Study),
        "### methods: an entry",
        "A name, or a mapping: the method's own options beside these keys.",
        fields_table(MethodEntry),
    ]
    for name, (cls, _) in STAGES.items():
        parts += [f"## {name}", prose(inspect.getdoc(cls) or ""), fields_table(cls)]
    return "\n\n".join(parts)


def python() -> str:
    """Every public name of `import paydirt`."""
    import paydirt

    intro = (
        "`import paydirt as pay`. A name is loaded when it is first used. Scorers and policies are here under the names of "
        "their classes: [methods](../methods/index.md), [policies](../policies/index.md)."
    )
    parts = ["# Python", intro]
    for name in paydirt.HOME:
        thing = getattr(importlib.import_module(paydirt.HOME[name]), name)
        parts.append(f"## {name}")
        parts.append(f"```python\n{_signature(name, thing)}\n```")
        parts.append(prose(inspect.getdoc(thing) or ""))
        if inspect.isclass(thing) and hasattr(thing, "model_fields") and thing.model_fields:
            parts.append(fields_table(thing))
        elif inspect.isclass(thing):
            parts.append(_members(thing))
    return "\n\n".join(filter(None, parts))


def _signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and hasattr(thing, "model_fields"):
        return f"{name}(KEY=VALUE, ...)"
    try:
        lines = [str(p) for p in inspect.signature(thing).parameters.values()]
    except (TypeError, ValueError):
        return name
    short = f"{name}({', '.join(lines)})"
    return short if len(short) < 90 else f"{name}(\n    " + ",\n    ".join(lines) + ",\n)"


def _members(cls: type) -> str:
    rows = []
    ours = {name for base in cls.__mro__ if base.__module__.startswith("paydirt") for name in vars(base)}
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or name not in ours:
            continue
        inner = getattr(member, "fget", None) or getattr(member, "func", None) or member
        doc = inspect.getdoc(inner) if not isinstance(member, str | int | float) else ""
        first = (doc or "").split("\n\n")[0].replace("\n", " ")
        call = "()" if inspect.isroutine(member) else ""
        rows.append((f"`.{name}{call}`", cell(first)))
    return table(["", ""], rows) if rows else ""


def tutorial() -> str:
    """The notebook as a page."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    parts = []
    for one in notebook["cells"]:
        text = "".join(one["source"]).strip()
        parts.append(text if one["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n\nThe notebook itself is `docs/tutorial.ipynb`.\n"
