"""Contract: every target loader and benchmark says what it is and refuses what it does not know."""

from __future__ import annotations

import pytest
import yaml
from support.stages import ENCODING, Tiny

from paydirt.core.config import dump_yaml, parse
from paydirt.stages import EvaluateStage, Workspace, evaluate, read_result
from paydirt.tasks import TARGETS, TargetConfig, load_target
from paydirt.tasks.benchmark import BENCHMARKS, Benchmark, make_benchmark

OPTIONS: dict[str, dict] = {}  # what a benchmark must be told
NEEDS_OWN_DATA = {b for b in BENCHMARKS.names() if getattr(BENCHMARKS.get(b), "standard", False)}

every_target = pytest.mark.parametrize("name", TARGETS.names())
every_benchmark = pytest.mark.parametrize("name", BENCHMARKS.names())


@every_target
def test_a_loader_is_documented_and_named(name: str) -> None:
    cls = TARGETS.get(name)
    assert cls.name == name
    assert cls.__doc__


@every_target
def test_a_loader_without_its_files_says_what_it_needs(name: str, tmp_path) -> None:
    """No data, or a folder that lacks it: the error names the target or the path, and the remedy."""
    with pytest.raises(ValueError, match=r"give `data`|give `references`"):
        load_target(TargetConfig(name=name))
    if name != "jsonl":
        with pytest.raises(ValueError, match=str(tmp_path)):
            load_target(TargetConfig(name=name, data=str(tmp_path)))


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown target 'mmul'; did you mean 'mmlu'\?"):
        load_target(TargetConfig(name="mmul"))


@every_benchmark
def test_a_benchmark_is_documented_and_survives_yaml(name: str) -> None:
    cls = BENCHMARKS.get(name)
    assert cls.name == name
    assert cls.__doc__
    assert cls.__doc__ != Benchmark.__doc__
    made = make_benchmark({"name": name, **OPTIONS.get(name, {})})
    again = make_benchmark(yaml.safe_load(dump_yaml(made.to_dict())))
    assert again == made


@every_benchmark
def test_a_benchmark_refuses_unknown_options(name: str) -> None:
    with pytest.raises(ValueError, match=f"benchmark {name}: unknown key 'limitt'"):
        make_benchmark({"name": name, "limitt": 3, **OPTIONS.get(name, {})})


def test_an_unknown_benchmark_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'exact_match'\?"):
        make_benchmark("exact_mach")


@every_benchmark
def test_a_benchmark_fills_an_eval_result(name: str, tiny: Tiny, tmp_path) -> None:
    """Its main metric is among its metrics, all finite; counts and subtasks add up."""
    if name in NEEDS_OWN_DATA:
        pytest.skip("brings its own data; tested with it")
    values = {"model": tiny.model_config, "target": tiny.target, "encoding": ENCODING, "benchmark": name}
    evaluate(parse(EvaluateStage, values), tmp_path / "e", Workspace(tmp_path / "shared"))
    result = read_result(tmp_path / "e")
    assert result.main in result.metrics
    assert 0 <= result.score <= 1
    assert all(abs(v) < 1e6 for v in result.metrics.values())
    assert result.n == 3
    assert set(result.by_subtask) == {"sums", "capitals"}
