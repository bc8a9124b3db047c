"""What a plan says of an evaluation by lm-eval is what the run states: every prompt is made before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stages import Tiny

pytest.importorskip("lm_eval", reason="standard benchmarks need the extra `eval`")

from paydirt.stages import Workspace, read_result

from .layout import write_layout

LENGTHS = ("--max-length", 512, "--batch-size", 2)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("mmlu", ()),
        ("mmlu", ("--no-chat-template", "--limit", 2)),
        ("bbh", ("--max-gen-tokens", 8)),
        ("tydiqa", ("--max-gen-tokens", 8, "--prompts", "lm_eval")),
        ("ifeval", ()),
    ],
)
def test_the_plan_has_the_flops_that_the_run_states(
    name: str, more: tuple[Any, ...], tiny: Tiny, tmp_path: Path, paydirt: Any
) -> None:
    from paydirt.core.units import number

    data = write_layout(tmp_path / "less")
    words = ("evaluate", tiny.model, "--benchmark", name, "--data", data, *LENGTHS, *more, "--out", tmp_path / "out")
    code, planned, err = paydirt("plan", "--no-probe", *words)
    assert code == 0, err
    assert not (tmp_path / "out").exists()
    code, _, err = paydirt(*words)
    assert code == 0, err
    stated = read_result(tmp_path / "out").predicted_flops
    assert stated > 0
    assert number(stated) in planned
    assert "cannot be told" not in planned


def test_a_study_on_a_standard_benchmark_is_priced_whole(tiny: Tiny, tmp_path: Path) -> None:
    from support.stages import ENCODING, TRAINING

    from paydirt.core.config import parse
    from paydirt.planning.study import study_plan
    from paydirt.study.recipe import Study

    recipe = {
        "name": "priced", "pool": tiny.pool, "targets": [{"name": "mmlu", "data": str(write_layout(tmp_path / "less"))}],
        "model": tiny.model_config, "encoding": ENCODING | {"max_length": 512}, "methods": ["random"],
        "fractions": [0.125], "seeds": [3], "training": TRAINING, "evaluation": {"name": "mmlu", "batch_size": 2},
        "workers": 1, "decontaminate": False,
    }  # fmt: skip
    plan = study_plan(parse(Study, recipe), tmp_path / "study")
    assert plan.unforeseen == ()
    space = Workspace(tmp_path / "alone")
    made = tiny.evaluate(tmp_path / "zero", space, target=None, encoding=recipe["encoding"],
                         benchmark={**recipe["evaluation"], "data": recipe["targets"][0]["data"]})  # fmt: skip
    (evaluating,) = [work for work in plan.works if work.what.startswith("evaluate")]
    assert evaluating.made == 2
    assert evaluating.flops == pytest.approx(2 * read_result(made.path).predicted_flops)
