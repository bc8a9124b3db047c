"""Gradient folders of the published code as gradient stores of ours.

What enters: a folder `dim<k>` with `all_orig.pt` ([N, k], rows of length one) or `all_unormalized.pt`, and the pool of the
one source that it was made of. What leaves: an artifact whose `store` holds the rows, keyed by example id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from paydirt.core.artifacts import Artifact, build, file_digest
from paydirt.core.config import Config, PathText
from paydirt.data.pool import PoolConfig
from paydirt.interop.published import read_tensor
from paydirt.stages import Workspace

STAGE = "import-gradients"
VERSION = 1
FILES = ("all_orig.pt", "all_unormalized.pt")


class GradientsStage(Config):
    """A published gradient folder as a gradient store."""

    pool: PoolConfig = Field(description="the one source that the gradients were made of")
    folder: PathText = Field(description="folder dim<k> with all_orig.pt")
    checkpoint: str = Field(description="which checkpoint the gradients are of")
    direction: Literal["adam", "sgd"] = "adam"
    dtype: Literal["float16", "bfloat16", "float32", "int8"] = "float16"


def run_gradients(config: GradientsStage, out: Path, workspace: Workspace) -> Artifact:
    """The folder's rows in `out/store`, in the order of the pool. ValueError where their numbers differ."""
    pool, path = workspace.pool(config.pool), tensor_file(Path(config.folder))
    inputs = {"pool": pool.fingerprint, "gradients": file_digest(path)}

    def make(part: Path) -> dict[str, Any]:
        import_gradients(path, pool.ids(), part / "store", config)
        return {"examples": len(pool), "pool": pool.account()}

    identity = {"checkpoint": config.checkpoint, "direction": config.direction, "dtype": config.dtype}
    return build(
        out,
        STAGE,
        config.to_dict(),
        inputs,
        make,
        identity,
        version=VERSION,
        libraries=["torch"],
        replace=workspace.replace,
    )


def tensor_file(folder: Path) -> Path:
    """The file of the rows; ValueError where the folder has none."""
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder}: neither {' nor '.join(FILES)}; give the folder dim<k>")
    return path


def import_gradients(path: Path, ids: Sequence[str], out: Path, config: GradientsStage) -> Path:
    """The rows [N, k] of a tensor file as a gradient store, keyed by `ids` (the order of its source file).

    What the published files do not say (the model, its parameters) is named as unknown; stores imported so can be
    compared with each other, and with nothing else. Raises ValueError where the counts differ.
    """
    from paydirt.gradients.store import pack_rows, plan_shards, write_shards

    tensor = read_tensor(path)
    if tensor.dim() != 2 or len(tensor) != len(ids):
        raise ValueError(
            f"{path}: shape {tuple(tensor.shape)} for {len(ids)} examples; use the very file it was made of"
        )
    row_of = {id: row for row, id in enumerate(ids)}
    manifest = {
        "model": "published",
        "checkpoint": config.checkpoint,
        "projection": {"k": int(tensor.shape[1]), "kind": "published"},
        "parameters": "published",
        "loss": "published",
        "template": "published",
        "direction": config.direction,
        "dtype": config.dtype,
        "imported": file_digest(path),
    }

    def compute(part: Sequence[str]) -> Mapping[str, Any]:
        return pack_rows(tensor[[row_of[id] for id in part]].float(), config.dtype)

    return write_shards(out, manifest, plan_shards(list(ids)), compute)
