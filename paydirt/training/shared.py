"""Models that a scorer tunes for itself, kept as shared artifacts: made once, used by every study that needs the same.

Perplexity tunes its selector on the references; gradient influence warms one up on a random share of the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paydirt.artifacts import Artifact, build, fingerprint
from paydirt.data.encoding import Encoded, Encoder
from paydirt.models.load import ModelConfig, model_fingerprint
from paydirt.training.config import TrainConfig


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

    The artifact holds `model/`, and `checkpoints/` when the config keeps them.
    """
    inputs = {
        "model": model_fingerprint(model.path),
        "encoder": encoder.fingerprint,
        "examples": fingerprint([ids, [e.ids.tolist() for e in examples[:8]]]),
    }
    identity = {"training": config.to_dict(), "seed": seed, "dtype": model.dtype}
    settings: dict[str, Any] = {"purpose": purpose, "model": model.to_dict(), **identity}

    def make(part: Path) -> dict[str, Any]:
        from paydirt.training.train import train_model

        return train_model(part, model, encoder, examples, config, seed=seed, convention=convention)

    place = shared / "tuned" / f"{purpose}-{fingerprint([inputs, identity])}"
    return build(place, "tune", settings, inputs, make, identity)
