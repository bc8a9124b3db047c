"""Laws of a model's identity: every byte that can change a number counts, what cannot does not."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from paydirt.core.config import parse
from paydirt.models import identity
from paydirt.models.load import ModelConfig, model_fingerprint, model_identity


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def config(path: Path | str, **more: Any) -> ModelConfig:
    return parse(ModelConfig, {"path": str(path), **more})


def test_a_changed_byte_in_the_middle_of_a_large_file_counts(model: Path) -> None:
    """300 MB of weights: the change lies beyond the first and before the last MB, size and times as they were."""
    file = model / "model-00002.safetensors"
    with open(file, "wb") as handle:
        handle.truncate(300 << 20)
    before, times = model_fingerprint(str(model)), os.stat(file)
    with open(file, "r+b") as handle:
        handle.seek(150 << 20)
        handle.write(b"\1")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert model_fingerprint(str(model)) != before


def test_a_large_file_is_read_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYDIRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "REMEMBERED", 1 << 10)
    reads: list[Path] = []
    real = identity.file_digest
    monkeypatch.setattr(identity, "file_digest", lambda file: (reads.append(file), real(file))[1])
    old = time.time() - 60
    for file in model.iterdir():
        os.utime(file, (old, old))
    first = model_fingerprint(str(model))
    assert model / "model.safetensors" in reads
    reads.clear()
    assert model_fingerprint(str(model)) == first
    assert model / "model.safetensors" not in reads
    # A file that was changed a moment ago may change again within a tick of its clock: it is never remembered.
    os.utime(model / "model.safetensors")
    for _ in range(2):
        reads.clear()
        assert model_fingerprint(str(model)) == first
        assert model / "model.safetensors" in reads


@pytest.mark.parametrize(
    "name",
    [
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "0_Transformer/pytorch_model.bin",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
        "spiece.model",
        "chat_template.jinja",
        "generation_config.json",
        "modeling_own.py",
        "config.json",
    ],
)
def test_every_file_that_decides_counts(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text('{"a": 1}')
    before = model_fingerprint(str(model))
    (model / name).write_text('{"a": 2}')
    assert model_fingerprint(str(model)) != before


@pytest.mark.parametrize("name", ["README.md", "training_args.bin", "trainer_state.json", "checkpoint-5/config.json"])
def test_bookkeeping_does_not_count(model: Path, name: str) -> None:
    before = model_fingerprint(str(model))
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text('{"a": 1}')
    assert model_fingerprint(str(model)) == before


def test_every_field_counts_but_device_and_the_spelling_of_the_path(model: Path, tmp_path: Path) -> None:
    one = model_identity(config(model))
    changed = {
        "tokenizer": str(model),
        "dtype": "bfloat16",
        "quantization": "4bit",
        "attention": "eager",
        "trust_remote_code": True,
    }
    # Whoever adds a field to ModelConfig says here whether it decides numbers (revision: see the hub's test).
    assert set(changed) | {"path", "device", "revision"} == set(ModelConfig.model_fields)
    for name, value in changed.items():
        assert model_identity(config(model, **{name: value})) != one, name
    assert model_identity(config(model, device="cuda:1", dtype="float32")) == one
    assert model_identity(config(f"{model.parent}/./{model.name}/")) == one
    moved = shutil.copytree(model, tmp_path / "elsewhere")
    assert model_identity(config(moved)) == one


def test_an_adapter_counts_with_its_base_wherever_that_lies(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()

    def write(base: Path, r: int = 8) -> str:
        values = {"base_model_name_or_path": str(base), "r": r, "revision": None}
        (adapter / "adapter_config.json").write_text(json.dumps(values))
        return model_fingerprint(str(adapter))

    one = write(model)
    assert write(shutil.copytree(model, tmp_path / "copy")) == one
    assert write(model, r=16) != one
    (model / "config.json").write_text(
        (model / "config.json").read_text().replace('"rms_norm_eps": 1', '"rms_norm_eps": 2')
    )
    assert write(model) != one


def hub(cache: Path, commits: dict[str, str], main: str) -> None:
    """A hub cache as huggingface_hub lays it out: refs to commits, snapshots by commit."""
    repo = cache / "models--house--model"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text(main)
    for commit, content in commits.items():
        (repo / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / commit / "config.json").write_text(content)


def test_a_hub_id_counts_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    identity.resolved_revision.cache_clear()
    try:
        with caplog.at_level("WARNING"):
            unknown = model_fingerprint("house/model")
        assert "revision could not be resolved" in caplog.text
        caplog.clear()
        a, b = "a" * 40, "b" * 40
        hub(tmp_path, {a: "{}", b: '{"x": 1}'}, main=a)
        identity.resolved_revision.cache_clear()
        first = model_fingerprint("house/model")
        assert not caplog.text
        assert model_fingerprint("house/model", revision=a) == first != unknown
        assert model_fingerprint("house/model", revision=b) != first
        assert identity.resolved_revision("house/model") == a, "loading is pinned to what was identified"
        hub(tmp_path, {}, main=b)
        identity.resolved_revision.cache_clear()  # another process
        assert model_fingerprint("house/model") == model_fingerprint("house/model", revision=b) != first
    finally:
        identity.resolved_revision.cache_clear()


def test_a_broken_config_is_named(model: Path) -> None:
    (model / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: cannot be read as JSON"):
        model_fingerprint(str(model))
