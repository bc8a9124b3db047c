"""Load a causal language model and its tokenizer: base or adapter directory, any precision, CPU or CUDA.

What enters: a `ModelConfig`. What leaves: a transformers model (a PeftModel where an adapter is loaded or attached) and
its tokenizer. No remote code runs unless asked for; weights are read from safetensors.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from paydirt.artifacts import fingerprint
from paydirt.config import Config, DeviceText, PathText

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHOLE_FILE = 1 << 28  # files beyond 256 MB are fingerprinted by size, head and tail


class ModelConfig(Config):
    """Which model, and how it is held in memory."""

    path: PathText = Field(description="model or adapter directory, or hub id")
    tokenizer: PathText | None = Field(None, description="tokenizer directory or hub id, if not beside the model")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the weights")
    device: DeviceText = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    quantization: Literal["none", "8bit", "4bit"] = Field("none", description="bitsandbytes, CUDA only")
    attention: str | None = Field(None, description="attention backend: eager, sdpa, flash_attention_2")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")


class LoraSpec(Config):
    """LoRA as the seeds train it (METHODS section 2): r 128, alpha 512, dropout 0.1 on the attention projections."""

    r: int = Field(128, ge=1)
    alpha: float = 512.0
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: tuple[str, ...] = Field(("q_proj", "k_proj", "v_proj", "o_proj"), description="module names")


def resolve_device(device: str) -> str:
    """`auto` is CUDA where there is one."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def is_adapter(path: str) -> bool:
    """An adapter directory is known by its `adapter_config.json`, never by its name."""
    return (Path(path) / "adapter_config.json").is_file()


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    """The tokenizer beside the model, or beside the base model that an adapter names."""
    from transformers import AutoTokenizer

    path = config.tokenizer or config.path
    if not config.tokenizer and is_adapter(path) and not (Path(path) / "tokenizer_config.json").exists():
        path = base_of(path)
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    except Exception as error:  # files cut short or of another shape make transformers raise anything
        raise ValueError(
            f"{path}: no tokenizer could be loaded ({_first_line(error)}); give one as tokenizer"
        ) from error


def base_of(adapter: str) -> str:
    """The base model that an adapter was trained on."""
    return str(json.loads((Path(adapter) / "adapter_config.json").read_text())["base_model_name_or_path"])


def load_model(config: ModelConfig, train_adapter: bool = False) -> PreTrainedModel:
    """The model on its device, in evaluation mode; an adapter directory comes on its base.

    Raises ValueError where the path holds no model, or quantisation is asked for without CUDA.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for each load drowns our own
    device = resolve_device(config.device)
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype), "trust_remote_code": config.trust_remote_code}
    if config.attention:
        options["attn_implementation"] = config.attention
    if config.quantization != "none":
        options |= _quantization(config, device)
    path = base_of(config.path) if is_adapter(config.path) else config.path
    try:
        model = AutoModelForCausalLM.from_pretrained(path, **options)
    except Exception as error:  # as above
        raise ValueError(f"{path}: no causal language model could be loaded ({_first_line(error)})") from error
    if is_adapter(config.path):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, config.path, is_trainable=train_adapter)
    if config.quantization == "none":
        model = model.to(device)
    return model.eval()


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
    """Wrap the model with fresh LoRA parameters, seeded. Raises ValueError when no module matches."""
    import torch
    from peft import LoraConfig, get_peft_model

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
    return get_peft_model(model, config)


def trainable(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """Names and parameters that receive gradients."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def model_fingerprint(path: str) -> str:
    """Identity of a model's weights and config; of a hub id, the id itself.

    Files beyond 256 MB count by size and their first and last MB, so that a 70B model is identified in a second.
    """
    root = Path(path)
    if not root.is_dir():
        return fingerprint({"hub": path})
    parts: dict[str, Any] = {}
    for file in sorted(root.iterdir()):
        # training_args.bin holds paths, not weights.
        weights = file.suffix in {".safetensors", ".bin"} and file.name != "training_args.bin"
        if weights or file.name in {"config.json", "adapter_config.json"}:
            parts[file.name] = _quick_digest(file)
    if is_adapter(path):
        parts["base"] = model_fingerprint(base_of(path))
    return fingerprint(parts)


def _quick_digest(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(file, "rb") as handle:
        if size <= WHOLE_FILE:
            while block := handle.read(1 << 22):
                digest.update(block)
        else:
            digest.update(handle.read(1 << 20))
            handle.seek(-(1 << 20), 2)
            digest.update(handle.read())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
