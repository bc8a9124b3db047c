"""Law: whatever its stages, a cascade spends no more than its budget by count, or says beforehand what would do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.cost.ledger import Ledger
from paydirt.scoring.base import make_scorer
from paydirt.stages import Workspace
from scorers.test_learned import CHEAP, LEARNED

PASSES: dict[str, dict[str, Any]] = {
    "bm25": {},
    "length": {},
    "rds": {"token_budget": 256},
    "ifd": {"token_budget": 256},
    "ppl": {"tune_epochs": 1, "token_budget": 256},
}
DROP = {"name": "drop", "depth": 2, "rate": 1e-2, "tune_batch_size": 2, "token_budget": 256}
LAST = [
    [{"name": "gradient", **CHEAP}],
    [{"name": "rds", **PASSES["rds"]}],
    [{"name": "ppl", **PASSES["ppl"]}],
    [{"name": "ifd", **PASSES["ifd"]}],
    [LEARNED],
    [
        LEARNED | {"rounds": 2, "learner": "kernel", "features": ["length", "rds", "loss", "proxy"]},
        {"name": "gradient", **CHEAP},
    ],
    [DROP],
    [LEARNED | {"rounds": 3, "features": ["length", "loss"]}, DROP],
    [LEARNED | {"rounds": 2}, {"name": "consensus", "method": DROP, "seeds": [0, 1]}],
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("budgets") / "shared")


def drawn(seed: int) -> tuple[list[dict[str, Any]], float]:
    """Stages, and a budget as a multiple of the least that works: from a thousandth to tenfold."""
    draw = np.random.default_rng(seed)
    last = LAST[seed % len(LAST)]
    filters = []
    for name in draw.choice(sorted(PASSES), size=draw.integers(len(last) == 1, 3), replace=False):
        keep = None if draw.random() < 0.5 else float(draw.choice([0.3, 0.5, 0.9, 1.0]))
        filters.append({"name": str(name), **PASSES[str(name)], "keep": keep})
    return [*filters, *last], float(draw.choice([1e-3, 0.99, 1.0, 1.1, 1.5, 2.5, 10]))


@pytest.mark.parametrize("seed", range(27))
def test_a_budget_is_kept_to_or_refused_beforehand(seed: int, tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    stages, times = drawn(seed)
    free = make_scorer({"name": "cascade", "stages": stages, "budget": 1.0})
    job = tiny.job(free, tmp_path / "job", workspace)
    least = free.least(job.facts, len(job.pool))
    budget = max(1e-3, times * least)

    def run(name: str, budget: float) -> dict[str, Any]:
        scorer = {"name": "cascade", "stages": stages, "budget": budget}
        artifact = tiny.score(scorer, tmp_path / name, workspace)
        told = json.loads((artifact.path / "cascade.json").read_text())
        [line] = [e for e in Ledger(artifact.path).entries() if e.stage == "score"]
        assert told["spent"] == line.measured_flops == artifact.notes["charged_flops"], "charged is what was spent"
        return told

    if budget < least:
        with pytest.raises(ValueError, match=r"cannot be kept to; give at least \S+,") as refused:
            run("refused", budget)
        [named] = re.findall(r"give at least ([^\s,]+),", str(refused.value))
        budget = float(named)
        [line] = [e for f in tmp_path.glob("*refused*") for e in Ledger(f).entries()] or [None]
        assert line is None or not line.measured_flops, "refused before anything is spent"
    told = run("kept", budget)
    assert told["spent"] <= budget
    assert told["stages"][-1]["kept"] >= 1


def test_what_the_closed_form_has_too_high_is_spent(tiny: Tiny, workspace: Workspace, tmp_path: Path) -> None:
    """`architectural` is a third above the count here; that third went unused."""
    stages = ["bm25", {"name": "gradient", **CHEAP}]
    scorer = make_scorer({"name": "cascade", "stages": stages, "budget": 1.0})
    job = tiny.job(scorer, tmp_path / "job", workspace)
    budget = 1.6 * scorer.least(job.facts, 60)
    artifact = tiny.score({"name": "cascade", "stages": stages, "budget": budget}, tmp_path / "c", workspace)
    told = json.loads((artifact.path / "cascade.json").read_text())
    assert told["stages"][-1]["kept"] < 60
    assert 0.93 * budget < told["spent"] <= budget
