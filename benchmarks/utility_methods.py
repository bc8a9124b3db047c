"""What `utility.py` compares: methods as recipes write them, budgets as shares of full gradients' FLOPs, and the order.

Settings that fit a model of half a million parameters are the demo's; they were chosen on worlds 0 to 2, and so are a fit
there. The kept-apart worlds were never looked at while anything was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from paydirt.demo import DROP as TUNING
from paydirt.demo import GRADIENT as SHAPE
from paydirt.demo import PERPLEXITY

WORLDS = (0, 1, 2)
APART = (101, 102, 103)  # for one last look
TARGETS = ("worded", "paraphrased")
# Selection seed and training seed of a run: each of the first three varies both, the next cross them.
PAIRS = ((0, 3), (1, 6), (2, 9), (0, 6), (1, 9), (2, 3))
RANDOM_FRACTIONS = (0.1, 0.25, 1.0)  # beside 5 %: what equal total FLOPs may buy random data
FRACTIONS = (0.025, 0.1, 0.25)  # beside 5 %, for the methods in MORE
FULL: dict[str, Any] = {"name": "gradient", **SHAPE, "warmup_epochs": 4, "k": 8192}  # LESS: four checkpoints
ONE = FULL | {"checkpoints": 1}
SHORT = FULL | {"warmup_epochs": 1, "checkpoints": 1}  # what a small budget can pay for
DROP: dict[str, Any] = {"name": "drop", **TUNING}
GRID = {"calibrate": True, "depths": [2, 5, 10], "rates": [3e-4, 1e-3, 3e-3]}
TRUTHS = {"drop": DROP, "gradient": SHORT}
SHARES = (0.02, 0.05, 0.1, 0.25)
FREE = ["words", "length", "source", "bm25"]  # features that cost no FLOPs


@dataclass(frozen=True)
class Entry:
    """A method as a recipe writes it; `share`: of full gradients' FLOPs, by count, that it may spend."""

    values: dict[str, Any]
    policy: Any = None
    share: float | None = None
    selector: str = "model"  # or "small": a tenth of its parameters
    group: str = "other"  # its colour in the figure


def entries() -> dict[str, Entry]:
    """Every method by its label."""
    found: dict[str, Entry] = {
        "random": Entry({"name": "random"}, group="free"),
        "length": Entry({"name": "length"}, group="free"),
        "bm25": Entry({"name": "bm25"}, group="free"),
        "embed": Entry({"name": "embed", "encoder": "minilm"}, group="a pass"),
        "rds": Entry({"name": "rds"}, {"name": "round_robin", "over": "reference"}, group="a pass"),
        "ifd": Entry({"name": "ifd"}, group="a pass"),
    }
    for policy in ("top", "mid", "low"):
        found[f"ppl-{policy}"] = Entry({"name": "ppl", **PERPLEXITY}, policy, group="a pass")
    found |= {
        "drop": Entry(DROP, group="drop"),
        "drop, raw": Entry(DROP | {"normalise": False}, group="drop"),
        "drop, first": Entry(DROP | {"first_end": "first"}, group="drop"),
        "drop, calibrated": Entry(DROP | GRID, group="drop"),
        "tov": Entry({"name": "tov", "gradient": FULL}, group="tov"),
        "gradient": Entry(FULL, group="gradient"),
        "gradient, 1 checkpoint": Entry(ONE, group="gradient"),
        "drop, small selector": Entry(DROP, selector="small", group="drop"),
        "rds, small selector": Entry(
            {"name": "rds"}, {"name": "round_robin", "over": "reference"}, selector="small", group="a pass"
        ),
    }
    for truth, values in TRUTHS.items():
        learned = {"name": "learned", "truth": values, "features": FREE}
        for share in SHARES:
            stages = [learned | {"rounds": 4}, values]
            cascade = {"name": "cascade", "stages": stages, "full": FULL}
            found[f"cascade({truth}) {share:.0%}"] = Entry(cascade, share=share, group=f"cascade({truth})")
        for share in (0.05, 0.25):
            found[f"learned({truth}) {share:.0%}"] = Entry(learned, share=share, group=f"learned({truth})")
    return found


CORE = (
    "random",
    "gradient",
    "drop",
    "cascade(drop) 5%",
    "bm25",
    "cascade(drop) 25%",
    "cascade(gradient) 25%",
)
NEXT = (
    "gradient, 1 checkpoint",
    "rds",
    "ppl-low",
    "tov",
    "cascade(drop) 2%",
    "cascade(drop) 10%",
    "cascade(gradient) 5%",
    "drop, small selector",
    "rds, small selector",
)
MORE = ("bm25", "gradient", "drop", "cascade(drop) 5%", "cascade(drop) 25%")  # at other fractions too


class Run(NamedTuple):
    """One model: which data, drawn and trained with which seeds."""

    world: int
    target: str
    method: str
    fraction: float
    selection_seed: int
    training_seed: int


def grid(
    worlds: tuple[int, ...], apart: bool = False, pairs: int = 3, wide: bool = True, core: bool = False
) -> Iterator[Run]:
    """Runs, the most telling first, so that a grid that is stopped early is a smaller one.

    `core`: the few methods that the aims speak of, with all pairs of seeds; `apart`: these with one, and random's curve.
    """
    known = entries()
    rest = tuple(name for name in known if name not in (*CORE, *NEXT))

    def runs(names: tuple[str, ...], fraction: float, some: tuple[tuple[int, int], ...]) -> Iterator[Run]:
        for pair in some:
            for world in worlds:
                for name in names:
                    for target in TARGETS:
                        yield Run(world, target, name, fraction, *pair)

    yield from runs(CORE, 0.05, PAIRS[: pairs if core else 1])
    for fraction in RANDOM_FRACTIONS[:2]:
        yield from runs(("random",), fraction, PAIRS[:1])
    if apart or core:
        return
    yield from runs(NEXT, 0.05, PAIRS[:1])
    yield from runs(("random",), RANDOM_FRACTIONS[2], PAIRS[:1])
    yield from runs(CORE, 0.05, PAIRS[1:pairs])
    yield from runs(rest, 0.05, PAIRS[:1])
    if wide:
        for fraction in FRACTIONS:
            yield from runs(MORE, fraction, PAIRS[:1])
        yield from runs(NEXT, 0.05, PAIRS[1:pairs])
        for fraction in RANDOM_FRACTIONS[:2]:
            yield from runs(("random",), fraction, PAIRS[1:pairs])
        for fraction in FRACTIONS:
            yield from runs(MORE, fraction, PAIRS[1:pairs])
        yield from runs(rest, 0.05, PAIRS[1:pairs])
