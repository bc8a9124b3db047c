"""Score files of the published codebases as our scores: numbers only, never a pickle that may run something.

LESS leaves one tensor a source, in the order of the source's file: `<source>_influence_score.pt` ([N], or [N, C] with a
column a reference or subtask); for its gradient folders see `gradient_folders`. CCDS leaves one numpy array [N] a target,
over all sources in the order of its list of train files: `<task>_bm25_score_100.pt`, `<task>_ppl_score_epoch25.pt`,
`<task>_embedding_scores.pt`. Both are read by torch's restricted unpickler (`weights_only=True`), which builds tensors
and, here, arrays of floats, and refuses all else; they are checked against the pool's counts, and keyed by example id from
then on.
"""

from __future__ import annotations

import fnmatch
import glob
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PrivateAttr

from paydirt.core.artifacts import Artifact, Replace, build, file_digest
from paydirt.core.config import Config, PathText
from paydirt.core.types import Example, Message, Target
from paydirt.data.pool import Pool, PoolConfig
from paydirt.scoring.base import Job, Scorer
from paydirt.selection.scores import Column
from paydirt.stages import Workspace

REPLAY = "import-scores"  # its stage in `config.yaml`

WHOLE = ""  # stands for all sources together, in the order of the pool's files


def read_tensor(path: Path) -> Any:
    """A finite float tensor from a `.pt` file; ValueError where it holds anything else, is cut short or names code."""
    import warnings

    import torch

    try:
        with torch.serialization.safe_globals(_numpy_parts()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the unpickler, about files that are damaged or older than it
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        if isinstance(value, _Pickled):
            value = torch.from_numpy(value.array())
    except MemoryError:
        raise ValueError(f"{path}: asks for more memory than there is; it is damaged") from None
    except Exception as error:  # a damaged file can fail anywhere in the unpickler, and each failure means the same
        why = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise ValueError(
            f"{path}: not a file of plain tensors ({why}); it may be cut short; else load it where it came from and save "
            "the tensor alone"
        ) from None
    if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.dim() not in (1, 2):
        found = f"{type(value).__name__} {tuple(getattr(value, 'shape', ()))} {getattr(value, 'dtype', '')}".strip()
        raise ValueError(f"{path}: expected one float tensor [N] or [N, C], found {found}")
    if value.layout != torch.strided or value.is_meta:
        raise ValueError(f"{path}: holds no plain dense numbers ({value.layout}); save the dense tensor")
    if value.dim() == 2 and value.shape[1] == 0:
        raise ValueError(f"{path}: shape {tuple(value.shape)} has no column; it is not what the published code writes")
    for start in range(0, len(value), BLOCK):
        good = torch.isfinite(value[start : start + BLOCK])
        if not bool(good.all()):
            row = start + int((~good).reshape(len(good), -1).any(dim=1).nonzero()[0])
            raise ValueError(f"{path}: row {row} (from 0) is not finite; what made it failed there, so make it again")
    return value


BLOCK = 65_536  # rows that are checked at once


class _Kind:
    """Stands for a numpy dtype while a pickle is read: nothing of numpy runs on what a file says."""

    def __init__(self, name: Any = "", *options: Any) -> None:
        self.name = name
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Pickled:
    """Stands for a numpy array while a pickle is read; `array` makes one of its bytes, if they are floats."""

    def __init__(self, *start: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """ValueError where the pickle describes anything but an array of 16, 32 or 64 bit floats."""
        _, shape, kind, by_columns, content = self.state
        if not isinstance(kind, _Kind) or kind.name not in ("f2", "f4", "f8") or kind.order not in ("<", ">", "="):
            raise ValueError(f"an array of {getattr(kind, 'name', kind)!r}, not of floats")
        flat = np.frombuffer(content, np.dtype(kind.name).newbyteorder(kind.order))
        return flat.reshape(shape, order="F" if by_columns else "C").astype(kind.name)


def _numpy_parts() -> list[Any]:
    """What the pickle of a numpy array names, by numpy 1 and 2, and what stands for it here."""
    made = [(_Pickled, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*made, (_Kind, "numpy.dtype"), (_Pickled, "numpy.ndarray")]


def score_files(folder: Path, sources: Sequence[str], kind: str | None = None, task: str = "") -> dict[str, Path]:
    """The score file of each source, or of `WHOLE`; ValueError where there is none, or several.

    `folder` is CCDS's file itself, or a folder: with `<source>_<kind>_score.pt` for every source, or else with one
    `<task>_<kind>_score*.pt` or `<task>_embedding_scores.pt` for all of them.
    """
    if folder.is_file():
        return {WHOLE: folder}
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder or file; give what holds the published score files")
    names = sorted(path.name for path in folder.iterdir())

    def called(pattern: str) -> list[Path]:
        return [folder / name for name in fnmatch.filter(names, pattern)]

    by_source = {s: called(f"{_literal(s)}_{_literal(kind)}_score.pt") for s in sources}
    ends = ("_score*.pt", "_scores.pt")
    whole = sorted({path for end in ends for path in called(f"{_literal(task)}_{_literal(kind)}{end}")})
    if task and not any(by_source.values()) and len(whole) == 1:
        return {WHOLE: whole[0]}
    for source, paths in by_source.items():
        if len(paths) != 1:
            found = ", ".join(p.name for p in paths or whole) or "none"
            raise ValueError(
                f"{folder}: expected one {source}_<kind>_score.pt for the source {source!r}, or one "
                f"{task or '<task>'}_<kind>_score*.pt for all, found {found}; name pool files as the scores name "
                "them (--pool NAME=FILE), or give --kind, --task, or the file itself"
            )
    return {source: paths[0] for source, paths in by_source.items()}


KINDS = {"influence": "gradient", "bm25": "bm25", "ppl": "ppl", "embedding": "embed"}  # in names of files: ours


def kind_of(files: Iterable[Path]) -> str | None:
    """The method of ours whose scores the files hold by their names (`mmlu_ppl_score_epoch25.pt`); None where it is open."""
    found = {KINDS.get(match[1]) for path in files if (match := re.search(r"([a-z0-9]+)_scores?(_|\.pt$)", path.name))}
    return found.pop() if len(found) == 1 else None


def _literal(name: str | None) -> str:
    """A name in a pattern that matches only itself; any, where none is given."""
    return glob.escape(name) if name is not None else "*"


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
        "method": {
            "name": "published",
            "of": kind_of(files.values()),
            "files": {source: str(path) for source, path in files.items()},
        },
        "seed": 0,
    }

    def make(part: Path) -> dict[str, Any]:
        scorer = _Published()
        scorer._given = in_pool_order(pool, files)
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
    files = score_files(Path(config.folder), list(pool.source_counts()), config.kind, config.task)
    # The scores stand for references that are not here; the target only lends its name.
    stand_in = Example(config.task, (Message("user", config.task), Message("assistant", config.task)))
    target = Target(config.task, (stand_in,), (config.task,))
    told = {"folder": config.folder, "task": config.task, "kind": config.kind}
    return import_scores(pool, config.pool, files, target, out, workspace.shared, told, workspace.replace)


class _Published(Scorer):
    """Scores that are there already; not registered, since it makes sense for one pool only."""

    _given: np.ndarray = PrivateAttr()

    @property
    def label(self) -> str:
        return "published"

    def columns(self, target: Target) -> list[Column]:
        width = self._given.shape[1]
        return [Column("score", "all")] if width == 1 else [Column(f"column-{i}", f"column-{i}") for i in range(width)]

    def score_rows(self, job: Job, state: Any, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._given[rows])


def in_pool_order(pool: Pool, files: Mapping[str, Path]) -> np.ndarray:
    """Values [N, C] float32 in pool rows: the i-th row of a source's file is the i-th of that source in the pool."""
    sources = np.asarray(pool.sources(), dtype=object)
    out: np.ndarray | None = None
    for source, path in files.items():
        rows = np.arange(len(pool)) if source == WHOLE else np.flatnonzero(sources == source)
        tensor = read_tensor(path)
        if len(rows) != len(tensor):
            whose = "in all" if source == WHOLE else f"of {source!r}"
            raise ValueError(
                f"{path}: holds {len(tensor)} rows, the pool {len(rows)} examples {whose}; use the very "
                "files that were scored, in their order, with no record skipped"
            )
        values = tensor.float().reshape(len(rows), -1).numpy()
        out = np.empty((len(pool), values.shape[1]), dtype=np.float32) if out is None else out
        if values.shape[1] != out.shape[1]:
            raise ValueError(f"{path}: {values.shape[1]} columns, other sources have {out.shape[1]}")
        out[rows] = values
    if out is None or (WHOLE not in files and set(files) != set(sources)):
        raise ValueError(f"no scores for {', '.join(sorted(set(sources) - set(files)))}; every source needs a file")
    if not np.isfinite(out).all():
        row = int(np.flatnonzero(~np.isfinite(out).all(axis=1))[0])
        raise ValueError(f"{next(iter(files.values()))}: the score of pool row {row} leaves the range of 32-bit floats")
    return out
