"""Hidden states: a text as the mean of a model's last hidden states, later tokens weighing more (RDS+)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from paydirt.columns.reading import Reading
from paydirt.columns.spec import Block


class Hidden(Reading):
    """Unit vectors float32 [n, hidden]: position t of T weighted by t (arXiv 2503.01807, section 3)."""

    name: ClassVar[str] = "hidden"

    def open(self, folder: Path) -> HiddenWorker:
        return HiddenWorker(self)


class HiddenWorker:
    """The model, read once; `means` serves references too."""

    def __init__(self, spec: Hidden) -> None:
        from paydirt.models.forward import HiddenMeans
        from paydirt.models.load import load_model

        self.tokens = spec.tokens.open()
        model = load_model(spec.model)
        self.device = str(model.device)
        self.means = HiddenMeans(model, spec.pad_id, spec.token_budget)

    def __call__(self, rows: np.ndarray) -> Block:
        examples = [self.tokens[int(row)] for row in rows]
        vectors, flops = self.means(examples)
        return Block({"vectors": vectors}, flops, np.asarray([len(e.ids) for e in examples], dtype=np.int64))
