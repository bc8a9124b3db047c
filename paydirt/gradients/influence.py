"""Influence of pool examples on a target: sum_i eta_i <z_i, v_i> of unit rows over checkpoints i, then a reduction.

Enters: one store (or one shard of features) per checkpoint, the references' features [R, k] per checkpoint, checkpoint
weights. Leaves: blocks of similarity [n, R], or scores [n] after `within` a subtask's references (mean by default) and
`across` subtasks (max by default): LESS, arXiv 2402.04333, section 4.2. Only one block of rows is ever in memory.

Where only subtask means are wanted the unit references are averaged first: a mean of inner products is the inner
product with the mean, so the numbers are the same for S columns of work instead of R.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from paydirt.gradients.store import Rows, Store, check_comparable, pack_rows

_BLOCK = 512  # rows converted and multiplied at a time: small enough to stay in cache
_EXACT = (1 << 24) // (127 * 127) // 16 * 16  # so many products of two int8 add up to an integer that float32 holds
_SUM = torch.float32
_REDUCE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": lambda x, dim: x.mean(dim),
    "max": lambda x, dim: x.amax(dim),
    "min": lambda x, dim: x.amin(dim),
}


def unit(rows: Tensor) -> Tensor:
    """Rows divided by their Euclidean norm; rows of zeros stay zeros."""
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def groups_of(subtask_of: Sequence[str]) -> list[list[int]]:
    """Row numbers of each subtask's references, subtasks in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(subtask_of):
        groups.setdefault(name, []).append(row)
    return list(groups.values())


def subtask_means(references: Tensor, subtask_of: Sequence[str]) -> Tensor:
    """Means [S, k] of unit references [R, k] (not unit themselves: that is what keeps the numbers the same)."""
    return torch.stack([references[rows].mean(0) for rows in groups_of(subtask_of)])


def reduce_similarity(
    similarity: Tensor, subtask_of: Sequence[str], within: str = "mean", across: str = "max"
) -> Tensor:
    """[n, R] -> [n]: `within` each subtask's references, then `across` subtasks; each 'mean', 'max' or 'min'."""
    for name in (within, across):
        if name not in _REDUCE:
            raise ValueError(f"unknown reduction {name!r}; choose one of {', '.join(_REDUCE)}")
    if similarity.shape[1] != len(subtask_of):
        raise ValueError(f"similarity has {similarity.shape[1]} columns for {len(subtask_of)} references")
    groups = groups_of(subtask_of)
    if len(groups) < len(subtask_of):
        similarity = torch.stack([_REDUCE[within](similarity[:, rows], 1) for rows in groups], 1)
    return _REDUCE[across](similarity, 1)


def match(rows: Rows, references: Tensor) -> Tensor:
    """<row, reference> [n, R] float32 for stored unit rows and float32 references [R, k], block by block.

    int8 rows meet int8 references in exact integer products (see `_whole_products`). Threads share out blocks, one thread a
    block: within a block they would wait for each other several times, and beside a busy neighbour each wait lasts until
    the one that was interrupted has its turn. bfloat16 rows meet bfloat16 references, summed in float32
    over stretches of k, since one product rounded to bfloat16 would leave too many ties. float16 and float32 rows are
    multiplied in float32 (half-precision products are hopeless on CPUs).
    """
    columns = references.shape[0]
    padded = torch.nn.functional.pad(references, (0, 0, 0, -columns % 16))  # products of odd width are slow
    multiply = _multiplier(rows.features.dtype, padded)
    out = torch.empty(len(rows.ids), columns)

    def block(lo: int) -> None:
        out[lo : lo + _BLOCK] = multiply(rows.features[lo : lo + _BLOCK])[:, :columns]

    starts, threads = range(0, len(rows.ids), _BLOCK), torch.get_num_threads()
    if min(threads, len(starts)) <= 1:
        for lo in starts:
            block(lo)
    else:
        list(_threads(threads).map(block, starts))
    return out if rows.scale is None else out.mul_(rows.scale[:, None])


@lru_cache(maxsize=1)
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads of which each computes alone."""
    begun = threading.Barrier(count + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(count, "matching", begin)
    for _ in range(count):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(count)  # torch gives the last number set to threads that come later
    return pool


def _multiplier(dtype: torch.dtype, references: Tensor) -> Callable[[Tensor], Tensor]:
    if dtype == torch.int8:
        scale = references.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        whole = _whole_products((references / scale[:, None]).round().to(torch.int8))
        return lambda x: whole(x).float() * scale
    if dtype == torch.bfloat16:
        step = -(-references.shape[1] // 8)
        stretches = [slice(lo, lo + step) for lo in range(0, references.shape[1], step)]
        right = [references[:, stretch].to(dtype).t() for stretch in stretches]
        return lambda x: torch.stack([x[:, s] @ r for s, r in zip(stretches, right, strict=True)]).sum(0, dtype=_SUM)
    return lambda x: x.float() @ references.t()


def _whole_products(references: Tensor) -> Callable[[Tensor], Tensor]:
    """x int8 [n, k] -> exact products int32 [n, R] with int8 references [R, k].

    torch's integer product is fast on GPUs and on CPUs with AVX-512 (VNNI); without, it is a plain loop, 20 times slower
    than float32 products over stretches of k that are short enough for every sum in them to be exact.
    """
    if references.device.type != "cpu" or "AVX512" in torch.backends.cpu.get_cpu_capability():
        right = references.t()
        return lambda x: torch._int_mm(x, right)
    stretches = [slice(lo, lo + _EXACT) for lo in range(0, references.shape[1], _EXACT)]
    parts = [references[:, stretch].float().t() for stretch in stretches]

    def products(x: Tensor) -> Tensor:
        total = torch.zeros(x.shape[0], references.shape[0], dtype=torch.int32)
        for stretch, right in zip(stretches, parts, strict=True):
            total += (x[:, stretch].float() @ right).to(torch.int32)
        return total

    return products


def similarities(
    stores: Sequence[Store], references: Sequence[Tensor], weights: Sequence[float]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """(ids, similarity [n, R]) of each shard, summed over checkpoints with `weights`; references are made unit here.

    Raises ValueError where stores and references do not match in number, width or ids.
    """
    yield from _weighted(stores, [unit(r) for r in references], weights)


def score_stores(
    stores: Sequence[Store],
    references: Sequence[Tensor],
    subtask_of: Sequence[str],
    weights: Sequence[float],
    within: str = "mean",
    across: str = "max",
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """(ids, scores [n]) of each shard; with `within='mean'` each subtask costs one column instead of its references."""
    columns, names = reduced_columns(references, subtask_of, within)
    for ids, similarity in _weighted(stores, columns, weights):
        yield ids, reduce_similarity(similarity, names, within, across)


def reduced_columns(
    references: Sequence[Tensor], subtask_of: Sequence[str], within: str
) -> tuple[list[Tensor], Sequence[str]]:
    """Unit references of each checkpoint, averaged by subtask where `within` is a mean, and their subtasks."""
    rows = [unit(r) for r in references]
    if within != "mean":
        return rows, subtask_of
    return [subtask_means(r, subtask_of) for r in rows], list(dict.fromkeys(subtask_of))


def similarity_of(features: Tensor, references: Tensor) -> Tensor:
    """Score without storing: cosine [n, R] of fresh float32 features [n, k] with references [R, k] (made unit)."""
    return unit(features) @ unit(references).t()


def _weighted(
    stores: Sequence[Store], columns: Sequence[Tensor], weights: Sequence[float]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if not len(stores) == len(columns) == len(weights) > 0:
        raise ValueError(f"{len(stores)} stores, {len(columns)} sets of references, {len(weights)} weights")
    for store, reference in zip(stores, columns, strict=True):
        k = store.manifest["projection"]["k"]
        if reference.shape[1] != k:
            raise ValueError(f"{store.path} holds rows of {k} numbers, the references have {reference.shape[1]}")
    for shards in itertools.zip_longest(*(store.shards() for store in stores)):
        for store, rows in zip(stores, shards, strict=True):
            if rows is None or shards[0] is None or rows.ids != shards[0].ids:
                raise ValueError(f"{store.path} and {stores[0].path} hold different examples or another order of them")
        parts = [weight * match(r, c) for r, c, weight in zip(shards, columns, weights, strict=True)]
        yield shards[0].ids, torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def check_stores(pool: Sequence[Store], references: Sequence[Store]) -> None:
    """Raises ValueError unless the stores are the same checkpoints under the same projection, pair by pair."""
    if len(pool) != len(references):
        raise ValueError(f"{len(pool)} pool stores but {len(references)} reference stores; one each per checkpoint")
    for p, r in zip(pool, references, strict=True):
        check_comparable(p.manifest, r.manifest)


def quantise(features: Tensor, dtype: str) -> Rows:
    """Rows as a store of `dtype` would hold them, ids being row numbers: to see what a dtype costs before writing."""
    packed = pack_rows(features, dtype)
    ids = tuple(map(str, range(len(features))))
    return Rows(ids, packed["features"], packed["norms"], packed.get("scale"))
