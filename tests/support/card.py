"""A pretended accelerator: tensors with real values that refuse to meet a host's, and a count of what waits for it.

`with Card() as card:` makes `torch.device("card")` usable. A tensor on it holds an ordinary one, on which every operation
is computed; operations that CUDA would refuse (two devices, a host's tensor that is no number) raise, and those for which a
host must wait (reading a number, a mask's positions, a copy that blocks) are counted in `card.waits`. The device is torch's
own extension point (PrivateUse1), so that factories, `Module.to` and autograd treat it as they treat any.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "card"
BY_HOST = {
    "index",
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "_unsafe_index",
}  # CUDA takes a host's index, and waits
READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_consecutive"}
MASKS = (torch.bool, torch.uint8)


@lru_cache
def _register() -> None:
    """Once a process: torch can't forget a device."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)


_cards: list[Card] = []  # those whose blocks are open


class OnCard(Tensor):
    """A tensor whose device is the card and whose values lie in `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCard:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _cards[-1].compute(func, args, kwargs)  # autograd's own thread sums gradients outside of modes


class Card(TorchDispatchMode):
    """The device, for a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        _register()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> Card:
        _cards.append(self)
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(..., device=)` builds on the host, then copies
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _cards.pop()
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.compute(func, args, kwargs)

    def compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One operation: checked, counted, done on the host's tensors within."""
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, OnCard)]
        on_card = bool(there)
        if name == "_fused_sdp_choice":
            return 0  # the plain form: no kernel is written for the card
        if (asked := kwargs.get("device")) is not None:
            on_card = torch.device(asked).type == NAME
            kwargs["device"] = torch.device("cpu")
            kwargs.pop("pin_memory", None)
        if name == "_to_copy":
            crosses = on_card != bool(there)
            if crosses and not (on_card and kwargs.get("non_blocking")):
                self.waits["to the card" if on_card else "to the host"] += 1
        elif name == "copy_":
            on_card = isinstance(args[0], OnCard)
            if on_card != isinstance(args[1], OnCard):
                self.waits["to the card" if on_card else "to the host"] += 1
        elif there:
            self._check(func, name, tensors, there)
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        known = {id(x.inner): x for x in there}  # operations in place return what they were given

        def there_too(x: Any) -> Any:
            return (known[id(x)] if id(x) in known else OnCard(x)) if on_card and isinstance(x, Tensor) else x

        return tree_map(there_too, out)

    def _check(self, func: Any, name: str, tensors: list[Tensor], there: list[OnCard]) -> None:
        strangers = [x for x in tensors if not isinstance(x, OnCard) and x.dim()]
        if strangers and (name not in BY_HOST or not isinstance(tensors[0], OnCard)):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found card:0 and cpu")
        masked = name in BY_HOST and any(x.dtype in MASKS for x in tensors[1:])
        if strangers or masked or name in READS or (name == "repeat_interleave" and len(tensors) == len(there) == 1):
            self.waits[name] += 1


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, OnCard) else x
