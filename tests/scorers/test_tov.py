"""Train on validation against its definition; LoRA beside LoRA, folded into one adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from support.stages import Tiny

from paydirt.gradients.per_example import trainable
from paydirt.models.load import LoraSpec, attach_lora, load_model
from paydirt.models.stack import fold
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace
from paydirt.training.train import train_model

from .test_drop import plain_loss

WARMUP = {"warmup_fraction": 0.2, "warmup_epochs": 2, "warmup_batch_size": 4, "lora": {"r": 4, "alpha": 8}}
METHOD = {"name": "tov", "gradient": WARMUP, "rate": 1e-2, "tune_batch_size": 2}


@pytest.mark.parametrize("how", ["lora", "full"])
def test_it_is_the_sum_of_drops_over_the_checkpoints_of_a_warmup(tiny: Tiny, tmp_path: Path, how: str) -> None:
    """sum_k l(z; theta_k) - l(z; theta'_k), one example at a time on the plain models."""
    workspace = Workspace(tmp_path / "shared")
    method = METHOD | {"gradient": WARMUP | {"warmup_method": how}}
    values = Scores(tiny.score(method, tmp_path / "scores", workspace).path).column(0)
    job = tiny.job(method, tmp_path / "job", workspace)
    [warmup] = (tmp_path / "shared" / "tuned").glob("warmup-*")
    pairs = []
    for place in sorted((warmup / "checkpoints").iterdir()):
        config = job.selector.model_copy(update={"path": str(place), "tokenizer": None})
        before = load_model(config)
        from paydirt.scoring.base import make_scorer

        out = tmp_path / place.name
        train_model(out, config, job.encoder, job.references, make_scorer(method).training(), seed=0)
        pairs.append((before, load_model(config.model_copy(update={"path": str(out / "model")}))))
    assert len(pairs) == 2
    for row in range(0, 60, 7):
        expected = sum(plain_loss(a, job.tokens[row]) - plain_loss(b, job.tokens[row]) for a, b in pairs)
        assert values[row] == pytest.approx(expected, abs=2e-5)
    assert values.max() - values.min() > 1e-3, "this test needs values"


def test_the_warmup_is_that_of_gradient(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    tiny.score({"name": "gradient", **WARMUP, "k": 64}, tmp_path / "g", workspace)
    tiny.score(METHOD, tmp_path / "t", workspace)
    assert len(list((tmp_path / "shared" / "tuned").glob("warmup-*"))) == 1


class TestStack:
    """A second adapter beside the first."""

    @pytest.fixture
    def stacked(self, tiny: Tiny) -> PeftModel:
        """Both adapters with weights that do something; only the second trains."""
        torch.manual_seed(0)
        from paydirt.models.load import ModelConfig

        model = load_model(ModelConfig(path=str(tiny.model), device="cpu"))
        model = attach_lora(model, LoraSpec(r=3, alpha=5, targets=("q_proj", "v_proj")), 0)
        model = attach_lora(model, LoraSpec(r=1, alpha=4), 1).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.3)
        return model

    def test_only_the_second_trains(self, stacked: PeftModel) -> None:
        assert {name.rsplit(".", 2)[-2] for name in trainable(stacked)} == {"second"}

    def test_folded_they_compute_the_same(self, stacked: PeftModel, tmp_path: Path, tiny: Tiny) -> None:
        ids = torch.arange(3, 40)[None]
        with torch.no_grad():
            before = stacked(input_ids=ids).logits
            with stacked.disable_adapter():
                base = stacked(input_ids=ids).logits
            one = fold(stacked).eval()
            after = one(input_ids=ids).logits
            one.save_pretrained(tmp_path)
            from paydirt.models.load import ModelConfig

            loaded = load_model(ModelConfig(path=str(tmp_path), device="cpu"))(input_ids=ids).logits
        assert (before - base).abs().max() > 0.1
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(loaded, before, atol=1e-4, rtol=1e-4)
        assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []

    def test_checkpoints_of_two_adapters_are_not_promised(self, tiny: Tiny, tmp_path: Path) -> None:
        from paydirt.scoring.base import make_scorer

        job = tiny.job(METHOD, tmp_path / "job", Workspace(tmp_path / "shared"))
        first = tmp_path / "first"
        config = make_scorer(METHOD).training()
        train_model(first, job.selector, job.encoder, job.references, config, seed=0)
        beside = job.selector.model_copy(update={"path": str(first / "model")})
        kept = config.model_copy(update={"save": "epoch", "keep_checkpoints": True})
        with pytest.raises(ValueError, match="beside an adapter keeps no checkpoints"):
            train_model(tmp_path / "second", beside, job.encoder, job.references, kept, seed=0)
