"""How a text's state moves when a model's weights move: forward-mode derivatives of its first blocks, one pass a direction.

Enters: a decoder and encoded examples. Leaves: for each example the derivative, along random directions of all weights of
the embeddings, the first blocks and the last norm, of the normed state at its last token; `directions` of them side by
side, projected where they are wider than asked for. The embeddings of influence distillation (arXiv 2505.19051; METHODS
section 8), as its authors' code has them: 4 blocks, 2 directions of standard normal numbers, 4,096 wide. A direction costs
three forward passes of those blocks (the products of states and weights, and of each with the other's derivative), and
is held beside the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from paydirt.data.batches import collate, fixed_shapes
from paydirt.data.encoding import Encoded
from paydirt.gradients import hashing
from paydirt.gradients.projection import Projection
from paydirt.models.forward import Pass


class LastTangents(Pass):
    """Vectors float32 [n, min(k, directions x hidden)], each of its own example alone; the model loses its other blocks."""

    def __init__(
        self, model: Any, pad_id: int, blocks: int, directions: int, k: int, seed: int, token_budget: int = 4096
    ) -> None:
        decoder = model.get_decoder()
        keep_first(decoder, blocks)
        super().__init__(decoder, pad_id, token_budget)
        self.weights = {name: value.detach() for name, value in decoder.named_parameters()}
        if fixed := [name for name, value in self.weights.items() if not value.is_floating_point()]:
            raise ValueError(
                f"jvp: {fixed[0]} is quantised, and whole numbers have no derivative; give a selector without quantization"
            )
        self.directions = [_direction(self.weights, seed, number) for number in range(directions)]
        self.k, self.projection = k, Projection(k, seed=seed)

    def __call__(self, examples: Sequence[Encoded]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors, and FLOPs int64 [n]."""
        rows: list[Any] = [None] * len(examples)
        flops = np.zeros(len(examples), dtype=np.int64)
        lengths = [len(e.ids) for e in examples]
        for shape in fixed_shapes(lengths, self.token_budget, self.most):
            batch = collate([examples[i] for i in shape.filled], self.pad_id, shape.width)
            ends = batch.attention_mask.sum(dim=1).to(self.device) - 1
            found = self._projected(self._one(batch.input_ids.to(self.device), ends))
            for row, vector in zip(shape.rows, found.cpu().numpy()):
                rows[row] = vector
                flops[row] = self.row_flops(shape.width, lengths[row])
        return np.stack(rows), flops

    @torch.no_grad()
    def _one(self, ids: torch.Tensor, ends: torch.Tensor | None = None) -> Any:
        """Derivatives [B, directions x hidden] at positions `ends` [B]."""
        last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device) if ends is None else ends
        rows = torch.arange(len(ids), device=ids.device)

        def states(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            read = {"input_ids": ids, "use_cache": False}
            return torch.func.functional_call(self.model, weights, (), read).last_hidden_state[rows, last]

        found = [torch.func.jvp(states, (self.weights,), (d,))[1] for d in self.directions]
        return torch.cat(found, dim=1).float()

    def _projected(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[1] <= self.k:
            return rows
        sums = self.projection.begin(len(rows), rows.device)
        self.projection.add(sums, rows, "tangents", 0, rows.shape[1])
        return self.projection.finish(sums)


def _direction(weights: dict[str, torch.Tensor], seed: int, number: int) -> dict[str, torch.Tensor]:
    """Standard normal numbers for every weight, by its name: the same on every device."""
    out = {}
    for name, value in weights.items():
        draw = torch.Generator().manual_seed(hashing.key_of("tangent", seed, number, name) % (1 << 63))
        out[name] = torch.randn(value.shape, generator=draw).to(value.device, value.dtype)
    return out


def keep_first(decoder: Any, blocks: int) -> None:
    """Leave the decoder its first `blocks` blocks; ValueError where it has no list of them."""
    deep = decoder.config.num_hidden_layers
    for name, inner in decoder.named_children():
        if isinstance(inner, torch.nn.ModuleList) and len(inner) == deep:
            setattr(decoder, name, inner[:blocks])
            return
    raise ValueError(f"{type(decoder).__name__}: has no list of {deep} blocks to take the first {blocks} of")
