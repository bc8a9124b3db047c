"""A tuned model on disk, proved whole before anything that it could be made from again is removed.

Enters: a trainer after its last step, on every rank. Leaves: `model/` in full (gathered from all ranks where they hold
shards), the tokenizer with the chat form it was tuned in, and `train.json`. The proof reads headers alone, so that it is
cheap for 70B: every file parses to its end, every parameter that the config asks for is there in its shape.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import Trainer

from paydirt.core.artifacts import write_atomic
from paydirt.data.encoding import Encoder
from paydirt.data.jinja import jinja_of
from paydirt.models.load import is_adapter, saves_embeddings
from paydirt.training.watch import LOSS

Shapes = dict[str, tuple[int, ...]]


def save_trained(
    part: Path, trainer: Trainer, encoder: Encoder, adapter: Shapes | None, keep_checkpoints: bool
) -> None:
    """Write `part/model` from all ranks together and prove it on rank 0; raises ValueError where it is not whole.

    `adapter` holds the shapes that a LoRA adapter must have, None after full training. The checkpoints go last.
    """
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        plugin.set_state_dict_type("FULL_STATE_DICT")  # of shards, `save_model` would write nothing
    trainer.save_model(str(part / "model"))  # every rank: gathering shards is work for all
    if trainer.is_world_process_zero():
        _save_tokenizer(part / "model", encoder)
        prove_whole(part / "model", adapter)
        log = trainer.state.log_history
        told: dict[str, Any] = {"steps": trainer.state.global_step, "history": [e for e in log if "loss" in e]}
        if looks := [e for e in log if LOSS in e]:
            told[LOSS] = looks
        text = json.dumps(told, indent=1, sort_keys=True)
        write_atomic(part / "train.json", text)
        if not keep_checkpoints:
            shutil.rmtree(part / "checkpoints", ignore_errors=True)
        for pickle in part.rglob("training_args.bin"):  # what config.yaml says, with paths of the run; nothing reads it
            pickle.unlink()
    trainer.accelerator.wait_for_everyone()  # rank 0 renames the directory, so the others must have left it


def _save_tokenizer(model: Path, encoder: Encoder) -> None:
    """The tokenizer with the chat form that the model was tuned in, whatever form it came with."""
    tokenizer = encoder.tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = jinja_of(encoder)
    try:
        tokenizer.save_pretrained(str(model))
    finally:
        tokenizer.chat_template = before  # others hold it too


def adapter_shapes(model: Any) -> Shapes | None:
    """Names and shapes of what PEFT saves of a LoRA model, before any wrapper cuts it up; None for a plain model."""
    from peft import PeftModel, get_peft_model_state_dict

    if not isinstance(model, PeftModel):
        return None
    saved = get_peft_model_state_dict(model, save_embedding_layers=saves_embeddings(model))
    return {name: tuple(value.shape) for name, value in saved.items()}


def prove_whole(model: Path, adapter: Shapes | None = None) -> None:
    """Raises ValueError, with the first fault, unless the saved model is complete by its files' headers."""
    found: Shapes = {}
    for file in sorted(model.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                found |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _broken(model, f"{file.name} cannot be read ({error})") from None
    if not found:
        here = sorted(p.name for p in model.iterdir()) if model.is_dir() else []
        raise _broken(model, f"no weights were written (only {', '.join(here) or 'nothing'})")
    if adapter is not None:
        if not is_adapter(str(model)):
            raise _broken(model, "adapter_config.json is missing")
        _compare(model, found, adapter)
        return
    from paydirt.models.load import missing_weights

    if lacking := missing_weights(str(model)):
        raise _broken(model, f"{len(lacking)} parameters are missing or of another shape, first {lacking[0]}")


def _compare(model: Path, found: Shapes, wanted: Shapes) -> None:
    for name, shape in wanted.items():
        if found.get(name) != shape:
            raise _broken(model, f"{name} should have shape {shape}, found {found.get(name, 'nothing')}")


def _broken(model: Path, fault: str) -> ValueError:
    return ValueError(
        f"{model}: the trained model was not saved whole: {fault}. Its checkpoints are kept beside it; let the launcher "
        "gather the weights (FSDP: use_orig_params with LoRA; DeepSpeed: stage3_gather_16bit_weights_on_model_save) and "
        "run the same command again, which continues from the last checkpoint"
    )
