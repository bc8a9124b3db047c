"""What an evaluation costs: the ledger's line has predicted and measured FLOPs, held against a count of every operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.stages import ENCODING, Tiny

from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import count_flops
from paydirt.stages import Workspace, read_result
from paydirt.tasks.benchmark import make_benchmark


@pytest.mark.parametrize("name", ["exact_match", "likelihood"])
def test_evaluations_on_a_target(tiny: Tiny, tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path / "shared")
    benchmark = {"name": name, "token_budget": 64}  # several batches, of which two are counted
    check(tiny, tiny.evaluate(tmp_path / "e", workspace, benchmark=benchmark).path, benchmark, workspace)


@pytest.mark.parametrize("name", ["mmlu", "tydiqa", "ifeval"])
def test_standard_benchmarks(tiny: Tiny, tmp_path: Path, name: str) -> None:
    pytest.importorskip("lm_eval", reason="standard benchmarks need the extra `eval`")
    from .layout import write_layout

    workspace = Workspace(tmp_path / "shared")
    benchmark = {"name": name, "data": str(write_layout(tmp_path / "less")), "max_gen_tokens": 8, "batch_size": 2}
    encoding = {"template": "tulu", "max_length": 512}
    out = tiny.evaluate(tmp_path / "e", workspace, benchmark=benchmark, target=None, encoding=encoding).path
    check(tiny, out, benchmark, workspace)


def check(tiny: Tiny, out: Path, benchmark: dict[str, Any], workspace: Workspace) -> None:
    from paydirt.core.config import parse
    from paydirt.data.encoding import EncodingConfig
    from paydirt.models.load import ModelConfig
    from paydirt.tasks import TargetConfig

    (line,) = Ledger(out).entries()
    result = read_result(out)
    assert (line.predicted_flops, line.measured_flops) == (result.predicted_flops, result.measured_flops)
    assert line.tokens == result.tokens > 0
    config = parse(ModelConfig, tiny.model_config)
    made = make_benchmark(benchmark)
    target = None if "data" in benchmark else workspace.target(parse(TargetConfig, tiny.target))
    encoding = ENCODING if target else {"template": "tulu", "max_length": 512}
    encoder = workspace.encoder(config, parse(EncodingConfig, encoding))
    model = made.load(config)
    whole, again = count_flops(lambda: made.run(model, encoder, target, out))
    assert line.measured_flops == pytest.approx(whole, rel=0.1)
    assert again.metrics == result.metrics
    # A bound on answers that may end early, heads and attention counted in full: never below, not far above.
    # Losses of a handful of texts are read in batches of fixed shapes, whose filling rows outweigh them.
    assert (0.9 if "data" in benchmark else 0.4) < line.predicted_flops / whole < 2.5
