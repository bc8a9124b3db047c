"""The gradient store: unit feature rows of many examples in memory-mapped shards, one directory per checkpoint.

A directory holds `manifest.json` (what the rows are), `<key>.safetensors` shards and, once whole, `index.json`. A
shard is a contiguous list of example ids; its key is a hash of those ids and the manifest. It is written as `.part`
and renamed when complete, so a killed run leaves whole shards, which are kept, and at most a `.part`, which is
overwritten. Batches never cross shards: a resumed run ends with the same bytes as one that was not killed.

Rows are divided by their norm (kept beside them): influence is a cosine. `int8` rows carry a scale each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from paydirt.gradients.hashing import key_of

FORMAT = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
COMPARABLE = ("format", "model", "checkpoint", "projection", "parameters", "loss", "template")
"""Manifest keys in which two stores must agree before their rows may be multiplied; `direction` differs by design."""


@dataclass(frozen=True)
class Rows:
    """Rows of one shard: `ids` [n], `features` [n, k] as stored, `norms` [n] before division, `scale` [n] if int8."""

    ids: tuple[str, ...]
    features: Tensor
    norms: Tensor
    scale: Tensor | None = None

    def float(self) -> Tensor:
        """Unit rows [n, k] in float32."""
        rows = self.features.float()
        return rows if self.scale is None else rows * self.scale[:, None]


def pack_rows(features: Tensor, dtype: str) -> dict[str, Tensor]:
    """float32 features [n, k] -> what a shard holds: unit rows in `dtype`, norms, and scales for int8."""
    if dtype not in DTYPES:
        raise ValueError(f"unknown store dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    norms = features.norm(dim=1)
    rows = features / norms.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    if dtype != "int8":
        return {"features": rows.to(DTYPES[dtype]), "norms": norms}
    scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return {"features": (rows / scale[:, None]).round_().to(torch.int8), "norms": norms, "scale": scale}


def plan_shards(ids: Sequence[str], shard_size: int = 2048) -> list[tuple[str, ...]]:
    """Contiguous lists of ids; raises ValueError on a repeated id."""
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(f"example id {twice!r} occurs more than once; a store is keyed by id")
    return [tuple(ids[start : start + shard_size]) for start in range(0, len(ids), shard_size)]


def write_shards(
    path: str | Path,
    manifest: Mapping[str, Any],
    plan: Sequence[Sequence[str]],
    compute: Callable[[Sequence[str]], Mapping[str, Tensor]],
    on_shard: Callable[[int, bool], None] | None = None,
    part: slice | None = None,
) -> Path:
    """Compute and write every shard of `plan` that is not there yet; returns the directory.

    `compute(ids)` gives the tensors of a shard, n rows each. `on_shard(rows, computed)` is told of each. `part` limits
    a worker to some shards; whoever finds all of them present writes the index. Raises ValueError if the directory
    already holds a store of another manifest, naming the difference.
    """
    root = Path(path)
    root.mkdir(parents=True, exist_ok=True)
    whole = json.loads(json.dumps({"format": FORMAT, **manifest}))  # as it will be read back: tuples are lists
    _claim(root, whole)
    keys = [shard_key(whole, ids) for ids in plan]
    for key, ids in list(zip(keys, plan, strict=True))[part or slice(None)]:
        done = (root / f"{key}.safetensors").exists()
        if not done:
            tensors = {name: t.contiguous() for name, t in compute(ids).items()}
            _write(root / f"{key}.safetensors", save(tensors, metadata={"ids": json.dumps(list(ids))}))
        if on_shard is not None:
            on_shard(len(ids), not done)
    if all((root / f"{key}.safetensors").exists() for key in keys):
        index = [{"key": key, "rows": len(ids)} for key, ids in zip(keys, plan, strict=True)]
        _write(root / "index.json", json.dumps({"shards": index}, indent=1).encode())
    return root


def shard_key(manifest: Mapping[str, Any], ids: Sequence[str]) -> str:
    """File name of a shard: a hash of what it is made of."""
    return f"{key_of(json.dumps(manifest, sort_keys=True), *ids) & (2**64 - 1):016x}"


def _claim(root: Path, manifest: dict[str, Any]) -> None:
    path = root / "manifest.json"
    if path.exists():
        refuse_difference(json.loads(path.read_text(encoding="utf-8")), manifest, None, f"{root} holds another store")
    else:
        _write(path, json.dumps(manifest, indent=1, sort_keys=True).encode())


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def refuse_difference(a: Mapping[str, Any], b: Mapping[str, Any], keys: Sequence[str] | None, what: str) -> None:
    """Raises ValueError naming the first of `keys` (all by default) in which two manifests differ, and both values."""
    for key in keys if keys is not None else sorted({*a, *b}):
        if a.get(key) != b.get(key):
            raise ValueError(f"{what}: {key!r} is {a.get(key)!r} in one and {b.get(key)!r} in the other")


class Store:
    """A finished directory of shards; opens nothing but the manifest and index until rows are asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for name in ("manifest.json", "index.json"):
            if not (self.path / name).exists():
                raise ValueError(f"{self.path}: no {name}; the store is missing or unfinished, run the writing again")
        self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        index = json.loads((self.path / "index.json").read_text(encoding="utf-8"))
        self.keys = [shard["key"] for shard in index["shards"]]
        self.sizes = [shard["rows"] for shard in index["shards"]]
        self._place: dict[str, tuple[int, int]] | None = None

    def __len__(self) -> int:
        return sum(self.sizes)

    def tensors(self, shard: int) -> tuple[tuple[str, ...], dict[str, Tensor]]:
        """ids and memory-mapped tensors of one shard."""
        with safe_open(self.path / f"{self.keys[shard]}.safetensors", framework="pt") as file:
            names = list(file.keys())
            return tuple(json.loads(file.metadata()["ids"])), {name: file.get_tensor(name) for name in names}

    def shards(self) -> Iterator[Rows]:
        """The store's rows, shard by shard, features memory-mapped."""
        for shard in range(len(self.keys)):
            yield self.rows(shard)

    def rows(self, shard: int) -> Rows:
        ids, tensors = self.tensors(shard)
        return Rows(ids, tensors["features"], tensors["norms"], tensors.get("scale"))

    def load(self, ids: Sequence[str] | None = None) -> Tensor:
        """Unit rows [n, k] float32 of `ids` (all, in store order, by default): for references, not for pools."""
        if ids is None:
            return torch.cat([rows.float() for rows in self.shards()])
        if self._place is None:
            self._place = {i: (s, r) for s in range(len(self.keys)) for r, i in enumerate(self.tensors(s)[0])}
        missing = [i for i in ids if i not in self._place]
        if missing:
            raise ValueError(f"{self.path}: no features for {len(missing)} of {len(ids)} ids, first {missing[0]!r}")
        wanted: dict[int, list[tuple[int, int]]] = {}
        for row, i in enumerate(ids):
            shard, place = self._place[i]
            wanted.setdefault(shard, []).append((row, place))
        out: Tensor | None = None
        for shard, places in wanted.items():
            found = self.rows(shard).float()
            out = torch.empty(len(ids), found.shape[1]) if out is None else out
            out[[row for row, _ in places]] = found[[place for _, place in places]]
        return out if out is not None else torch.empty(0, 0)


def check_comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key and both values, unless rows of the two manifests may be multiplied."""
    refuse_difference(a, b, COMPARABLE, "these gradient stores cannot be compared")
