"""Load a causal language model and its tokenizer: base or adapter directory, any precision, CPU or CUDA.

What enters: a `ModelConfig`. What leaves: a transformers model (a PeftModel where an adapter is loaded or attached) and
its tokenizer. No remote code runs unless asked for; weights are read from safetensors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from paydirt.core.artifacts import library_versions
from paydirt.core.config import Config, DeviceText, PathText, deciding
from paydirt.core.progress import say_once
from paydirt.cost.architecture import Architecture
from paydirt.models.identity import CONFIG, TOKENIZER, pinned
from paydirt.models.identity import adapter_config as adapter_config
from paydirt.models.identity import base_of as base_of
from paydirt.models.identity import is_adapter as is_adapter
from paydirt.models.identity import model_fingerprint as model_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ModelConfig(Config):
    """Which model, and how it is held in memory."""

    path: PathText = Field(description="model or adapter directory, or hub id")
    tokenizer: PathText | None = Field(None, description="tokenizer directory or hub id, if not beside the model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="precision of the weights; auto is settled at once: bfloat16 on CUDA, else float32"
    )
    device: DeviceText = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    quantization: Literal["none", "8bit", "4bit"] = Field("none", description="bitsandbytes, CUDA only")
    attention: str | None = Field(None, description="attention backend: eager, sdpa, flash_attention_2")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id; null takes the local snapshot's")

    @model_validator(mode="before")
    @classmethod
    def _settled(cls, values: Any) -> Any:
        """Precision decides bytes: what a config holds, a key is made of and `config.yaml` says is never "auto"."""
        if isinstance(values, dict) and values.get("dtype", "auto") == "auto":
            return {**values, "dtype": usual_dtype(str(values.get("device", "auto")))}
        return values


class LoraSpec(Config):
    """LoRA as the seeds train it (METHODS section 2): r 128, alpha 512, dropout 0.1 on the attention projections."""

    r: int = Field(128, ge=1)
    alpha: float = 512.0
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), description="module names")


def usual_dtype(device: str) -> Literal["float32", "bfloat16"]:
    """bfloat16 where a model will be on CUDA (half the memory, several times the speed), float32 elsewhere.

    `auto` goes by this machine. A GPU older than Ampere, which only emulates bfloat16, gets float32.
    """
    if device == "auto" or device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        return "bfloat16" if device.startswith("cuda") else "float32"
    return "float32"


def resolve_device(device: str) -> str:
    """`auto` is CUDA where there is one; under a launcher each process has the GPU of its number.

    Raises ValueError where several processes are told to share one GPU, there is none for this one, or no such device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
        if kind.type == "meta" or (kind.type == "cuda" and not torch.cuda.is_available()):
            raise RuntimeError("this machine has none that computes")
        if kind.type not in ("cpu", "cuda"):
            torch.zeros(1, device=kind)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has a kind of error for each kind
        raise ValueError(f"device {device!r}: {_first_line(error)}; give auto, cpu, cuda or cuda:1") from None
    if not device.startswith("cuda") or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    own = int(os.environ.get("LOCAL_RANK", "0"))
    if device not in ("cuda", f"cuda:{own}"):
        raise ValueError(
            f"device {device!r} is one GPU, but a launcher gives each process its own; leave the device out"
        )
    if own >= torch.cuda.device_count():
        raise ValueError(
            f"process {own} of this machine has no GPU: there are {torch.cuda.device_count()}; start fewer"
        )
    return f"cuda:{own}"


def visible_gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` would call each GPU that this process sees, alone."""
    import os

    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    found = torch.cuda.device_count()
    return named[:found] if named else [str(number) for number in range(found)]


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer beside the model, or beside the base model that an adapter names."""
    from transformers import AutoTokenizer

    path = config.tokenizer or config.path
    if not config.tokenizer and is_adapter(path) and not (Path(path) / "tokenizer_config.json").exists():
        path = base_of(path)
    try:
        return AutoTokenizer.from_pretrained(
            path,
            trust_remote_code=config.trust_remote_code,
            **pinned(path, config.revision if path == config.path else None, TOKENIZER),
        )
    except Exception as error:  # files cut short or of another shape make transformers raise anything
        raise ValueError(
            f"{path}: no tokenizer could be loaded ({_first_line(error)}); give one as tokenizer"
        ) from error


def architecture_of(config: ModelConfig) -> Architecture:
    """Architectural facts of the model, of an adapter those of its base; ValueError as `transformers_config`."""
    return Architecture.from_config(transformers_config(config))


def transformers_config(config: ModelConfig) -> Any:
    """What transformers says of the model, of an adapter of its base; from the files that are loaded, and no others.

    Raises ValueError where there is no config, or none of a language model.
    """
    from transformers import AutoConfig

    path, revision = config.path, config.revision
    if is_adapter(path):
        path, revision = base_of(path), adapter_config(path).get("revision")
    try:
        options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, **pinned(path, revision, CONFIG)}
        return AutoConfig.from_pretrained(path, **options)
    except Exception as error:  # as above
        raise ValueError(f"{path}: no model's config could be read ({_first_line(error)})") from error


def load_model(config: ModelConfig, train_adapter: bool = False) -> PreTrainedModel:
    """The model on its device, in evaluation mode; an adapter directory comes on its base.

    Raises ValueError where the path holds no model, or quantisation is asked for without CUDA.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for each load drowns our own
    device = resolve_device(config.device)
    if device.startswith("cuda") and config.dtype == "float32":
        _say_float32(device, torch.get_float32_matmul_precision())
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype), "trust_remote_code": config.trust_remote_code}
    if config.attention:
        options["attn_implementation"] = config.attention
    if config.quantization != "none":
        options |= _quantization(config, device)
    path, revision = config.path, config.revision
    if is_adapter(path):
        path, revision = base_of(path), adapter_config(path).get("revision")
    try:
        options |= (pins := pinned(path, revision))
        if pins.get("local_files_only"):  # which its look for an adapter beside the model does not hear of
            options["adapter_kwargs"] = {"local_files_only": True}
        model, report = AutoModelForCausalLM.from_pretrained(path, **options, output_loading_info=True)
    except Exception as error:  # as above
        raise ValueError(f"{path}: no causal language model could be loaded ({_first_line(error)})") from error
    if report["missing_keys"]:  # transformers fills them at random
        names = sorted(report["missing_keys"])
        raise ValueError(f"{path}: {len(names)} weights are missing from its files, first {names[0]}; fetch it again")
    if is_adapter(config.path):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, config.path, is_trainable=train_adapter)
    if config.quantization == "none":
        model = model.to(device)
    return model.eval()


def prove_adapter(model: Any, path: str) -> None:
    """ValueError where `path` is an adapter and `model` says with it what its base says without: it would test the base."""
    if not is_adapter(path):
        return
    import torch
    from peft import PeftModel

    if not isinstance(model, torch.nn.Module):
        return  # a benchmark of somebody's loads in a way of its own
    if not isinstance(model, PeftModel):
        raise ValueError(f"{path}: is an adapter, but what was loaded of it is a plain {type(model).__name__}")
    ids = torch.arange(min(32, int(model.config.vocab_size)), device=model.device)[None]
    with torch.no_grad():
        tuned = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            base = model(input_ids=ids, use_cache=False).logits
    if torch.equal(tuned, base):
        raise ValueError(
            f"{path}: the adapter changes nothing: its base gives the same outputs without it, so it is untrained or its "
            "weights were not loaded; train it again, or evaluate the base by its own name"
        )


def _say_float32(device: str, precision: str) -> None:
    """Once for each device: what float32 means there."""
    how = "in full (TF32 is off)" if precision == "highest" else f"in TF32 (matmul precision {precision})"
    say_once(
        f"models in float32 on {device}: products {how}; --dtype bfloat16 takes half the memory and is several times faster"
    )


def missing_weights(path: str) -> list[str]:
    """Parameters that a model directory's config asks for and its files lack, or hold in another shape.

    Nothing but headers is read. Raises ValueError where it cannot be loaded at all.
    """
    from transformers import AutoModelForCausalLM

    try:
        _, report = AutoModelForCausalLM.from_pretrained(
            path, device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # as above
        raise ValueError(f"{path}: no causal language model could be loaded ({_first_line(error)})") from error
    return sorted(report["missing_keys"]) + sorted(str(name) for name, *_ in report["mismatched_keys"])


def _quantization(config: ModelConfig, device: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    if not device.startswith("cuda"):
        raise ValueError(f"quantization {config.quantization!r} needs CUDA (bitsandbytes); this run is on {device!r}")
    four = config.quantization == "4bit"
    compute = getattr(torch, config.dtype)
    quantized = BitsAndBytesConfig(load_in_8bit=not four, load_in_4bit=four, bnb_4bit_compute_dtype=compute)
    return {"quantization_config": quantized, "device_map": {"": device}}


def attach_lora(model: Any, spec: LoraSpec, seed: int) -> Any:
    """Wrap the model with fresh LoRA parameters, seeded. Raises ValueError when no module matches.

    Beside an adapter that it has, which stays as it is: see `paydirt.models.stack`.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    names = [n for n, _ in model.named_modules() if n.rsplit(".", 1)[-1] in spec.targets]
    if not names:
        linear = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise ValueError(f"no module is named any of {list(spec.targets)}; linear modules here: {', '.join(linear)}")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,  # type: ignore[arg-type]
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        task_type="CAUSAL_LM",
    )
    if isinstance(model, PeftModel):
        from paydirt.models.stack import stack

        return asks_nobody(stack(model, config))
    return asks_nobody(get_peft_model(model, config))


def asks_nobody(model: Any) -> Any:
    """`model`, a PeftModel, whose adapters are saved without a question to the hub."""
    from functools import partial

    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=saves_embeddings(model))
    return model


def saves_embeddings(model: Any) -> bool | Literal["auto"]:
    """Whether embeddings are saved with an adapter: where they are adapted, and peft shall see where names are patterns.

    By itself peft also compares the vocabulary with that of the base's config on the hub; nothing here changes one.
    """
    from peft.utils.constants import EMBEDDING_LAYER_NAMES

    wanted = [config.target_modules or () for config in model.peft_config.values()]
    if any(isinstance(names, str) for names in wanted):
        return "auto"
    return any(name in EMBEDDING_LAYER_NAMES for names in wanted for name in names)


def model_identity(config: ModelConfig) -> dict[str, Any]:
    """Everything about a model that decides numbers: what any key made with one holds. Neither device nor path counts."""
    return {
        **deciding(config),
        "weights": model_fingerprint(config.path, config.revision),
        "tokenizer": model_fingerprint(config.tokenizer) if config.tokenizer else None,
        **(library_versions(["bitsandbytes"]) if config.quantization != "none" else {}),
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
