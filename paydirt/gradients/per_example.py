"""Gradients of each example's own loss from one batched forward and backward, parameter by parameter.

A batch goes in; `consume(name, lo, hi, gradient)` is called with [hi - lo, numel] for every trainable parameter and
every stretch of examples, while the backward pass runs, so that [B, all parameters] never exists. An example's loss
is the mean cross-entropy (nats) over its supervised tokens; the model runs without dropout.

Nothing is skipped in silence: a trainable parameter whose gradient reaches autograd by another way than its tap
raises `Unsupported`, and one that no gradient reached is reported once. Callers that prefer slow to nothing use
`plain.example_gradients`, which `features.Features` does, loudly.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paydirt.gradients.batches import GradientBatch
from paydirt.gradients.taps import GradientOf, Layout, LoraTap, Tap, Unsupported, lora_adapter, make_tap
from paydirt.models.waits import no_packed_rows

log = logging.getLogger(__name__)

POSITIONS = 128  # logits computed at a time

Consume = Callable[[str, int, int, Tensor], None]
"""Parameter name, examples [lo, hi), their gradients [hi - lo, numel] in the compute dtype, free to overwrite."""


class PerExample:
    """A causal language model made ready to yield per-example gradients; a context manager that leaves it unchanged.

    `merge` runs LoRA layers on merged copies of their weights (faster, costs a copy of the adapted weights).
    `max_elements` bounds one gradient tensor [b, numel] handed to the consumer.
    """

    def __init__(self, model: nn.Module, merge: bool = True, max_elements: int = 1 << 25) -> None:
        self.model, self.merge, self.max_elements = model, merge, max_elements
        self.names = {id(p): clean_name(name) for name, p in trainable(model).items()}
        half = any(p.dtype == torch.float16 for p in model.parameters())
        self.scale = 1024.0 if half else 1.0  # small gradients vanish in float16; a power of two loses nothing
        self.layout = Layout()
        self.taps: list[Tap] = []
        self._stack = contextlib.ExitStack()
        self._shared: set[int] = set()
        self._held: dict[int, tuple[nn.Parameter, list[GradientOf]]] = {}
        self._seen: set[int] = set()
        self._consume: Consume | None = None
        self._checked = False
        self.positions = POSITIONS

    def __enter__(self) -> PerExample:
        with contextlib.ExitStack() as stack:
            stack.enter_context(frozen_behaviour(self.model))
            stack.enter_context(no_packed_rows())
            stack.enter_context(_without_grads(self.model))
            self.head = self._find_head()
            if self.head is not None:
                if not any(p.requires_grad for child in self.head.children() for p in child.parameters()):
                    # else taps inside the head would see its pieces
                    stack.callback(self.head.__dict__.pop, "forward", None)
                    self.head.forward = self._by_positions(self.head.forward)  # type: ignore[method-assign]
                stack.callback(self.head.register_forward_pre_hook(self._select).remove)
            stack.callback(self._remove_taps)
            self._add_taps()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, batch: GradientBatch, consume: Consume) -> Tensor:
        """Feed every parameter's gradients to `consume`; returns the losses [B] in nats (float32).

        `consume` may be called again from the start of the batch, should a parameter turn out to be used twice in one
        pass, so it must add to something that `batch` resets: see `features`.
        """
        self._consume = consume
        self._held, self._seen = {}, set()
        self.layout.size, self.layout.length = batch.size, batch.length
        self.layout.counts, self._places = batch.counts, batch.places
        losses = self._losses(batch)
        (losses.sum() * self.scale).backward()  # type: ignore[no-untyped-call]
        for parameter, uses in self._held.values():
            self._emit(parameter, uses)
        self._held = {}
        self._check()
        return losses.detach()

    def _losses(self, batch: GradientBatch) -> Tensor:
        """Mean cross-entropy of each example, [B]; logits exist only at supervised positions where a head is known."""
        logits = self.model(input_ids=batch.input_ids, use_cache=False).logits
        packed = logits[0] if self.head is not None else self._scored(logits)
        targets = batch.labels.flatten()[batch.places].to(packed.device)  # a spread model ends on another device
        nll = F.cross_entropy(packed.float(), targets, reduction="none").to(batch.labels.device)
        rows = batch.places // batch.length
        return torch.zeros(batch.size, device=nll.device).index_add(0, rows, nll) / batch.supervised

    def _by_positions(self, whole: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The output head for `positions` rows at a time: one shape of product, whoever shares the batch."""

        def some(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not self.positions or hidden.shape[0] != 1:
                return whole(hidden, *args, **kwargs)
            rows = hidden.shape[1]
            padded = F.pad(hidden, (0, 0, 0, -rows % self.positions))
            return torch.cat([whole(part, *args, **kwargs) for part in padded.split(self.positions, 1)], 1)[:, :rows]

        return some

    def _find_head(self) -> nn.Module | None:
        get = getattr(self.model, "get_output_embeddings", None)
        return get() if get is not None else None

    def _select(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the rows that predict a supervised token, packed as [1, n, d] in example order."""
        hidden = args[0]
        shape = (self.layout.size, self.layout.length)
        if hidden.shape[:2] != shape:
            raise Unsupported(f"the output head sees {tuple(hidden.shape)}, not [batch, tokens] {shape}")
        return (self._scored(hidden).unsqueeze(0), *args[1:])

    def _scored(self, x: Tensor) -> Tensor:
        """The positions of x [B, T, d] that predict a supervised token, [n, d] in example order."""
        return x.flatten(0, 1).index_select(0, self._places.to(x.device))

    def _add_taps(self) -> None:
        behind_head = {id(m) for m in self.head.modules()} if self.head is not None else set()
        owners: dict[int, int] = {}
        done: set[int] = set()
        for name, module in self.model.named_modules():
            if id(module) in done:
                continue
            packed = id(module) in behind_head
            if not any(p.requires_grad for p in module.parameters()):
                continue  # a frozen adapter too: a tap would carry the backward pass below what is asked for
            if lora_adapter(module) is not None:
                tap: Tap = LoraTap(name, module, self.layout, packed, self._receive, self.merge)
                done.update(id(m) for m in module.modules())
            elif any(p.requires_grad for p in module.parameters(recurse=False)):
                tap = make_tap(name, module, self.layout, packed, self._receive)
            else:
                continue
            self.taps.append(tap)
            for p in tap.parameters:
                owners[id(p)] = owners.get(id(p), 0) + 1
        self._shared |= {key for key, count in owners.items() if count > 1}

    def _remove_taps(self) -> None:
        for tap in self.taps:
            tap.remove()
        self.taps = []

    def _receive(self, parameter: nn.Parameter, gradient: GradientOf) -> None:
        """Called by a tap during backward: hand on at once, or hold back if the parameter has several uses."""
        key = id(parameter)
        if key in self._shared:
            self._held.setdefault(key, (parameter, []))[1].append(gradient)
        elif key in self._seen:
            raise UsedTwice(key, self.names[key])
        else:
            self._emit(parameter, [gradient])
        self._seen.add(key)

    def _emit(self, parameter: nn.Parameter, uses: list[GradientOf]) -> None:
        assert self._consume is not None
        step = max(1, self.max_elements // parameter.numel())
        for lo in range(0, self.layout.size, step):
            hi = min(lo + step, self.layout.size)
            gradient = uses[0](lo, hi)
            for use in uses[1:]:
                gradient = gradient + use(lo, hi)
            if self.scale != 1:
                gradient = gradient.float() / self.scale
            self._consume(self.names[id(parameter)], lo, hi, gradient.flatten(1))

    def hold_back(self, error: UsedTwice) -> None:
        """After `UsedTwice`: sum this parameter's uses before handing it on; then run the batch again."""
        self._shared.add(error.key)

    def _check(self) -> None:
        for name, p in trainable(self.model).items():
            if p.grad is not None:
                raise Unsupported(f"parameter {name!r} is used outside the module that owns it")
        if not self._checked:
            idle = sorted(name for key, name in self.names.items() if key not in self._seen)
            if idle:
                log.warning("%d trainable parameters got no gradient and count as zero: %s", len(idle), idle[:5])
            self._checked = True


class UsedTwice(RuntimeError):
    """A parameter met the data twice in one pass, which its owners did not show beforehand."""

    def __init__(self, key: int, name: str) -> None:
        super().__init__(f"parameter {name!r} is used more than once in a forward pass")
        self.key = key


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name, tied ones once; raises ValueError when there are none."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError("no parameter of the model requires gradients; attach a LoRA adapter or unfreeze weights")
    return found


def clean_name(name: str) -> str:
    """A parameter's name without what wrappers add (DDP, FSDP, torch.compile, checkpointing, PEFT's adapter name)."""
    for wrapper in ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."):
        name = name.replace(wrapper, "")
    name = name.removeprefix("module.")
    return name.replace(".default.weight", ".weight") if ".lora_" in name else name


@contextlib.contextmanager
def frozen_behaviour(model: nn.Module) -> Iterator[None]:
    """Eval mode (no dropout), yet with gradient checkpointing where the model has it on, in its non-reentrant form.

    transformers checkpoints a layer only while that layer is `training`; the flag is set on the layer alone, so the
    dropout inside it stays off.
    """
    modes = [(module, module.training) for module in model.modules()]
    checkpointed: list[Any] = [m for m in model.modules() if "_gradient_checkpointing_func" in vars(m)]
    functions = [(m, m._gradient_checkpointing_func) for m in checkpointed]
    model.eval()
    for module, _ in functions:
        if getattr(module, "gradient_checkpointing", False):
            module._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
            module.training = True
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, function in functions:
            module._gradient_checkpointing_func = function


@contextlib.contextmanager
def _without_grads(model: nn.Module) -> Iterator[None]:
    """Set the user's `.grad` aside and give it back."""
    kept = [(p, p.grad) for p in model.parameters()]
    for p, _ in kept:
        p.grad = None
    try:
        yield
    finally:
        for p, grad in kept:
            p.grad = grad
