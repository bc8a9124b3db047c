"""Examples in, projected gradient features [n, k] out: batches, gradients, directions and projection joined.

`Features` prepares a model once per checkpoint; calling it with the examples of one shard gives their features in the
order of the examples. Gradients pass through in slabs that fit the cache: a slab is turned into the optimizer's
direction and projected at once, for every projection asked for.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor, nn

from paydirt.core.progress import advance
from paydirt.data.batches import Shape, fixed_shapes, sent
from paydirt.data.encoding import Encoded
from paydirt.gradients.batches import GradientBatch, gradient_batch
from paydirt.gradients.directions import NEEDS_MOMENTS, AdamSettings, find_direction
from paydirt.gradients.moments import Moments
from paydirt.gradients.per_example import POSITIONS, Consume, PerExample, UsedTwice, clean_name, trainable
from paydirt.gradients.plain import example_gradients
from paydirt.gradients.projection import Projection
from paydirt.gradients.taps import Unsupported

log = logging.getLogger(__name__)
_SLAB = {"cpu": 1 << 19, "cuda": 1 << 27}  # gradient entries handled at a time: what a CPU caches, a share of a GPU


class Features:
    """Per-example gradient features of one model at one checkpoint; use as a context manager.

    `direction` is a name in `directions.DIRECTIONS`; the Adam ones need `moments`. `projections` may hold several
    (several k in one pass). `token_budget` bounds B x T of a batch, padding included; it decides the last bits of rows, so
    a device on which such a batch does not fit recomputes activations rather than cut it (`recomputed`). Where batched
    gradients are not possible for the model, a slow loop takes over and says so, unless `allow_slow` is False (then
    `Unsupported`).
    """

    def __init__(
        self,
        model: nn.Module,
        projections: Projection | Sequence[Projection],
        direction: str = "sgd",
        moments: Moments | None = None,
        token_budget: int = 2048,
        merge: bool = True,
        allow_slow: bool = True,
    ) -> None:
        if direction in NEEDS_MOMENTS and moments is None:
            raise ValueError(f"direction {direction!r} needs the optimizer's moments; load them, or choose 'sgd'")
        self.model, self.token_budget, self.merge, self.allow_slow = model, token_budget, merge, allow_slow
        self.projections = [projections] if isinstance(projections, Projection) else list(projections)
        self.direction, self.direction_name = find_direction(direction), direction
        self.device = next(iter(trainable(model).values())).device
        self.sizes = {clean_name(name): p.numel() for name, p in trainable(model).items()}
        self.adam = moments.settings if moments is not None else AdamSettings()
        self._moments_digest = moments.digest if moments is not None else str
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        if direction in NEEDS_MOMENTS:
            assert moments is not None
            moments.check({clean_name(name): tuple(p.shape) for name, p in trainable(model).items()})
            for name in self.sizes:
                pair = (moments.first[name], moments.second[name])
                first, second = (t.flatten().to(self.device, torch.float32) for t in pair)
                self.moments[name] = first, second
        self.runner: PerExample | None = None
        self.recomputed = False  # whether memory was too small to keep activations
        self._stack = contextlib.ExitStack()

    @property
    def parameters(self) -> int:
        """Trainable parameters: the dimension before projection."""
        return sum(self.sizes.values())

    @property
    def dtype(self) -> str:
        """The model's compute dtype, by name."""
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    def direction_settings(self) -> dict[str, object]:
        """Constants of an optimizer's direction and a digest of its moments: what else decides the rows."""
        return {**asdict(self.adam), "moments": self._moments_digest()} if self.moments else {}

    def __enter__(self) -> Features:
        try:
            self.runner = self._stack.enter_context(PerExample(self.model, self.merge))
        except Unsupported as error:
            self._fall_back(error)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self.runner = None

    def __call__(
        self, examples: Sequence[Encoded], alone: bool = False, names: Sequence[str] | None = None
    ) -> list[Tensor]:
        """Features [n, k] float32 on the CPU, one tensor per projection, rows in the order of `examples`.

        A row's bytes depend on its example alone, since that decides the shape of its batch (`fixed_shapes`). With
        `alone`, examples come one by one and nothing is padded, which is what their FLOPs are counted on. `names` are
        what warnings call them by.
        """
        found = [torch.zeros(len(examples), projection.k, device=self.device) for projection in self.projections]
        lengths = [len(example.ids) for example in examples]
        most = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        shapes = fixed_shapes(lengths, self.token_budget, most)
        if alone:
            shapes = [Shape(np.asarray([row]), length, 1) for row, length in enumerate(lengths)]
        if self.runner is not None:
            self.runner.positions = 0 if alone else POSITIONS
        for shape in shapes:
            batch = gradient_batch([examples[row] for row in shape.filled], self.device, width=shape.width)
            rows = sent(torch.from_numpy(shape.rows), self.device)
            for features, part in zip(found, self._batch(batch, len(shape.rows)), strict=True):
                features.index_copy_(0, rows, part[: len(shape.rows)])
            advance(len(shape.rows))
        out = [features.cpu() for features in found]  # the only wait for the device
        for row in torch.stack([~features.isfinite().all(1) for features in out]).any(0).nonzero()[:, 0].tolist():
            log.warning("example %r has a non-finite gradient; its features are set to 0", names[row] if names else row)
            for features in out:
                features[row] = 0
        return out

    def _batch(self, batch: GradientBatch, wanted: int) -> list[Tensor]:
        """Features [B, k] of a batch, of whose rows `wanted` count."""
        while self.runner is not None:
            sums, full = self._begin(batch.size), ""
            try:
                self.runner.run(batch, self._adder(sums))
                return self._finish(sums)
            except torch.OutOfMemoryError as error:
                full = str(error) or "out of memory"  # the error itself holds on to the pass
            except UsedTwice as error:
                self.runner.hold_back(error)
            except Unsupported as error:
                self._stack.close()
                self._fall_back(error)
            if full:
                self._recompute_activations(batch, full)
        sums = self._begin(batch.size)
        for row in range(wanted):
            for name, gradient in example_gradients(self.model, batch, row).items():
                self._add(sums, name, row, row + 1, gradient.reshape(1, -1))
        return self._finish(sums)

    def _recompute_activations(self, batch: GradientBatch, full: str) -> None:
        """From here on the backward pass makes activations anew instead of keeping them: less memory, the same bytes.

        A smaller batch would change the last bits of its rows. ValueError where even this does not fit, or the model
        cannot do it.
        """
        switch = "activation" if hasattr(self.model, "activation_checkpointing_enable") else "gradient"  # v5 renames it
        on = any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())
        if on or not hasattr(self.model, f"{switch}_checkpointing_enable"):
            raise ValueError(
                f"gradients of a batch of {batch.size} x {batch.length} tokens do not fit on {self.device}, even where "
                f"activations are not kept ({full.splitlines()[0][:200]}); lower token_budget or max_tokens, or load the "
                "model in bfloat16, 8 or 4 bits"
            )
        log.warning("%s: activations of %d x %d tokens do not fit and are recomputed", self.device, *batch.labels.shape)
        self._stack.close()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        getattr(self.model, f"{switch}_checkpointing_enable")()
        self.recomputed = True
        self._stack.callback(getattr(self.model, f"{switch}_checkpointing_disable"))
        self.runner = self._stack.enter_context(PerExample(self.model, self.merge))

    def _begin(self, size: int) -> list[Tensor]:
        return [projection.begin(size, self.device) for projection in self.projections]

    def _finish(self, sums: list[Tensor]) -> list[Tensor]:
        return [projection.finish(s) for projection, s in zip(self.projections, sums, strict=True)]

    def _adder(self, sums: list[Tensor]) -> Consume:
        return lambda name, lo, hi, gradient: self._add(sums, name, lo, hi, gradient)

    def _add(self, sums: list[Tensor], name: str, lo: int, hi: int, gradient: Tensor) -> None:
        """Direction and projection of one parameter's gradients [hi - lo, numel], slab by slab."""
        size = self.sizes[name]
        step = max(1, _SLAB.get(gradient.device.type, 1 << 20) // (hi - lo))
        first, second = self.moments.get(name, (gradient, gradient))
        for start in range(0, size, step):
            slab = gradient[:, start : start + step].to(self.device, torch.float32)
            part = slice(start, start + step)
            slab = self.direction(slab, first[part], second[part], self.adam)
            for projection, s in zip(self.projections, sums, strict=True):
                projection.add(s[lo:hi], slab, name, start, size)

    def _fall_back(self, error: Unsupported) -> None:
        if not self.allow_slow:
            raise error
        log.warning("SLOW PATH: one example at a time through the whole model, because %s", error)
        self.runner = None
