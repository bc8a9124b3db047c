"""`paydirt select`: a subset by finished scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paydirt.cli.flags import Cache, Force, Out, Seed, workspace
from paydirt.cli.options import with_settings
from paydirt.cli.plan import plannable
from paydirt.cli.shown import say_artifact
from paydirt.core.config import parse


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("select")(plannable(select))


def select(
    scores: Annotated[list[Path], typer.Argument(help="directory of finished scores; several, for several targets")],
    out: Out,
    policy: Annotated[
        str | None, typer.Option(help="order of the pool (`paydirt methods` lists them); default: the method's own")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="an option of the policy by its YAML key, such as nearest=1000; repeat"),
    ] = None,
    vectors: Annotated[
        str | None, typer.Option(help="of candidates, for tsds, mmr, k_centre, facility: scores, a store, a file")
    ] = None,
    weight: Annotated[list[float] | None, typer.Option(help="of each target, in the order of scores; repeat")] = None,
    combine: Annotated[str | None, typer.Option(help="several targets: turns (default) or ranks")] = None,
    curriculum: Annotated[str | None, typer.Option(help="best_last, short_first, easy_first")] = None,
    difficulty: Annotated[str | None, typer.Option(help="easy_first: scores that are low for what is easy")] = None,
    over: Annotated[str | None, typer.Option(help="round_robin: subtask or reference")] = None,
    share: Annotated[list[str] | None, typer.Option(help="quota: GROUP=WEIGHT; repeat")] = None,
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
    from paydirt.core.artifacts import open_artifact
    from paydirt.selection.policies.base import POLICIES
    from paydirt.stages import SelectStage
    from paydirt.stages import select as run

    given: dict[str, Any] = {"over": over} if over else {}
    given |= {"shares": _shares(share)} if share else {}
    given |= {"vectors": vectors} if vectors else {}
    if idle := set(given) - set(POLICIES.get(policy).model_fields if policy else ()):
        owner = {"over": "--over is an option of round_robin", "shares": "--share is an option of quota"}
        owner["vectors"] = "--vectors is an option of tsds, mmr, k_centre, and facility"
        raise ValueError(f"{owner[min(idle)]}; give --policy {owner[min(idle)].split()[-1]}, or leave it out")
    if settings and not policy:
        raise ValueError(f"--set {settings[0]}: an option of a policy; name it with --policy, or leave it out")
    if weight and len(weight) != len(scores):
        raise ValueError(f"--weight: {len(weight)} for {len(scores)} targets; give one for each, or none")
    options = {"name": policy, **with_settings(given, settings)} if policy else None
    weights = weight or [1.0] * len(scores)
    reduction = {k: v for k, v in (("within", within), ("across", across)) if v}
    budget = {"fraction": fraction, "count": count, "tokens": tokens, "words": words, "flops": flops}
    stage = parse(
        SelectStage,
        {
            "pool": open_artifact(scores[0], "score").config["pool"],
            "scores": str(scores[0].absolute()),
            "weight": weights[0],
            "others": [{"scores": str(p.absolute()), "weight": w} for p, w in zip(scores[1:], weights[1:])],
            "selection": {
                "policy": options,
                "reduction": reduction or None,
                "curriculum": curriculum,
                "difficulty": difficulty,
                **({"combine": combine} if combine else {}),
            },
            "budget": {k: v for k, v in budget.items() if v is not None},
            "seed": seed,
            "flops_per_token": flops_per_token,
        },
        where="select",
    )
    say_artifact(run(stage, out, workspace(cache, force)))


def _shares(given: list[str]) -> dict[str, float]:
    """`--share GROUP=WEIGHT` values; ValueError names one that is not."""
    shares = {}
    for text in given:
        source, equals, weight = text.rpartition("=")
        try:
            shares[source] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"--share {text}: expected GROUP=WEIGHT, such as dolly=0.5")
    return shares
