"""Taps: where a trainable parameter meets the data, and how one example's gradient is formed there.

A tap stands behind a module that owns trainable parameters. Forward, the module runs with its parameters detached, so
autograd computes no summed weight gradient; backward, the tap sees the module's input x and the gradient g of its
output and can form any example's gradient from the two (for a linear layer g^T x). x is kept through autograd's own
saved tensors, so gradient checkpointing drops and recomputes it like any other activation.

LoRA layers get one tap for both factors, with y = x (W + sBA)^T from a merged copy of the weight where the base is
plain (the merge saves half of the low-rank work), and s g^T (x A^T), s (g B)^T x as gradients of B and A. A quantised
base is called as it is. Source of the forms: the chain rule; measured against a loop in tests/gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

GradientOf = Callable[[int, int], Tensor]
"""Examples [lo, hi) of the batch -> their gradients [hi - lo, *parameter.shape]."""

Receive = Callable[[nn.Parameter, GradientOf], None]


class Unsupported(ValueError):
    """A trainable parameter is used in a way that batched per-example gradients cannot follow."""


@dataclass
class Layout:
    """Which rows of an activation belong to which example of the batch now running.

    Ordinary activations are [B, T, ...]. Behind the output head only supervised positions are left, packed as
    [1, n, ...] in example order, `counts` [B] rows each.
    """

    size: int = 0
    length: int = 0
    counts: tuple[int, ...] = ()

    def per_example(self, x: Tensor, packed: bool, name: str) -> list[Tensor] | Tensor:
        """x as [B, T, ...], or as a list of B tensors [1, n_b, ...] when packed."""
        if packed:
            return list(x.split(self.counts, dim=1))
        if x.shape[:2] != (self.size, self.length):
            raise Unsupported(
                f"module {name!r} works on a tensor {tuple(x.shape)}, not on [batch {self.size}, tokens {self.length}, "
                "...], so its examples cannot be told apart"
            )
        return x


class _Tap(torch.autograd.Function):
    """Identity on y; backward hands (x, g) to `handle`. `anchor` requires grad, so that backward always comes by."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, anchor: Tensor, handle: Callable[[Tensor, Tensor], None]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.handle = handle
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        with torch.no_grad():
            ctx.handle(ctx.saved_tensors[0], grads[0])
        return grads[0], None, None, None


def outer(g: list[Tensor] | Tensor, x: list[Tensor] | Tensor, lo: int, hi: int) -> Tensor:
    """sum_t g[b, t]^T x[b, t] for b in [lo, hi): [b, out] and [b, in] -> [hi - lo, out, in]."""
    if isinstance(g, list):
        return torch.stack([g[b].flatten(0, -2).T @ x[b].flatten(0, -2) for b in range(lo, hi)])
    assert isinstance(x, Tensor)
    return torch.bmm(g[lo:hi].flatten(1, -2).transpose(1, 2), x[lo:hi].flatten(1, -2))


def total(g: list[Tensor] | Tensor, lo: int, hi: int) -> Tensor:
    """sum_t g[b, t] for b in [lo, hi) -> [hi - lo, out]; float32, for a sum of many small terms."""
    if isinstance(g, list):
        return torch.stack([g[b].flatten(0, -2).float().sum(0) for b in range(lo, hi)])
    return g[lo:hi].flatten(1, -2).float().sum(1)


@contextlib.contextmanager
def _detached(module: nn.Module) -> Iterator[None]:
    """The module's own parameters without their gradient. A use of them anywhere else still shows up in `.grad`."""
    own = {name: p for name, p in module._parameters.items() if p is not None}
    try:
        module._parameters.update({name: p.detach() for name, p in own.items()})  # type: ignore[misc]
        yield
    finally:
        module._parameters.update(own)


class Tap:
    """One patched module. Subclasses say how gradients form; `receive` is called once per parameter and backward."""

    def __init__(self, name: str, module: Any, layout: Layout, packed: bool, receive: Receive) -> None:
        self.name, self.module, self.layout, self.packed, self.receive = name, module, layout, packed, receive
        self.original = module.forward
        self.parameters = [p for p in module.parameters(recurse=False) if p.requires_grad]
        self.anchor = torch.zeros(0, device=self.device, requires_grad=True)
        module.forward = self.forward

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def remove(self) -> None:
        del self.module.forward  # the instance attribute; the class's method shows again

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs:
            raise Unsupported(f"module {self.name!r} takes more than one input; only single-input modules are known")
        with _detached(self.module):
            y = self.original(x)
        return self.tap(y, x)

    def tap(self, y: Tensor, x: Tensor) -> Tensor:
        if not isinstance(y, Tensor):
            raise Unsupported(f"module {self.name!r} returns a {type(y).__name__}, not one tensor")
        return _Tap.apply(y, x.detach(), self.anchor, self.handle)  # type: ignore[no-untyped-call]

    def handle(self, x: Tensor, g: Tensor) -> None:
        raise NotImplementedError

    def split(self, x: Tensor) -> list[Tensor] | Tensor:
        return self.layout.per_example(x, self.packed, self.name)


class LinearTap(Tap):
    """nn.Linear (weight [out, in]) and GPT-2's Conv1D (weight [in, out])."""

    def handle(self, x: Tensor, g: Tensor) -> None:
        xs, gs = self.split(x), self.split(g)
        weight, bias = self.module.weight, self.module.bias
        if weight.requires_grad:
            transposed = isinstance(self.module, Conv1D)
            self.receive(weight, lambda lo, hi: outer(xs, gs, lo, hi) if transposed else outer(gs, xs, lo, hi))
        if bias is not None and bias.requires_grad:
            self.receive(bias, lambda lo, hi: total(gs, lo, hi))


class EmbeddingTap(Tap):
    """nn.Embedding; position embeddings, looked up once for the whole batch, are looked up once per example."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dim() == 1:
            x = x.unsqueeze(0)
        if x.shape == (1, self.layout.length):
            x = x.expand(self.layout.size, -1)
        return super().forward(x, *args, **kwargs)

    def handle(self, x: Tensor, g: Tensor) -> None:
        ids, gs = self.split(x), self.split(g)
        padding = self.module.padding_idx

        def gradient(lo: int, hi: int) -> Tensor:
            out = g.new_zeros((hi - lo, *self.module.weight.shape), dtype=torch.float32)
            for b in range(lo, hi):
                out[b - lo].index_add_(0, ids[b].flatten(), gs[b].flatten(0, -2).float())
            if padding is not None:
                out[:, padding] = 0
            return out

        self.receive(self.module.weight, gradient)


class LocalTap(Tap):
    """Any other leaf with one input and one output, norms above all: its own backward, one example at a time."""

    def handle(self, x: Tensor, g: Tensor) -> None:
        xs, gs = self.split(x), self.split(g)
        names = [name for name, p in self.module._parameters.items() if p is not None and p.requires_grad]

        def gradient(name: str) -> GradientOf:
            def of(lo: int, hi: int) -> Tensor:
                return torch.stack([self._one(name, xs[b], gs[b]) for b in range(lo, hi)])

            return of

        for name in names:
            self.receive(getattr(self.module, name), gradient(name))

    def _one(self, name: str, x: Tensor, g: Tensor) -> Tensor:
        if not self.packed:
            x, g = x.unsqueeze(0), g.unsqueeze(0)
        with torch.enable_grad(), _detached(self.module):
            leaf = self.module._parameters[name].requires_grad_()  # type: ignore[union-attr]
            return torch.autograd.grad(self.original(x), leaf, g)[0]


class LoraTap(Tap):
    """A PEFT LoRA layer with one plain active adapter on a linear base of any storage (float, 8-bit, 4-bit)."""

    def __init__(self, name: str, module: Any, layout: Layout, packed: bool, receive: Receive, merge: bool) -> None:
        super().__init__(name, module, layout, packed, receive)
        adapter = lora_adapter(module)
        assert adapter is not None
        self.a, self.b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        self.scale = float(module.scaling[adapter])
        self.parameters = [p for p in (self.a, self.b) if p.requires_grad]
        self.base = module.base_layer
        self.merged = self._merge() if merge and is_plain_linear(self.base) else None

    @torch.no_grad()
    def _merge(self) -> Tensor:
        """W + sBA [out, in] as a copy, so that the model itself is never touched and unmerging loses nothing."""
        weight = self.base.weight.T if isinstance(self.base, Conv1D) else self.base.weight
        return (weight.float() + self.scale * (self.b.float() @ self.a.float())).to(weight.dtype)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs:
            raise Unsupported(f"LoRA layer {self.name!r} takes more than one input")
        if self.merged is not None:
            return self.tap(F.linear(x, self.merged, self.base.bias), x)
        y = self.base(x)
        a, b = self.a.detach().to(x.dtype), self.b.detach().to(x.dtype)
        return self.tap(y + (F.linear(F.linear(x, a), b) * self.scale).to(y.dtype), x)

    def handle(self, x: Tensor, g: Tensor) -> None:
        a, b = self.a.detach().to(x.dtype), self.b.detach().to(g.dtype)
        if self.b.requires_grad:
            gs, down = self.split(g), self.split(F.linear(x, a * self.scale).to(g.dtype))
            self.receive(self.b, lambda lo, hi: outer(gs, down, lo, hi))
        if self.a.requires_grad:
            xs, up = self.split(x.to(g.dtype)), self.split(g @ (b * self.scale))
            self.receive(self.a, lambda lo, hi: outer(up, xs, lo, hi))


def is_plain_linear(module: nn.Module) -> bool:
    """A linear layer whose forward is torch's or Conv1D's own, with a floating-point weight."""
    own = type(module).forward
    return own in (nn.Linear.forward, Conv1D.forward) and next(module.parameters()).dtype.is_floating_point


def lora_adapter(module: nn.Module) -> str | None:
    """The one active adapter of a plain LoRA layer; None where the layer wants the general taps on A and B."""
    factors = getattr(module, "lora_A", None)
    if not isinstance(factors, nn.ModuleDict) or not hasattr(module, "base_layer"):
        return None
    active = [name for name in module.active_adapters if name in factors]  # type: ignore[union-attr]
    if len(active) != 1 or module.disable_adapters or module.merged or module.lora_variant:
        return None
    both = (factors[active[0]], module.lora_B[active[0]])  # type: ignore[index]
    if any(type(m) is not nn.Linear or m.bias is not None for m in both):
        return None
    if any(p.requires_grad for p in module.base_layer.parameters()):  # type: ignore[union-attr]
        return None
    return active[0]


def make_tap(name: str, module: nn.Module, layout: Layout, packed: bool, receive: Receive) -> Tap:
    """The tap for a module that owns trainable parameters; raises Unsupported when none is known to be right."""
    forward = type(module).forward
    kind = type(module).__name__
    if forward in (nn.Linear.forward, Conv1D.forward):
        return LinearTap(name, module, layout, packed, receive)
    if forward is nn.Embedding.forward and not module.scale_grad_by_freq and module.max_norm is None:
        return EmbeddingTap(name, module, layout, packed, receive)
    mixes = isinstance(module, nn.modules.batchnorm._NormBase | nn.modules.conv._ConvNd)
    if mixes or next(module.children(), None) is not None:
        raise Unsupported(f"no per-example gradient is known for the trainable parameters of {name!r} ({kind})")
    return LocalTap(name, module, layout, packed, receive)
