"""Near-duplicate removal in a pool: of examples as similar as the threshold, the first in pool order stays.

Similarity is the Jaccard index of word 5-grams of the whole conversation (or of its prompt), 0.8 by default (Lee et al.,
arXiv 2107.06499); in scripts without spaces a word is a character. A pair at the threshold is missed with at most one in
a thousand (`minhash`). An example is compared with those kept so far, so a chain of small changes does not remove what is
unlike all that is kept. What leaves: `clean/<source>.jsonl`, `removed.jsonl` (each with the example that stands for it and
both texts), `report.json`. The work is spread over an executor's processes; see `near` for what is held in memory.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from paydirt.core.artifacts import Artifact, Replace, build, open_artifact, write_atomic
from paydirt.core.config import Config
from paydirt.data.curate.minhash import LOWEST, banding, miss
from paydirt.data.curate.near import Asked, find_near
from paydirt.data.curate.ranges import Spread, here
from paydirt.data.identity import content_id
from paydirt.data.pool import Pool, PoolConfig
from paydirt.data.subset import write_config, write_rows

BLOCK = 512
SHOWN = 2000


class DedupConfig(Config):
    """What counts as a near-duplicate."""

    threshold: float = Field(0.8, ge=LOWEST, le=1, description="Jaccard similarity of word n-grams")
    ngram: int = Field(5, ge=1, description="words in an n-gram")
    part: Literal["full", "prompt"] = Field("full", description="compare whole conversations, or their prompts")


def find_duplicates(
    pool: Pool, config: DedupConfig, folder: Path | None = None, spread: Spread = here
) -> list[tuple[int, int, float]]:
    """(row, row that stays, similarity) of each example to remove, in pool order; `folder` keeps what is done."""
    asked = Asked(config.threshold, config.ngram, config.part)
    if folder is not None:
        return find_near(pool, asked, folder, spread)
    with tempfile.TemporaryDirectory(prefix="paydirt-") as place:
        return find_near(pool, asked, Path(place), spread)


def exact_repeats(pool: Pool, rows: npt.NDArray[np.int64]) -> int:
    """How many of `rows` repeat the conversation of an earlier one of them word for word."""
    seen: set[str] = set()
    for start in range(0, len(rows), BLOCK):
        for example in pool.take(rows[start : start + BLOCK]):
            seen.add(content_id((m.role, m.content) for m in example.messages))
    return len(rows) - len(seen)


def dedup(
    pool: Pool,
    pool_config: PoolConfig,
    config: DedupConfig,
    out: Path,
    replace: Replace = "nothing",
    spread: Spread = here,
) -> Artifact:
    """Write the pool without its near-duplicates, and what was removed for what, to `out`."""

    def make(part: Path) -> dict[str, Any]:
        found = find_duplicates(pool, config, part / "scratch", spread)
        pairs: Counter[str] = Counter()
        with open(part / "removed.jsonl", "w", encoding="utf-8") as handle:
            for row, other, similarity in found:
                example, stays = pool.take([row, other])
                pairs[f"{example.source} like {stays.source}"] += 1
                line = {
                    "id": example.id,
                    "kept": stays.id,
                    "similarity": round(similarity, 4),
                    "text": _text(example)[:SHOWN],
                    "kept_text": _text(stays)[:SHOWN],
                }
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
        rows = np.setdiff1d(np.arange(len(pool)), [row for row, _, _ in found])
        files = write_rows(pool, rows, part / "clean")
        write_config(part, files, pool_config)
        report: dict[str, Any] = {
            "examples": len(pool),
            "removed": len(found),
            "kept": len(rows),
            "by_source": dict(pairs),
        }
        report["missed"] = miss(config.threshold, *banding(config.threshold))  # share of pairs at the threshold
        write_atomic(part / "report.json", json.dumps(report, indent=1, ensure_ascii=False))
        shutil.rmtree(part / "scratch")
        return {**report, "pool": pool.account()}

    told = {"pool": pool_config.to_dict(), **config.to_dict()}
    inputs = {"pool": pool.fingerprint, "records": open_artifact(pool.path).fingerprint}  # records are written whole
    how = {
        **config.to_dict(),
        "form": pool_config.form,
        "on_bad": pool_config.on_bad,
        "prefix_ids": pool_config.prefix_ids,
    }
    return build(out, "dedup", told, inputs, make, how, libraries=["numpy", "datasketch"], replace=replace)


def _text(example: Any) -> str:
    return "\n".join(f"{m.role}: {m.content}" for m in example.messages)
