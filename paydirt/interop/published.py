"""Files of the published codebases as our scores and stores: tensors only, never a pickle.

LESS and CCDS leave one tensor a source, in the order of the source's file: `<source>_influence_score.pt`,
`<source>_bm25_score.pt` ([N], or [N, C] with a column a reference or subtask), and gradient folders
`dim<k>/all_orig.pt` ([N, k], rows of length one) or `all_unormalized.pt`. They are read with `weights_only=True`, checked
against the pool's counts, and keyed by example id from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from paydirt.artifacts import Artifact, Replace, build, file_digest
from paydirt.config import Config, PathText
from paydirt.data.pool import Pool, PoolConfig
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import Column
from paydirt.stages import Workspace
from paydirt.types import Example, Message, Target

REPLAY = "import-scores"  # its stage in `config.yaml`


def read_tensor(path: Path) -> Any:
    """A float tensor from a `.pt` file; ValueError where it holds anything else, or more than tensors."""
    import pickle

    import torch

    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, FileNotFoundError, EOFError) as error:
        raise ValueError(
            f"{path}: not a file of plain tensors ({str(error).splitlines()[0][:160]}); load it where it came from and save "
            "the tensor alone"
        ) from None
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() not in (1, 2):
        raise ValueError(f"{path}: expected one float tensor [N] or [N, C], found {type(value).__name__}")
    return value


def score_files(folder: Path, sources: Sequence[str], kind: str | None = None) -> dict[str, Path]:
    """`<source>_<kind>_score.pt` of each source; ValueError names a source without a file, or with several."""
    found = {}
    for source in sources:
        paths = sorted(folder.glob(f"{source}_{kind or '*'}_score.pt"))
        if len(paths) != 1:
            names = ", ".join(p.name for p in paths) or "none"
            raise ValueError(
                f"{folder}: expected one {source}_<kind>_score.pt for the source {source!r}, found {names}; "
                "name pool files as the scores name them (--pool NAME=FILE), or give --kind"
            )
        found[source] = paths[0]
    return found


def import_scores(
    pool: Pool,
    pool_config: PoolConfig,
    files: Mapping[str, Path],
    target: Target,
    out: Path,
    shared: Path,
    told: dict[str, Any] | None = None,
    replace: Replace = "nothing",
) -> Artifact:
    """Published scores as a score directory that `paydirt select` takes. ValueError where counts differ."""
    inputs = {"pool": pool.fingerprint, **{f"scores {s}": file_digest(path) for s, path in files.items()}}
    config = {
        "pool": pool_config.to_dict(),
        "target": {"name": target.name},
        "method": {"name": "published", "files": {source: str(path) for source, path in files.items()}},
        "seed": 0,
    }

    def make(part: Path) -> dict[str, Any]:
        scorer = _Published(given=in_pool_order(pool, files))
        return {**scorer.run(Job(pool, target, part, shared)), "pool": pool.account()}

    identity = {"target": target.name}
    told = config | (told or {})
    return build(
        out, "score", told, inputs, make, identity, libraries=["torch", "numpy"], replace=replace, replay=REPLAY
    )


class ImportStage(Config):
    """Published score files as scores of ours."""

    pool: PoolConfig
    folder: PathText = Field(description="folder with <source>_<kind>_score.pt")
    task: str = Field("published", description="what the scores were made for: names the target")
    kind: str | None = Field(None, description="influence, bm25, ...: where the folder holds several")
    # What scores of ours say of themselves; told for readers of the manifest, made anew here.
    target: dict[str, Any] | None = None
    method: dict[str, Any] | None = None
    seed: int = 0


def run_import(config: ImportStage, out: Path, workspace: Workspace) -> Artifact:
    """The scores of a folder, for `paydirt select`."""
    pool = workspace.pool(config.pool)
    files = score_files(Path(config.folder), list(pool.source_counts()), config.kind)
    # The scores stand for references that are not here; the target only lends its name.
    stand_in = Example(config.task, (Message("user", config.task), Message("assistant", config.task)))
    target = Target(config.task, (stand_in,), (config.task,))
    told = {"folder": config.folder, "task": config.task, "kind": config.kind}
    return import_scores(pool, config.pool, files, target, out, workspace.shared, told, workspace.replace)


class _Published(Scorer):
    """Scores that are there already; not registered, since it makes sense for one pool only."""

    given: Any = None

    @property
    def label(self) -> str:
        return "published"

    def columns(self, target: Target) -> list[Column]:
        width = self.given.shape[1]
        return [Column("score", "all")] if width == 1 else [Column(f"column-{i}", f"column-{i}") for i in range(width)]

    def score_rows(self, job: Job, state: Any, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.given[start:stop])


def in_pool_order(pool: Pool, files: Mapping[str, Path]) -> np.ndarray:
    """Values [N, C] float32 in pool rows: the i-th row of a source's file is the i-th of that source in the pool."""
    sources = np.asarray(pool.sources(), dtype=object)
    out: np.ndarray | None = None
    for source, path in files.items():
        rows, tensor = np.flatnonzero(sources == source), read_tensor(path)
        if len(rows) != len(tensor):
            raise ValueError(
                f"{path}: holds {len(tensor)} rows, the pool {len(rows)} examples of {source!r}; use the very file that was "
                "scored, with no record skipped"
            )
        values = tensor.float().reshape(len(rows), -1).numpy()
        out = np.empty((len(pool), values.shape[1]), dtype=np.float32) if out is None else out
        if values.shape[1] != out.shape[1]:
            raise ValueError(f"{path}: {values.shape[1]} columns, other sources have {out.shape[1]}")
        out[rows] = values
    if out is None or set(files) != set(sources):
        raise ValueError(f"no scores for {', '.join(sorted(set(sources) - set(files)))}; every source needs a file")
    return out


def import_gradients(
    folder: Path, ids: Sequence[str], out: Path, *, checkpoint: str, direction: str, dtype: str = "float16"
) -> Path:
    """A published `dim<k>` folder as a gradient store of ours, rows keyed by `ids` (the order of its source file).

    What the published files do not say (the model, its parameters) is named as unknown; stores imported so can be
    compared with each other, and with nothing else. Raises ValueError where the counts differ.
    """
    from paydirt.gradients.store import pack_rows, plan_shards, write_shards

    path = next((p for p in (folder / "all_orig.pt", folder / "all_unormalized.pt") if p.is_file()), None)
    if path is None:
        raise ValueError(f"{folder}: neither all_orig.pt nor all_unormalized.pt; give the folder dim<k>")
    tensor = read_tensor(path)
    if tensor.dim() != 2 or len(tensor) != len(ids):
        raise ValueError(
            f"{path}: shape {tuple(tensor.shape)} for {len(ids)} examples; use the very file it was made of"
        )
    row_of = {id: row for row, id in enumerate(ids)}
    manifest = {
        "model": "published",
        "checkpoint": checkpoint,
        "projection": {"k": int(tensor.shape[1]), "kind": "published"},
        "parameters": "published",
        "loss": "published",
        "template": "published",
        "direction": direction,
        "dtype": dtype,
        "imported": file_digest(path),
    }

    def compute(part: Sequence[str]) -> Mapping[str, Any]:
        return pack_rows(tensor[[row_of[id] for id in part]].float(), dtype)

    return write_shards(out, manifest, plan_shards(list(ids)), compute)
