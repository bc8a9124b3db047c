"""Seconds of stages that run no model, from running them on some of their input.

Enters: the config of a stage. Leaves: seconds, remembered as a `probe`'s are. A stage over a pool runs on two samples of it,
so that what it does once is told apart from what it does for each row; the sample that is run first pays for what is loaded
once, as the work itself will. An export's receipt is written for some of its rows. What is small is run whole.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import open_artifact
from paydirt.data.pool import Pool, PoolConfig
from paydirt.interop.export import ExportStage, rows_of
from paydirt.interop.gradient_folders import GradientsStage, tensor_file
from paydirt.interop.published import read_tensor
from paydirt.interop.receipt import pool_of, receipt
from paydirt.planning.clock import Clock, pool_bytes
from paydirt.planning.machine import remembered
from paydirt.planning.plan import Work
from paydirt.replay import STAGES
from paydirt.selection.select import taken_ids
from paydirt.stages_data import SplitStage, TinyStage
from paydirt.workspace import Workspace

FEW, MANY = 256, 2048  # rows of a sample
OVER_POOL = ("decontaminate", "dedup", "split", "tiny-model", "import-gradients")


def plain_work(stage: str, config: Any, clock: Clock, what: str = "") -> Work:
    """The work of a stage that runs no model; a stage that cannot be tried on some of its input has no time."""
    base = clock.start(models=False)
    try:
        if stage == "export":
            seconds, disk = exporting(config, clock)
        elif stage in OVER_POOL:
            seconds, disk = over_pool(stage, config, clock), _left(config, clock)
        else:
            seconds, disk = whole(stage, config, clock), 0.0
    except ValueError:  # a sample may hold too little of what the stage asks for
        seconds, disk = None, 0.0
    return Work(what or stage, seconds=seconds, peak_bytes=(base or {}).get("bytes"), disk_bytes=disk, models=False)


def over_pool(stage: str, config: Any, clock: Clock) -> float | None:
    """Of a stage that goes over its pool row by row; its own references and settings stay whole."""
    pool = clock.space.pool(config.pool)
    settings = {"config": {k: v for k, v in config.to_dict().items() if k != "pool"}, "pool": pool.fingerprint}

    def once(rows: int) -> float:
        with tempfile.TemporaryDirectory(prefix="paydirt-probe-") as folder:
            space = Workspace(Path(folder) / "cache")
            part = _sample(pool, rows, Path(folder) / "pool.jsonl", space)
            smaller = config.model_copy(update={"pool": part, **_fitting(config, rows, len(pool), Path(folder))})
            began = time.perf_counter()
            STAGES[stage][1](smaller, Path(folder) / "out", space)
            return time.perf_counter() - began

    return _told(stage, settings, len(pool), once, clock)


def _fitting(config: Any, rows: int, whole: int, folder: Path) -> dict[str, Any]:
    """What of a config must fit a sample of so many rows: a count of points, the gradients of its rows."""
    if isinstance(config, SplitStage) and config.points >= 1:
        return {"points": min(config.points / whole, 0.99)}
    if isinstance(config, GradientsStage):
        import torch

        tensor = read_tensor(tensor_file(Path(config.folder)))
        (folder / "gradients").mkdir()
        torch.save(tensor[: min(rows, len(tensor))].clone(), folder / "gradients" / "all_orig.pt")
        return {"folder": str(folder / "gradients")}
    return {}


def _left(config: Any, clock: Clock) -> float:
    """Bytes that a stage over a pool leaves: the pool's records, once; a model; a gradient store."""
    if isinstance(config, GradientsStage):
        shape = read_tensor(tensor_file(Path(config.folder))).shape
        return float(np.prod(shape)) * {"float32": 4, "int8": 1}.get(config.dtype, 2)
    if isinstance(config, TinyStage):
        return 4.0 * config.hidden * (config.vocabulary + 12 * config.layers * config.hidden)
    return pool_bytes(clock.space.pool(config.pool))


def exporting(config: ExportStage, clock: Clock) -> tuple[float | None, float]:
    """Seconds and bytes of every selection of an export that is still there: its rows, read and written, and its receipt."""
    seconds, disk = 0.0, 0.0
    for path in config.exports.values():
        if not Path(path).is_dir():
            continue  # what was exported of it is copied
        chosen = open_artifact(Path(path), "select")
        pool = pool_of(chosen, clock.space)
        count = len(taken_ids(chosen.path))

        def once(some: int, chosen: Any = chosen, pool: Pool = pool) -> float:
            began = time.perf_counter()
            rows = [row.data for row in rows_of(chosen, pool, config.turns)[0]]
            receipt(chosen, [rows[i] for i in _evenly(len(rows), some)], pool, clock.space, config.study)
            return time.perf_counter() - began

        found = _told("export", {"selection": chosen.fingerprint, "study": config.study}, count, once, clock)
        if found is None:
            return None, 0.0
        seconds, disk = seconds + found, disk + pool_bytes(pool) * count / len(pool)
    return seconds, disk


def whole(stage: str, config: Any, clock: Clock) -> float | None:
    """Of a stage that takes seconds whatever it reads: its own time."""

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="paydirt-probe-") as folder:
            began = time.perf_counter()
            STAGES[stage][1](config, Path(folder) / "out", Workspace(clock.space.shared))
            return {"seconds": time.perf_counter() - began}

    found = remembered(clock.cache, stage, {"config": config.to_dict()}, work, clock.measure)
    return None if found is None else float(found["seconds"])


def _told(stage: str, settings: dict[str, Any], rows: int, once: Callable[[int], float], clock: Clock) -> float | None:
    """Seconds for `rows` rows, from a few, the same few again, and many."""

    def work() -> dict[str, Any]:
        few, many = min(rows, FEW), min(rows, MANY)
        first = once(few)
        if rows <= FEW:
            return {"once": first, "row": 0.0}
        again, more = once(few), once(many)
        each = max(0.0, more - again) / (many - few)
        return {"once": max(0.0, first - few * each), "row": each}

    found = remembered(clock.cache, stage, {**settings, "rows": rows}, work, clock.measure)
    return None if found is None else float(found["once"]) + rows * float(found["row"])


def _evenly(rows: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))


def _sample(pool: Pool, count: int, path: Path, space: Workspace) -> PoolConfig:
    """So many rows of a pool as a pool of their own, under their ids and sources, imported already."""
    with open(path, "w", encoding="utf-8") as handle:
        for example in pool.take(_evenly(len(pool), count)):
            turns = [{"role": m.role, "content": m.content} for m in example.messages]
            row = {"id": example.id, "source": example.source, "subset": example.subset, "messages": turns}
            handle.write(json.dumps(row) + "\n")
    config = PoolConfig(files=[str(path)])
    space.pool(config)
    return config
