"""`--dry-run` of every verb, and `paydirt plan`, which is any verb with it: what would be made, and what it takes.

A verb under `--dry-run` runs up to the first artifact that is not there (`core.looking`), so that arguments are
checked as they always are and what is up to date is counted as such.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from paydirt.cli.shown import console
from paydirt.core.artifacts import cache_root
from paydirt.core.looking import Unmade, looking

if TYPE_CHECKING:
    from paydirt.planning.plan import Plan

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print what it would take (FLOPs, time, memory, disk, artifacts) and stop")
]


@dataclass(frozen=True)
class Asked:
    """Of what machine hours are wanted; whether this one may be measured for it."""

    hardware: str | None = None
    devices: int = 1
    utilisation: float | None = None
    measure: bool = False


_asked: ContextVar[Asked] = ContextVar("asked", default=Asked())  # noqa: B039 - frozen


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("plan", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(plan)


def plan(
    context: typer.Context,
    hardware: Annotated[str | None, typer.Option(help="hours on this instead: a100, h100, ...")] = None,
    devices: Annotated[int, typer.Option(help="how many of them", min=1)] = 1,
    utilisation: Annotated[float | None, typer.Option(help="share of the peak that is reached, in (0, 1]")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="measure this machine where no plan has (half a minute, once)")
    ] = True,
) -> None:
    """Say what a recipe, or a verb with its options, would take: `paydirt plan recipe.yaml`, `paydirt plan score rds ...`.

    The same as --dry-run, which measures nothing but knows what has been measured.
    """
    assert context.parent is not None
    root: Any = context.parent.command
    words = list(context.args)
    if not words:
        raise ValueError("say what to plan: a recipe, or a verb with its options, such as: score gradient --pool ...")
    if words[0] == "plan":
        raise ValueError("a plan of a plan takes nothing; give a recipe, or another verb with its options")
    if words[0] not in root.commands:
        words = ["run", *words]
    token = _asked.set(Asked(hardware, devices, utilisation, probe and hardware is None))
    try:
        root.main([*words, "--dry-run"], prog_name="paydirt", standalone_mode=False)
    finally:
        _asked.reset(token)


def each_planned() -> AbstractContextManager[None]:
    """Around one of several artifacts that a verb makes: where it is only planned, the verb goes on to the next."""
    return suppress(Unmade)


def measures() -> bool:
    """Whether this machine may be measured for the plan that is asked for."""
    return _asked.get().measure


def plannable(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with `--dry-run`."""
    own = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in inspect.signature(command, eval_str=True).parameters.values()
    ]
    flag = inspect.Parameter("dry_run", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DryRun)

    def call(**values: Any) -> None:
        planned(lambda: command(**values), values.get("cache"), values.pop("dry_run", False))

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature([*own, flag])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in [*own, flag]}
    return call


def planned(work: Callable[[], Any], cache: Path | None, dry_run: bool) -> None:
    """Do the work, or with `dry_run` print the plan of what it would make."""
    if not dry_run:
        work()
        return
    from paydirt.planning.verbs import plan_of
    from paydirt.stages import Workspace

    with looking() as look, suppress(Unmade):  # it is in `look`
        work()
    show_plan(plan_of(look, Workspace(cache or cache_root()), measures()))


def show_plan(found: Plan) -> None:
    """The table, on the machine that was asked for."""
    from paydirt.planning.plan import COLUMNS

    asked = _asked.get()
    if asked.hardware is not None:
        found = found.on(asked.hardware, asked.devices, asked.utilisation)
    console.print(f"plan of {found.title}", markup=False, soft_wrap=True)
    table = Table()
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "what" else "right")
    *rows, last = found.rows()
    for row in rows:
        table.add_row(*row)
    if len(rows) > 1:
        table.add_section()
        table.add_row(*last)
    console.print(table)
    remarks = list(found.remarks)
    if found.device is None and found.start is None:
        remarks.append(
            "nothing has been measured here yet: `paydirt plan` with the same words does, --hardware names one"
        )
    if found.unforeseen:
        remarks.append(f"not in the sums, since it cannot be told before: {', '.join(found.unforeseen)}")
    for line in remarks:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"time is that of {found.machine}; nothing was run", markup=False, soft_wrap=True)
