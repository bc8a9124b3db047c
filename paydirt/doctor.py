"""`paydirt doctor`: what this machine has, and whether per-example gradients are right on the user's own model.

Compares the batched gradients with a plain loop over a few examples, for each attention backend and precision asked for,
and says which one breaks them.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import MANIFEST, cache_root, open_artifact, versions

EXAMPLES = (
    ("What is the capital of France?", "Paris."),
    ("Add 2 and 3.", "5"),
    ("Name three colours.", "Red, green and blue are three colours."),
    ("Write a short sentence about the sea.", "The sea was calm that morning, and the boats lay still."),
)
OPTIONAL = {"bitsandbytes": "8-bit and 4-bit models", "lm_eval": "standard benchmarks", "datasketch": "deduplication"}


def machine() -> Iterator[str]:
    """Lines about versions, processor, memory, GPUs and optional packages."""
    import torch

    yield ", ".join(f"{k} {v}" for k, v in versions().items())
    yield f"{platform.platform()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        yield f"cuda:{i} {facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        yield "no CUDA device: models run on the CPU"
    cache = cache_root()
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    yield f"cache {cache}, {free / 2**30:.0f} GiB free"
    for package, purpose in OPTIONAL.items():
        found = importlib.util.find_spec(package) is not None
        yield f"{package}: {'installed' if found else 'missing'} ({purpose})"


def check_artifact(path: Path) -> list[str]:
    """That an artifact is as it was written, byte for byte; nothing where `path` is none. ValueError names damage."""
    if not (path / MANIFEST).is_file():
        return []
    artifact = open_artifact(path).check(contents=True)
    outputs = artifact.manifest["outputs"]
    return [f"{path}: {len(outputs)} files of stage {artifact.manifest['stage']}: every byte is as it was written"]


def check_gradients(model: str, lora: bool, dtypes: list[str], attentions: Sequence[str | None]) -> Iterator[str]:
    """One line a combination of precision and attention backend: the largest relative error against the loop."""
    from paydirt.core.types import Message
    from paydirt.data.encoding import Encoder, EncodingConfig
    from paydirt.models.load import LoraSpec, ModelConfig, attach_lora, is_adapter, load_model, load_tokenizer

    encoder = Encoder(load_tokenizer(ModelConfig(path=model)), EncodingConfig(max_length=256))
    encoded = encoder.encode_batch([[Message("user", q), Message("assistant", a)] for q, a in EXAMPLES])
    for dtype in dtypes:
        for attention in attentions:
            name = f"{dtype}, attention {attention or 'default'}"
            try:
                config = ModelConfig.model_validate({"path": model, "dtype": dtype, "attention": attention})
                loaded = load_model(config, train_adapter=True)
                if lora and not is_adapter(model):
                    loaded = attach_lora(loaded, LoraSpec(r=8, alpha=16, dropout=0), seed=0).eval()
                    _shake(loaded)
                yield f"{name}: {_compare(loaded, encoded)}"
            except (ValueError, ImportError, RuntimeError) as error:
                yield f"{name}: cannot run ({str(error).splitlines()[0][:150]})"


def _shake(model: Any) -> None:
    """Fresh LoRA has B = 0, which hides mistakes in the gradient of A."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data += noise.to(parameter.device, parameter.dtype)


def _compare(model: Any, encoded: Any) -> str:
    from paydirt.gradients.batches import gradient_batch
    from paydirt.gradients.plain import check_model

    report = check_model(model, [gradient_batch(encoded, model.device)])
    verdict = "right" if report.passed() else "WRONG: do not select by gradients with this combination"
    return f"{verdict}, largest relative error {report.worst:.1e}"
