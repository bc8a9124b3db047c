"""`paydirt select`: a subset by finished scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt.cli.flags import Cache, Force, Out, Seed, workspace
from paydirt.cli.shown import say_artifact
from paydirt.config import parse


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("select")(select)


def select(
    scores: Annotated[Path, typer.Argument(help="directory of finished scores")],
    out: Out,
    policy: Annotated[
        str | None, typer.Option(help="top, mid, low, round_robin, quota, random; default: the method's own")
    ] = None,
    over: Annotated[str | None, typer.Option(help="round_robin: subtask or reference")] = None,
    share: Annotated[list[str] | None, typer.Option(help="quota: SOURCE=WEIGHT; repeat")] = None,
    within: Annotated[str | None, typer.Option(help="statistic over the references of a subtask")] = None,
    across: Annotated[str | None, typer.Option(help="statistic over subtasks, or pooled")] = None,
    fraction: Annotated[str | None, typer.Option(help="share of the pool: 0.05 or 5%")] = None,
    count: Annotated[int | None, typer.Option(help="examples")] = None,
    tokens: Annotated[int | None, typer.Option(help="tokens")] = None,
    words: Annotated[int | None, typer.Option(help="words, where scores were made without a model")] = None,
    flops: Annotated[float | None, typer.Option(help="training FLOPs; needs --flops-per-token")] = None,
    flops_per_token: Annotated[float | None, typer.Option(help="training FLOPs of one token")] = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
) -> None:
    """Choose a subset by finished scores; writes JSONL in the pool's own form, best first."""
    from paydirt.artifacts import open_artifact
    from paydirt.selection.policies.base import POLICIES
    from paydirt.stages import SelectStage
    from paydirt.stages import select as run

    given: dict[str, Any] = {"over": over} if over else {}
    given |= {"shares": _shares(share)} if share else {}
    if idle := set(given) - set(POLICIES.get(policy).model_fields if policy else ()):
        owner = {"over": "--over is an option of round_robin", "shares": "--share is an option of quota"}
        raise ValueError(f"{owner[min(idle)]}; give --policy {owner[min(idle)].split()[-1]}, or leave it out")
    options = {"name": policy, **given} if policy else None
    reduction = {k: v for k, v in (("within", within), ("across", across)) if v}
    budget = {"fraction": fraction, "count": count, "tokens": tokens, "words": words, "flops": flops}
    stage = parse(
        SelectStage,
        {
            "pool": open_artifact(scores, "score").manifest["config"]["pool"],
            "scores": str(scores.absolute()),
            "selection": {"policy": options, "reduction": reduction or None},
            "budget": {k: v for k, v in budget.items() if v is not None},
            "seed": seed,
            "flops_per_token": flops_per_token,
        },
        where="select",
    )
    say_artifact(run(stage, out, workspace(cache, force)))


def _shares(given: list[str]) -> dict[str, float]:
    """`--share SOURCE=WEIGHT` values; ValueError names one that is not."""
    shares = {}
    for text in given:
        source, equals, weight = text.rpartition("=")
        try:
            shares[source] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--share {text}: expected SOURCE=WEIGHT, such as dolly=0.5")
    return shares
