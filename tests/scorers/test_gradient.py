"""The gradient scorer against LESS's definition: loops, float64, moments read by hand from the optimizer's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stages import Tiny, files_of, set_shard_rows

from paydirt.columns import PoolColumn
from paydirt.gradients.projection import Projection
from paydirt.models.load import ModelConfig, load_model
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

METHOD = {
    "name": "gradient",
    "warmup_fraction": 0.3,
    "warmup_epochs": 2,
    "warmup_learning_rate": 3e-3,
    "warmup_batch_size": 8,
    "lora": {"r": 4, "alpha": 16, "dropout": 0.0},
    "k": 512,
    "store_dtype": "float32",
}


def values_of(artifact) -> np.ndarray:
    return np.concatenate([b for _, b in Scores(artifact.path).blocks()])


def loop_gradient(model, encoded) -> dict[str, torch.Tensor]:
    """Gradient of one example's mean supervised loss by plain autograd."""
    ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
    labels = torch.where(torch.from_numpy(encoded.supervised)[None], ids, -100)
    model.zero_grad()
    model(input_ids=ids, labels=labels).loss.backward()
    return {n: p.grad.detach().double().flatten() for n, p in model.named_parameters() if p.requires_grad}


def projected(gradients: dict[str, torch.Tensor], projection: Projection) -> np.ndarray:
    """The same projection applied to one whole gradient."""
    from paydirt.gradients.per_example import clean_name

    sums = projection.begin(1)
    for name, g in gradients.items():
        projection.add(sums, g.float()[None], clean_name(name), 0, g.numel())
    row = projection.finish(sums)[0].double().numpy()
    return row / np.linalg.norm(row)


def adam(name: str, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, step: float) -> torch.Tensor:
    """The two variants of METHODS section 2, in float64, betas 0.9 and 0.999, eps 1e-8."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    if name == "adam_published":
        return m / torch.sqrt(v + 1e-8)
    return (m / (1 - 0.9 ** (step + 1))) / (torch.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)


def brute_force(tiny: Tiny, shared: Path, direction: str) -> np.ndarray:
    """Influence [N, R] from the definition."""
    workspace = Workspace(shared)
    stage = tiny.score_stage(METHOD)
    encoder = workspace.encoder(stage.model, stage.encoding)
    pool = workspace.tokens(stage.pool, stage.model, stage.encoding)
    references = encoder.encode_batch([e.messages for e in workspace.target(stage.target).references])
    (tuned,) = (shared / "tuned").glob("warmup-*")
    folders = sorted((tuned / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    rates, previous, total = [], 0, 0.0
    for folder in folders:
        state = json.loads((folder / "trainer_state.json").read_text())
        logged = [e["learning_rate"] for e in state["log_history"] if previous < e["step"] <= state["global_step"]]
        rates.append(np.mean([r for r in logged if r is not None]))
        previous = state["global_step"]
    projection = Projection(METHOD["k"], "sketch", 0)
    for folder, rate in zip(folders, rates):
        model = load_model(ModelConfig(path=str(folder), device="cpu"), train_adapter=True)
        names = [n for n, p in model.named_parameters() if p.requires_grad]
        optimizer = torch.load(folder / "optimizer.pt", weights_only=True)["state"]
        rows = []
        for i in range(len(pool)):
            g = loop_gradient(model, pool[i])
            if direction.startswith("adam"):
                for at, n in enumerate(names):
                    kept = optimizer[at]
                    m, v = kept["exp_avg"].double().flatten(), kept["exp_avg_sq"].double().flatten()
                    g[n] = adam(direction, g[n], m, v, float(kept["step"]))
            elif direction == "sign":
                g = {n: torch.sign(x) for n, x in g.items()}
            rows.append(projected(g, projection))
        columns = [projected(loop_gradient(model, r), projection) for r in references]
        total = total + rate / sum(rates) * np.stack(rows) @ np.stack(columns).T
    return total


@pytest.mark.parametrize("direction", ["adam_published", "adam_textbook", "sgd", "sign"])
def test_influence_equals_the_definition(tiny: Tiny, tmp_path: Path, direction: str) -> None:
    """Checkpoint-weighted cosine of projected directions, to 1e-3 in float32 (1e-2 for signs of tiny numbers)."""
    artifact = tiny.score({**METHOD, "direction": direction}, tmp_path / "scores", Workspace(tmp_path / "shared"))
    expected = brute_force(tiny, tmp_path / "shared", direction)
    assert np.abs(values_of(artifact) - expected).max() < (1e-2 if direction == "sign" else 1e-3)


def test_score_without_storing_equals_the_store(tiny: Tiny, tmp_path: Path) -> None:
    """With and without a store, the same similarities; without, nothing of the pool's features is kept."""
    workspace = Workspace(tmp_path / "shared")
    stored = tiny.score(METHOD, tmp_path / "a", workspace)
    direct = tiny.score({**METHOD, "store": False}, tmp_path / "b", Workspace(tmp_path / "other"))
    np.testing.assert_allclose(values_of(stored), values_of(direct), atol=1e-4)
    assert not (tmp_path / "other" / "gradients").exists()


def test_subtask_columns_are_means_of_reference_columns(tiny: Tiny, tmp_path: Path) -> None:
    """A mean of cosines is the product with the mean reference, for a fraction of the work."""
    workspace = Workspace(tmp_path / "shared")
    each = Scores(tiny.score(METHOD, tmp_path / "a", workspace).path)
    means = Scores(tiny.score({**METHOD, "per": "subtask"}, tmp_path / "b", workspace).path)
    assert [c.subtask for c in means.columns] == each.subtasks
    np.testing.assert_allclose(each.reduce()[0], means.reduce()[0], atol=1e-6)


def test_one_store_serves_another_target(tiny: Tiny, tmp_path: Path) -> None:
    """A second target finds the warm-up and the store, and makes neither again."""
    workspace = Workspace(tmp_path / "shared")
    tiny.score(METHOD, tmp_path / "a", workspace)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("*.safetensors")}
    other = {**tiny.target, "name": "other", "limit_per_subtask": 1}
    tiny.score(METHOD, tmp_path / "b", workspace, target=other)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "shared").rglob("*.safetensors")} == before


def test_a_killed_store_continues_to_the_same_bytes(tiny: Tiny, tmp_path: Path, monkeypatch) -> None:
    """Stopped after a shard and run again: the same scores, at the same cost, as in one go."""
    set_shard_rows(monkeypatch, 16)
    whole = tiny.score(METHOD, tmp_path / "whole", Workspace(tmp_path / "one"))
    write, written = PoolColumn._write, []

    def stop_after(column: PoolColumn, *arguments) -> None:
        if column.spec.name == "gradients":
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append(column.place)
        write(column, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PoolColumn, "_write", stop_after)
        with pytest.raises(KeyboardInterrupt):
            tiny.score(METHOD, tmp_path / "killed", Workspace(tmp_path / "two"))
    assert len(written) == 3
    again = tiny.score(METHOD, tmp_path / "killed", Workspace(tmp_path / "two"))
    assert files_of(again.path) == files_of(whole.path)
    pool_side = [{k: v for k, v in a.notes["charges"].items() if k.startswith("gradients/")} for a in (again, whole)]
    assert list(pool_side[0].values()) == list(pool_side[1].values())
    assert len(pool_side[0]) == 2, "one a checkpoint"


def test_adam_without_a_warm_up_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    """Moments come from a warm-up; without one the error says what to use."""
    with pytest.raises(ValueError, match="use sgd or sign"):
        tiny.score({**METHOD, "warmup_epochs": 0}, tmp_path / "scores", Workspace(tmp_path / "shared"))


def test_without_a_warm_up_plain_gradients_work(tiny: Tiny, tmp_path: Path) -> None:
    """The cheapest form: fresh LoRA on the model as it is, one pass."""
    method = {**METHOD, "warmup_epochs": 0, "direction": "sgd"}
    values = values_of(tiny.score(method, tmp_path / "scores", Workspace(tmp_path / "shared")))
    assert np.abs(values).max() <= 1 + 1e-5
    assert values.std() > 0
