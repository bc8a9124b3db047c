"""Some rows of a pool as a pool of its own: one JSONL a source, records as they were read.

What enters: a pool, its config and the rows to keep. What leaves: the files and the `PoolConfig` that reads them as the
same examples, ids and sources included (`pool.json`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paydirt.core.artifacts import write_atomic
from paydirt.data.pool import Pool, PoolConfig

BLOCK = 4096


def write_rows(pool: Pool, rows: npt.NDArray[np.int64], out: Path, name: str = "{source}.jsonl") -> dict[str, str]:
    """Write the records at `rows` to `out`; returns the file of each source. `name` may hold {source}."""
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    handles = {}
    try:
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            for example, record in zip(pool.take(part), pool.records(part)):
                if example.source not in handles:
                    path = _fresh(out, name.replace("{source}", _safe(example.source)), set(files.values()))
                    files[example.source] = str(path)
                    handles[example.source] = open(path, "w", encoding="utf-8")  # noqa: SIM115
                handles[example.source].write(json.dumps(record, ensure_ascii=False) + "\n")
    finally:
        for handle in handles.values():
            handle.close()
    return files


def write_config(root: Path, files: dict[str, str], config: PoolConfig) -> None:
    """Note in `root/pool.json` how to read what `write_rows` wrote under it, as it was read before."""
    inside = {source: str(Path(path).relative_to(root)) for source, path in files.items()}
    how = {"form": config.form, "on_bad": config.on_bad, "prefix_ids": config.prefix_ids, "columns": config.columns}
    write_atomic(root / "pool.json", json.dumps({"files": inside, **how}, ensure_ascii=False))


def read_config(root: Path) -> PoolConfig:
    """The pool that a finished decontamination or deduplication left."""
    values = json.loads((root / "pool.json").read_text(encoding="utf-8"))
    return PoolConfig(**values | {"files": {source: str(root / path) for source, path in values["files"].items()}})


def rows_without(pool: Pool, ids: set[str]) -> npt.NDArray[np.int64]:
    """All rows but those of `ids`."""
    keep = np.ones(len(pool), dtype=bool)
    if ids:
        keep[pool.rows_of(sorted(ids))] = False
    return np.flatnonzero(keep).astype(np.int64)


def _safe(source: str) -> str:
    return re.sub(r"[^\w.-]+", "_", source).strip(".") or "pool"


def _fresh(out: Path, name: str, taken: set[str]) -> Path:
    path, number = out / name, 1
    while str(path) in taken:
        number += 1
        path = out / f"{Path(name).stem}-{number}.jsonl"
    return path
