"""Loss drop against its definition; exact zeros, one trajectory, independence of batch and shard; the calibration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.stages import Tiny, set_shard_rows
from transformers import AutoModelForCausalLM

from paydirt.cost.forms import forward_flops
from paydirt.cost.methods import as_counted, selection_cost
from paydirt.data.encoding import Encoded
from paydirt.models.load import ModelConfig, load_model
from paydirt.scoring.base import make_scorer
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace, predict_score
from paydirt.training.calibration import FOLDS, folds_of, mean_gradient

SMALL = {"name": "drop", "depth": 2, "rate": 1e-2, "tune_batch_size": 2}
CALIBRATED = SMALL | {"calibrate": True, "depths": [1, 3], "rates": [1e-4, 1e-2], "generic": 5}


def scored(tiny: Tiny, method: dict[str, Any], root: Path, **more: Any) -> np.ndarray:
    made = tiny.score(method, root / "scores", Workspace(root / "shared"), **more)
    return np.concatenate([block for _, block in Scores(made.path).blocks()])[:, 0]


def plain_loss(model: Any, encoded: Encoded) -> float:
    """Mean loss over supervised tokens, by the model's own forward pass on one example."""
    ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].double()
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
    return float(losses[encoded.supervised[1:]].mean())


@pytest.mark.parametrize("first", ["base", "first"])
@pytest.mark.parametrize("normalise", [True, False])
def test_it_is_the_loss_that_tuning_on_the_references_removes(
    tiny: Tiny, tmp_path: Path, first: str, normalise: bool
) -> None:
    """(l_first - l_last) / l_first, one example at a time on the plain models."""
    values = scored(tiny, SMALL | {"first_end": first, "normalise": normalise}, tmp_path)
    stage = tiny.score_stage(SMALL)
    tokens = Workspace(tmp_path / "shared").tokens(stage.pool, stage.model, stage.encoding)
    tuned = {}
    for path in (tmp_path / "shared" / "tuned").glob("references-*"):
        notes = json.loads((path / "manifest.json").read_text())["notes"]
        tuned[notes["steps"]] = load_model(ModelConfig(path=str(path / "model"), device="cpu"))
    one, two = 3, 6  # steps of one epoch and of two, of five references in twos
    assert set(tuned) == ({two} if first == "base" else {one, two})
    before = AutoModelForCausalLM.from_pretrained(tiny.model).eval() if first == "base" else tuned[one]
    for row in range(len(tokens)):
        a, b = plain_loss(before, tokens[row]), plain_loss(tuned[two], tokens[row])
        assert values[row] == pytest.approx((a - b) / (a if normalise else 1.0), abs=1e-5)
    assert np.ptp(values) > 1e-2, "this test needs values"


@pytest.mark.parametrize("options", [{"depth": 0}, {"depth": 1, "first_end": "first"}])
def test_no_tuning_between_the_ends_gives_exactly_nothing(tiny: Tiny, tmp_path: Path, options: dict) -> None:
    assert not scored(tiny, SMALL | options, tmp_path).any()


def test_fresh_adapters_change_no_bit(tiny: Tiny, tmp_path: Path) -> None:
    """The two ends are read alike: a rate too small to move a weight gives exactly 0, through adapters or not."""
    assert not scored(tiny, SMALL | {"rate": 1e-38}, tmp_path).any()


def test_depths_lie_on_one_trajectory(tiny: Tiny, tmp_path: Path) -> None:
    """The model after one epoch is the same whether or not a second follows."""
    from paydirt.training.train import train_model

    job = tiny.job(SMALL, tmp_path / "job", Workspace(tmp_path / "shared"))
    scorer = make_scorer(SMALL)
    keep = {"save": "epoch", "keep_checkpoints": True}
    weights = []
    for epochs in (1, 2):
        out = tmp_path / str(epochs)
        config = scorer.training(epochs, 1e-2).model_copy(update=keep)
        train_model(out, job.selector, job.encoder, job.references, config, seed=0)
        first = min((out / "checkpoints").iterdir(), key=lambda p: int(p.name.split("-")[1]))
        weights.append((first / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_neither_batch_nor_shard_changes_a_bit(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget decides a batch's shape, so it may move last bits; who shares the shard may not."""
    whole = scored(tiny, SMALL, tmp_path / "whole")
    small = scored(tiny, SMALL | {"token_budget": 64}, tmp_path / "small")
    np.testing.assert_allclose(small, whole, atol=2e-6)
    set_shard_rows(monkeypatch, 7)
    assert (scored(tiny, SMALL, tmp_path / "cut") == whole).all()


def test_the_base_pass_is_shared_by_targets(tiny: Tiny, tmp_path: Path) -> None:
    """Two targets read the pool three times: once by the base model."""
    workspace = Workspace(tmp_path / "shared")
    other = tiny.target | {"name": "other", "references": str(tiny.root / "test.jsonl"), "test": None}
    first = tiny.score(SMALL, tmp_path / "a", workspace)
    second = tiny.score(SMALL, tmp_path / "b", workspace, target=other)
    assert len(list((tmp_path / "shared" / "losses").iterdir())) == 3
    charged = [{k: v for k, v in a.notes["charges"].items() if k.startswith("losses")} for a in (first, second)]
    assert len(charged[0].keys() & charged[1].keys()) == 1, "each is charged with the base pass, by the same place"
    assert len(charged[0]) == len(charged[1]) == 2


def test_four_targets_are_priced_five_passes(tiny: Tiny, tmp_path: Path) -> None:
    """k targets cost k + 1 passes, and their tunings; with the published first end 2 k."""
    job = tiny.job("drop", tmp_path / "job", Workspace(tmp_path / "shared"))
    facts = replace(job.facts, tasks=4)
    read = forward_flops(facts.model, facts.pool.total, facts.pool.mean, facts.convention)
    for first, passes in (("base", 5), ("first", 8)):
        parts = selection_cost(make_scorer({"name": "drop", "first_end": first}), facts).parts
        assert 4 * sum(v for k, v in parts.items() if k != "tuning") == pytest.approx(passes * read, rel=0.02)


def test_losses_are_rescored_without_a_pass(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    tiny.score(SMALL, tmp_path / "a", workspace)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "shared" / "losses").rglob("*.safetensors")}
    tiny.score(SMALL | {"normalise": False}, tmp_path / "b", workspace)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "shared" / "losses").rglob("*.safetensors")}


def test_losses_that_do_not_move_are_counted(tiny: Tiny, tmp_path: Path) -> None:
    made = tiny.score(SMALL | {"rate": 1e-38}, tmp_path / "a", Workspace(tmp_path / "shared"))
    assert made.notes["drop"]["unmoved"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_end": "first", "depth": 0}, "give depth 1 or more, or first_end 'base'"),
        ({"depths": [0, 2]}, "a grid needs depths of 1 or more"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scorer(SMALL | options)


class TestCalibration:
    """Depth and rate by three folds of the references."""

    def test_the_choice_and_the_curve_are_noted_and_used(self, tiny: Tiny, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path / "shared")
        made = tiny.score(CALIBRATED, tmp_path / "a", workspace)
        notes = made.notes["drop"]
        assert {(c["rate"], c["depth"]) for c in notes["curve"]} == {(r, d) for r in (1e-4, 1e-2) for d in (1, 3)}
        best = max(c["value"] for c in notes["curve"])
        assert next((c["rate"], c["depth"]) for c in notes["curve"] if c["value"] == best) == (
            notes["rate"],
            notes["depth"],
        )
        told = tiny.score(SMALL | {"rate": notes["rate"], "depth": notes["depth"]}, tmp_path / "b", workspace)
        values = [np.concatenate([b for _, b in Scores(a.path).blocks()]) for a in (made, told)]
        assert (values[0] == values[1]).all()

    def test_it_is_counted_and_priced(self, tiny: Tiny, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path / "shared")
        made = tiny.score(CALIBRATED, tmp_path / "a", workspace)
        [charged] = [v for k, v in made.notes["charges"].items() if k.startswith("calibrated/")]
        job = tiny.job(CALIBRATED, tmp_path / "job", workspace)
        priced = selection_cost(make_scorer(CALIBRATED), as_counted(job.facts)).parts["calibration"]
        assert priced / 2 < charged < priced * 2  # as the contract bounds tiny models: padding, embedding tables
        stage = tiny.score_stage(CALIBRATED)
        assert predict_score(stage, workspace).flops > predict_score(tiny.score_stage(SMALL), workspace).flops

    def test_a_cell_is_the_definition(self, tiny: Tiny, tmp_path: Path) -> None:
        """cos(tuned, held) - cos(tuned, generic) of mean gradients, each an example at a time at that checkpoint."""
        from paydirt.training.calibration import _generic
        from paydirt.training.train import train_model

        made = tiny.score(CALIBRATED, tmp_path / "a", Workspace(tmp_path / "shared"))
        job = tiny.job(CALIBRATED, tmp_path / "job", Workspace(tmp_path / "shared"))
        folds = folds_of(list(job.target.subtask_of), 0)
        generic, _ = _generic(job, 5, 0)
        cell = next(c for c in made.notes["drop"]["curve"] if c["rate"] == 1e-2 and c["depth"] == 3)
        for fold in range(FOLDS):
            inside = [e for e, f in zip(job.references, folds) if f != fold]
            held = [e for e, f in zip(job.references, folds) if f == fold]
            config = make_scorer(CALIBRATED).training(3, 1e-2)
            out = tmp_path / f"fold-{fold}"
            train_model(out, job.selector, job.encoder, inside, config, seed=0)
            model = load_model(ModelConfig(path=str(out / "model"), device="cpu"), train_adapter=True)
            means = [self.plain_mean(model, some) for some in (inside, held, generic)]
            cosine = [float(means[0] @ m / means[0].norm() / m.norm()) for m in means[1:]]
            assert cell["folds"][fold] == pytest.approx(cosine[0] - cosine[1], abs=1e-4)

    def plain_mean(self, model: Any, examples: list[Encoded]) -> torch.Tensor:
        total = None
        for example in examples:
            model.zero_grad()
            ids = torch.from_numpy(example.ids.astype(np.int64))[None]
            losses = torch.nn.functional.cross_entropy(
                model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none"
            )
            losses[torch.from_numpy(example.supervised[1:])].mean().backward()
            flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
            total = flat if total is None else total + flat
        assert total is not None
        return total / len(examples)

    def test_a_mean_gradient_takes_a_hundred_at_most(self, tiny: Tiny, tmp_path: Path) -> None:
        job = tiny.job("drop", tmp_path / "job", Workspace(tmp_path / "shared"))
        model = load_model(job.selector)
        some = [job.tokens[0]] * 100
        with_more = mean_gradient(model, [*some, job.tokens[1]], job.encoder.pad_id)
        assert (with_more == mean_gradient(model, some, job.encoder.pad_id)).all()

    def test_every_fold_has_of_every_subtask(self) -> None:
        subtasks = ["a"] * 7 + ["b"] * 3
        folds = folds_of(subtasks, 3)
        assert {(s, f) for s, f in zip(subtasks, folds)} == {(s, f) for s in "ab" for f in range(3)}
        assert sorted(np.bincount(folds)) == [3, 3, 4]

    def test_a_killed_calibration_continues_to_the_same_choice(
        self, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from paydirt.training import train

        whole = tiny.score(CALIBRATED, tmp_path / "a", Workspace(tmp_path / "shared"))
        work, done = train.train_model, []

        def dying(*arguments: Any, **more: Any) -> Any:
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(arguments[0].name)
            return work(*arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(train, "train_model", dying)
            with pytest.raises(KeyboardInterrupt):
                tiny.score(CALIBRATED, tmp_path / "b", Workspace(tmp_path / "killed"))
        again: list[str] = []
        monkeypatch.setattr(train, "train_model", lambda *a, **k: (again.append(a[0].name), work(*a, **k))[1])
        continued = tiny.score(CALIBRATED, tmp_path / "b", Workspace(tmp_path / "killed"))
        assert not {*done} & {*again}
        assert continued.notes["drop"] == whole.notes["drop"]
        assert sorted(continued.notes["charges"].values()) == sorted(whole.notes["charges"].values())

    def test_two_references_have_no_three_folds(self, tiny: Tiny, tmp_path: Path) -> None:
        target = tiny.target | {"limit_per_subtask": 1}
        with pytest.raises(ValueError, match="2 references; calibrating needs 3 folds: give depth and rate"):
            tiny.score(CALIBRATED, tmp_path / "a", Workspace(tmp_path / "shared"), target=target)
