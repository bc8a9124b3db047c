"""Tangents: how a text's state after the first blocks moves with the selector's weights (see `gradients.tangents`)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from paydirt.columns.reading import Reading
from paydirt.columns.spec import Block


class Tangents(Reading):
    """Vectors float32 [n, min(k, directions x hidden)]: the embeddings of influence distillation (arXiv 2505.19051)."""

    name: ClassVar[str] = "tangents"

    blocks: int = 4
    directions: int = 2
    k: int = 4096
    seed: int = 0

    def open(self, folder: Path) -> TangentWorker:
        return TangentWorker(self)


class TangentWorker:
    """The first blocks, read once."""

    def __init__(self, spec: Tangents) -> None:
        from paydirt.gradients.tangents import LastTangents
        from paydirt.models.load import load_model

        self.tokens = spec.tokens.open()
        eager = spec.model.model_copy(update={"attention": "eager"})  # fused attention has no forward mode
        self.read = LastTangents(
            load_model(eager), spec.pad_id, spec.blocks, spec.directions, spec.k, spec.seed, spec.token_budget
        )
        self.device = str(self.read.device)

    def __call__(self, rows: np.ndarray) -> Block:
        examples = [self.tokens[int(row)] for row in rows]
        vectors, flops = self.read(examples)
        return Block({"vectors": vectors}, flops, np.asarray([len(e.ids) for e in examples], dtype=np.int64))
