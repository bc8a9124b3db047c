"""Models that a scorer tunes for itself, kept as shared artifacts: made once, used by every study that needs the same.

Perplexity tunes its selector on the references; gradient influence warms one up on a random share of the pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import Artifact, build, fingerprint
from paydirt.data.encoding import Encoded, Encoder
from paydirt.models.load import ModelConfig, model_identity
from paydirt.training.config import VERSION, TrainConfig
from paydirt.training.launcher import refuse_launcher


def tuned_model(
    shared: Path,
    purpose: str,
    model: ModelConfig,
    encoder: Encoder,
    examples: Sequence[Encoded],
    ids: Sequence[str],
    config: TrainConfig,
    seed: int,
    convention: str,
) -> Artifact:
    """The model tuned on `examples`, whose `ids` identify them; found where it was tuned before.

    The artifact holds `model/`, and `checkpoints/` when the config keeps them. Raises ValueError under a launcher.
    """
    refuse_launcher(f"tuning a model for a score ({purpose})")
    who = model_identity(model)
    inputs = {
        "model": who["weights"],
        "encoder": encoder.fingerprint,
        "examples": examples_fingerprint(examples, ids),
    }
    training = {"training": config.to_dict(), "seed": seed}
    identity = {**training, "model": who, "version": VERSION}
    settings: dict[str, Any] = {"purpose": purpose, "model": model.to_dict(), **training}

    def make(part: Path) -> dict[str, Any]:
        from paydirt.training.train import train_model

        return train_model(part, model, encoder, examples, config, seed=seed, convention=convention)

    place = shared / "tuned" / f"{purpose}-{fingerprint([inputs, identity])}"
    return build(place, "tune", settings, inputs, make, identity)


def examples_fingerprint(examples: Sequence[Encoded], ids: Sequence[str]) -> str:
    """Every id, token and mask in order: references may change under the same ids, and a mask under the same tokens."""
    digest = hashlib.sha256()
    for id, example in zip(ids, examples, strict=True):
        digest.update(fingerprint([id, len(example.ids)]).encode())
        digest.update(example.ids.astype("<i8").tobytes() + example.supervised.astype("u1").tobytes())
    return digest.hexdigest()[:16]
