"""A whole pool through `Features`: into a store (many targets), or straight to similarities (one target).

Both write shards that resume (`store.write_shards`) under a manifest made here, so that everything which decides the
numbers is in it. `encode(ids)` fetches the tokenised examples of one shard; nothing else of the pool is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paydirt.gradients.batches import Encoded
from paydirt.gradients.features import Features
from paydirt.gradients.hashing import key_of
from paydirt.gradients.influence import similarity_of
from paydirt.gradients.store import Store, fingerprint, pack_rows, parameter_list, plan_shards, write_shards

Encode = Callable[[Sequence[str]], Sequence[Encoded]]
OnShard = Callable[[int, bool], None]
LOSS = "mean cross-entropy over supervised tokens"


def manifest_of(features: Features, checkpoint: str, template: str, data: str = "", **more: Any) -> dict[str, Any]:
    """What decides the rows that `features` makes.

    `template` names chat template, loss mask and length limit; `data` a digest of the pool's content, where ids alone
    do not tell it. Batches are part of it: another token budget gives the same rows, but not the same bytes.
    """
    return {
        "model": fingerprint(features.model),
        "checkpoint": checkpoint,
        "projection": features.projections[0].settings(),
        "parameters": parameter_list(features.model),
        "loss": LOSS,
        "template": template,
        "data": data,
        "direction": {"name": features.direction_name, **features.direction_settings()},
        "compute": {"dtype": features.dtype, "token_budget": features.token_budget, "merge": features.merge},
        **more,
    }


def write_store(
    path: str | Path,
    features: Features,
    ids: Sequence[str],
    encode: Encode,
    manifest: Mapping[str, Any],
    dtype: str = "int8",
    shard_size: int = 2048,
    on_shard: OnShard | None = None,
    part: slice | None = None,
) -> Path:
    """Features of every example of the pool, `shard_size` a file; returns the directory, see `store.Store`."""

    def compute(shard: Sequence[str]) -> Mapping[str, Tensor]:
        return pack_rows(features(encode(shard))[0], dtype)

    return write_shards(path, {**manifest, "dtype": dtype}, plan_shards(ids, shard_size), compute, on_shard, part)


def write_similarity(
    path: str | Path,
    features: Features,
    ids: Sequence[str],
    encode: Encode,
    manifest: Mapping[str, Any],
    references: Tensor,
    shard_size: int = 2048,
    on_shard: OnShard | None = None,
    part: slice | None = None,
) -> Path:
    """Score without storing: cosines [n, R] (float32) of this checkpoint with `references` [R, k], shard by shard.

    For within-subtask means pass unit references; their order and content are part of the manifest.
    """
    digest = f"{key_of(references.contiguous().view(torch.uint8).numpy().tobytes().hex()) & (2**64 - 1):016x}"

    def compute(shard: Sequence[str]) -> Mapping[str, Tensor]:
        found = features(encode(shard))[0]
        return {"similarity": similarity_of(found, references), "norms": found.norm(dim=1)}

    whole = {**manifest, "references": digest}
    return write_shards(path, whole, plan_shards(ids, shard_size), compute, on_shard, part)


def read_similarity(paths: Sequence[str | Path], weights: Sequence[float]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """(ids, similarity [n, R]) of each shard, summed over checkpoints with `weights`; ValueError on a mismatch."""
    if not len(paths) == len(weights) > 0:
        raise ValueError(f"{len(paths)} checkpoints, {len(weights)} weights")
    stores = [Store(path) for path in paths]
    for store in stores:
        if store.sizes != stores[0].sizes:
            raise ValueError(f"{store.path} and {stores[0].path} hold different numbers of examples")
    for shard in range(len(stores[0].keys)):
        ids, first = stores[0].tensors(shard)
        total = weights[0] * first["similarity"]
        for store, weight in zip(stores[1:], weights[1:], strict=True):
            others, tensors = store.tensors(shard)
            if others != ids:
                raise ValueError(f"{store.path} and {stores[0].path} hold different examples or another order of them")
            total += weight * tensors["similarity"]
        yield ids, total
