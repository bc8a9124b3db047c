"""Moments reach the right parameter whoever saved them, and a file that does not fit is refused by name."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict

import pytest
import torch

from paydirt.gradients.checkpoints import checkpoint_weights, load_moments
from paydirt.gradients.moments import moments_from_state
from paydirt.gradients.per_example import clean_name, trainable

from .tiny import tiny_model


@pytest.fixture
def trained():
    """A model, and for each parameter the moments it should get."""
    model = tiny_model("llama")
    names = [clean_name(name) for name in trainable(model)]
    parameters = list(trainable(model).values())
    first = {name: torch.randn(p.shape) for name, p in zip(names, parameters, strict=True)}
    second = {name: torch.rand(p.shape) for name, p in zip(names, parameters, strict=True)}
    return model, first, second


def entry(first, second, name, step=12.0):
    return {"exp_avg": first[name], "exp_avg_sq": second[name], "step": torch.tensor(step)}


def assert_same(moments, first, second):
    assert moments.settings.step == 12
    for name in first:
        assert torch.equal(moments.first[name], first[name])
        assert torch.equal(moments.second[name], second[name])


GROUP = {"betas": (0.9, 0.95), "eps": 1e-6}


def test_trainer_by_index(trained, tmp_path):
    model, first, second = trained
    state = {i: entry(first, second, name) for i, name in enumerate(first)}
    groups = [{**GROUP, "params": list(state)}, {**GROUP, "params": []}]
    torch.save({"state": state, "param_groups": groups}, tmp_path / "optimizer.pt")
    moments = load_moments(tmp_path, model)
    assert_same(moments, first, second)
    assert (moments.settings.beta2, moments.settings.eps) == (0.95, 1e-6)


def test_a_real_trainer_run_resolves_to_its_own_parameters(tmp_path):
    """Full fine-tuning, where Trainer reorders the parameters into decayed and not decayed."""
    from transformers import Trainer, TrainingArguments

    model = tiny_model("llama_biased", lora=False)
    rows = [{"input_ids": torch.arange(1, 9), "labels": torch.arange(1, 9)} for _ in range(4)]
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, num_train_epochs=2, save_strategy="epoch", logging_steps=1,
        report_to=[], use_cpu=True, weight_decay=0.1, disable_tqdm=True, save_only_model=False,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    checkpoints = [tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"]
    moments = load_moments(checkpoints[1], model)
    optimizer = trainer.optimizer.optimizer if hasattr(trainer.optimizer, "optimizer") else trainer.optimizer
    for name, p in trainable(model).items():
        assert torch.equal(moments.first[clean_name(name)], optimizer.state[p]["exp_avg"])
    first, second = checkpoint_weights(checkpoints)
    assert first > second > 0
    assert first + second == pytest.approx(1)


def test_fsdp_by_name_with_its_prefixes(trained, tmp_path):
    model, first, second = trained
    state = {f"_fsdp_wrapped_module.{name}": entry(first, second, name) for name in reversed(list(first))}
    torch.save({"state": state, "param_groups": [{**GROUP, "params": list(state)}]}, tmp_path / "optimizer.bin")
    assert_same(load_moments(tmp_path, model), first, second)


def test_adapter_names_are_resolved_with_and_without_the_adapter_name(trained):
    model, first, second = trained
    state = {name: entry(first, second, clean_name(name)) for name in trainable(model)}
    assert any(".default." in name for name in state)
    assert_same(moments_from_state({"state": state, "param_groups": [{**GROUP, "params": []}]}, model), first, second)


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("ranks", [1, 3])
def test_deepspeed_partitions(trained, tmp_path, stage, ranks):
    """Files laid out as DeepSpeed's zero_to_fp32.py reads them."""
    model, first, second = trained
    root = tmp_path / "global_step12"
    root.mkdir()
    (tmp_path / "latest").write_text("global_step12")
    flats = {"exp_avg": pieces(first, stage, ranks), "exp_avg_sq": pieces(second, stage, ranks)}
    for rank in range(ranks):
        base = {"state": {0: {key: flats[key][rank] for key in flats} | {"step": 12}}, "param_groups": [GROUP]}
        inner = {"optimizer_state_dict": base} if stage == 3 else {"base_optimizer_state": base}
        state = {"optimizer_state_dict": {"zero_stage": stage, "partition_count": ranks, **inner}}
        torch.save(state, root / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    shapes = [OrderedDict((name, value.shape) for name, value in first.items())]
    torch.save({"param_shapes": shapes}, root / "mp_rank_00_model_states.pt")
    assert_same(load_moments(tmp_path, model), first, second)
    if ranks > 1:
        (root / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
        with pytest.raises(ValueError, match="3 partitions, 2 files"):
            load_moments(tmp_path, model)


def pieces(values, stage, ranks):
    if stage == 3:
        padded = [torch.cat([v.flatten(), v.new_zeros(-v.numel() % ranks)]).chunk(ranks) for v in values.values()]
        return [torch.cat([p[rank] for p in padded]) for rank in range(ranks)]
    flat = torch.cat([v.flatten() for v in values.values()])
    return torch.cat([flat, flat.new_zeros(-flat.numel() % (2 * ranks))]).chunk(ranks)


def test_deepspeed_universal(trained, tmp_path):
    model, first, second = trained
    for name in first:
        directory = tmp_path / "zero" / name
        directory.mkdir(parents=True)
        torch.save({"param": first[name]}, directory / "exp_avg.pt")
        torch.save({"param": second[name]}, directory / "exp_avg_sq.pt")
        torch.save(12, directory / "step.pt")
    assert_same(load_moments(tmp_path, model), first, second)


def test_what_does_not_fit_is_refused(trained, tmp_path):
    model, first, second = trained
    names = list(first)
    other = {**first, names[3]: torch.zeros(1, 2)}
    state = {name: entry(other, second, name) for name in names}
    with pytest.raises(ValueError, match=r"v_proj|k_proj|q_proj|o_proj.*have shape \(1, 2\)"):
        moments_from_state({"state": state, "param_groups": []}, model)
    with pytest.raises(ValueError, match="no optimizer moments for 1 of"):
        moments_from_state({"state": {n: state[n] for n in names if n != names[3]}, "param_groups": []}, model)
    with pytest.raises(ValueError, match="moments for 2 parameters, but the model trains"):
        moments_from_state({"state": {0: {}, 1: {}}, "param_groups": [{"params": [0, 1]}]}, model)
    with pytest.raises(ValueError, match="no exp_avg"):
        moments_from_state({"state": {name: {"state1": first[name]} for name in names}, "param_groups": []}, model)
    with pytest.raises(ValueError, match=r"no optimizer\.pt"):
        load_moments(tmp_path, model)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_with_code_is_refused_unexecuted(trained, tmp_path, capsys):
    torch.save({"state": Evil()}, tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match="refused to load"):
        load_moments(tmp_path, trained[0])
    (tmp_path / "optimizer.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError):
        load_moments(tmp_path, trained[0])
    assert "executed" not in capsys.readouterr().out


def write_state(directory, step, history):
    directory.mkdir()
    log = [{"step": s, "learning_rate": rate} for s, rate in history]
    (directory / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    return directory


def test_checkpoint_weights_are_mean_rates_of_their_epochs(tmp_path):
    history = [(1, 1e-5), (2, 3e-5), (3, 1e-5), (4, 0.0)]
    a = write_state(tmp_path / "a", 2, history[:2])
    b = write_state(tmp_path / "b", 4, history)
    assert checkpoint_weights([a, b]) == pytest.approx([0.8, 0.2])
    with pytest.raises(ValueError, match="steps 5 to 2"):
        checkpoint_weights([b, a])
    with pytest.raises(ValueError, match="is missing"):
        checkpoint_weights([tmp_path])
