"""Law: an architecture read from a config has the parameters that transformers builds from the same config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paydirt.cost.architecture import Architecture

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

DECODERS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt_neox", "gpt2", "opt",
            "olmo2", "phi3", "smollm3", "gptj", "gpt_neo", "phi"]  # fmt: skip
ENCODERS = ["bert", "roberta", "mpnet", "distilbert", "t5"]
SMALL = {"num_hidden_layers": 3, "n_layer": 3}


def _count(model: object) -> int:
    return sum(p.numel() for p in model.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", DECODERS)
def test_parameters_equal_what_transformers_builds(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    arch = Architecture.from_config(config)
    # 0.5 %: norms, query-key norms and attention biases differ by family and weigh next to nothing.
    assert arch.parameters == pytest.approx(_count(model), rel=5e-3)


@pytest.mark.parametrize("family", ENCODERS)
def test_an_embedder_has_no_language_head(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    cls = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel
    with torch.device("meta"):
        model = cls(config) if family == "t5" else cls.from_config(config)
    pooler = sum(p.numel() for name, p in model.named_parameters() if "pooler" in name)
    arch = Architecture.from_config(config)
    assert not arch.language_head
    assert arch.parameters == pytest.approx(_count(model) - pooler, rel=1e-2)


def test_experts_count_in_full_but_work_in_part() -> None:
    config = transformers.AutoConfig.for_model("mixtral")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    arch = Architecture.from_config(config)
    assert arch.parameters == pytest.approx(_count(model), rel=5e-3)
    assert 0.2 < arch.active_parameters / arch.parameters < 0.35  # 2 of 8 experts


def test_object_dict_file_and_folder_read_alike(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("llama")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    readings = [Architecture.from_config(c) for c in (config, config.to_dict(), tmp_path, tmp_path / "config.json")]
    assert len(set(readings)) == 1


def test_a_nested_text_config_is_the_one_read() -> None:
    text = transformers.AutoConfig.for_model("qwen2").to_dict()
    nested = Architecture.from_config({"model_type": "some_vl", "text_config": text, "vision_config": {}})
    assert nested.parameters == Architecture.from_config(text).parameters


def test_llama_2_7b_has_its_published_size() -> None:
    arch = Architecture.from_config(transformers.AutoConfig.for_model("llama"))
    assert arch.parameters == 6_738_415_616


@pytest.mark.parametrize(("config", "needle"), [({"hidden_size": 8}, "num_attention_heads"), ({}, "hidden_size")])
def test_a_missing_field_is_named(config: dict[str, int], needle: str) -> None:
    with pytest.raises(ValueError, match=needle):
        Architecture.from_config(config)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no model config at .*config\.json"):
        Architecture.from_config(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        Architecture.from_config(tmp_path)


def test_lora_parameters_equal_pefts() -> None:
    peft = pytest.importorskip("peft")
    config = transformers.AutoConfig.for_model(
        "llama", num_hidden_layers=2, hidden_size=64, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=50,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    lora = peft.LoraConfig(r=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    tuned = peft.get_peft_model(model, lora)
    trainable = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert Architecture.from_config(config).lora_parameters(8) == trainable
