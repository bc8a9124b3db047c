"""Losses of single tokens under a model: of supervised tokens, of all, or of answers without their prompts."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from paydirt.columns.reading import Reading
from paydirt.columns.spec import Block, Ragged
from paydirt.columns.store import PoolColumn
from paydirt.data.batches import width_of
from paydirt.data.encoding import Encoded

MOST_KNOWN = 2000  # rows that tell what others cost


class Losses(Reading):
    """Negative log-likelihood in nats of each token that counts, by `of`; `known` tells which those are."""

    name: ClassVar[str] = "losses"

    of: Literal["supervised", "all", "answers"] = "supervised"

    def open(self, folder: Path) -> LossWorker:
        return LossWorker(self)


class LossWorker:
    """The model, read once."""

    def __init__(self, spec: Losses) -> None:
        from paydirt.models.forward import TokenLosses
        from paydirt.models.load import load_model

        self.of, self.tokens = spec.of, spec.tokens.open()
        model = load_model(spec.model)
        self.device = str(model.device)
        window = int(getattr(model.config, "max_position_embeddings", 0) or 0) or None
        self.losses = TokenLosses(model, spec.pad_id, spec.token_budget, window)

    def __call__(self, rows: np.ndarray) -> Block:
        examples = [scored(self.tokens[int(row)], self.of) for row in rows]
        losses, flops = self.losses(examples)
        tokens = np.asarray([len(e.ids) for e in examples], dtype=np.int64)
        values: dict[str, np.ndarray | Ragged] = {"losses": Ragged.of(losses)}
        if self.of == "all":  # what the supervised tokens alone would have taken: who reads only those pays only that
            supervised = np.asarray([self.tokens[int(row)].n_supervised for row in rows], dtype=np.int64)
            rest = np.asarray([len(part) for part in losses], dtype=np.int64) - supervised
            less = flops - rest * self.losses.logit_flops
            values["supervised_flops"] = np.where(supervised > 0, less, 0)
        return Block(values, flops, tokens)


def scored(example: Encoded, of: str) -> Encoded:
    """The example with the tokens supervised that count."""
    if of == "all":
        return Encoded(example.ids, np.ones(len(example.ids), dtype=bool))
    return answer_alone(example) if of == "answers" else example


def answer_alone(example: Encoded) -> Encoded:
    """The supervised tokens after the first token, which stands for the beginning of a text."""
    kept = np.flatnonzero(example.supervised[1:]) + 1
    ids = np.concatenate([example.ids[:1], example.ids[kept]])
    mask = np.ones(len(ids), dtype=bool)
    mask[0] = False
    return Encoded(ids, mask)


def known_costs(column: PoolColumn, rows: np.ndarray) -> np.ndarray | None:
    """FLOPs [n] that `rows` cost in a column of losses, computed or not; None where the rows that are there do not tell.

    A row costs a x tokens + b x tokens x padded length + c x supervised tokens, whole numbers but for a rounding: what is
    there gives a, b and c, and must agree with them to a thousandth. Attention over windows, and texts longer than the
    model's positions, do not.
    """
    spec = column.spec
    assert isinstance(spec, Losses)
    there = np.flatnonzero(column.present(np.arange(len(column))))
    if len(there) < 4 or spec.of == "answers":
        return None
    there = there[np.unique(np.linspace(0, len(there) - 1, MOST_KNOWN).astype(int))]
    tokens = spec.tokens.open()

    def terms(some: np.ndarray) -> np.ndarray:
        lengths = np.asarray(tokens.lengths[some], dtype=np.float64)
        widths = np.asarray([width_of(int(n)) for n in lengths], dtype=np.float64)
        answers = np.asarray(tokens.supervised_lengths[some], dtype=np.float64)
        counted = answers if spec.of == "supervised" else lengths - 1
        read = (counted > 0)[:, None]  # an example without a token that counts costs nothing
        return np.stack([lengths, lengths * widths, counted], axis=1) * read

    known, flops = terms(there), column.flops(there).astype(np.float64)
    scale = np.maximum(known.max(axis=0), 1.0)
    weights, _, rank, _ = np.linalg.lstsq(known / scale, flops, rcond=None)
    if rank < 3 or not np.allclose(known / scale @ weights, flops, rtol=1e-3, atol=1.0):
        return None
    return np.ceil(np.maximum(terms(rows) / scale @ weights, 0.0) * (1 + 1e-3))
