"""Host steps at growing pools: seconds, peak memory, and growth from decade to decade; each step in a process of its own.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--steps import tokens bm25 dedup matching top round_robin]
    python benchmarks/scale.py --workers 2 --steps dedup

Synthetic conversations of 40 to 80 words, one in twenty a near-repeat of an earlier one; 20 references. `matching` reads a
store of int8 features (k 1024) against 57 columns; the policies choose 5 % by scores of 20 references. What a step needs is
made outside of its time. Growth is that of CPU seconds, which neighbours change least. Memory is what the step adds to the
process's peak, mapped files that it touched included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = ("import", "tokens", "bm25", "dedup", "matching", "top", "round_robin")
SYLLABLES = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def write_pool(path: Path, rows: int) -> None:
    """The same first rows for every size."""
    draw = random.Random(0)
    recent: list[list[str]] = []
    with open(path, "w", encoding="utf-8") as file:
        for row in range(rows):
            words = draw.choices(SYLLABLES, k=draw.randint(40, 80))
            if recent and draw.random() < 0.05:
                words = [*draw.choice(recent)]
                words[draw.randrange(len(words))] = draw.choice(SYLLABLES)
            recent = [*recent[-999:], words]
            cut = len(words) // 2
            turns = [
                {"role": "user", "content": " ".join(words[:cut])},
                {"role": "assistant", "content": " ".join(words[cut:])},
            ]
            file.write(json.dumps({"id": f"x{row}", "messages": turns}) + "\n")


class Step:
    """What the steps share: the pool's file, a model for its tokenizer, a cache."""

    def __init__(self, place: Path, rows: int, workers: int) -> None:
        self.place, self.rows, self.workers = place, rows, workers

    def prepare(self, name: str) -> Callable[[], object]:
        """What to time, when all that comes before it is there."""
        from paydirt.core.config import parse
        from paydirt.data.pool import PoolConfig, open_pool
        from paydirt.execution import Local
        from paydirt.stages import ScoreStage, SelectStage, Workspace, score, select
        from paydirt.stages_data import DedupStage, run_dedup

        files = {"files": [str(self.place / "pool.jsonl")]}
        cache = self.place / "cache"
        workspace = Workspace(cache, executor=Local(self.workers))
        if name == "import":
            return lambda: open_pool(PoolConfig(**files), cache)
        if name == "dedup":
            stage = parse(DedupStage, {"pool": files})
            workspace.pool(stage.pool)
            return lambda: run_dedup(stage, self.place / "dedup", workspace)
        if name == "matching":
            return self.matching()
        model = {"path": str(self.place / "tiny/model"), "device": "cpu"}
        target = {"name": "some", "references": str(self.place / "references.jsonl")}
        values = {"pool": files, "target": target, "method": "bm25", "model": model, "encoding": {"max_length": 512}}
        scores = parse(ScoreStage, values)
        pool = workspace.pool(scores.pool)
        if name == "tokens":
            assert scores.model is not None
            workspace.encoder(scores.model, scores.encoding)
            return lambda: workspace.tokens(scores.pool, scores.model, scores.encoding)
        if name == "bm25":
            workspace.tokens(scores.pool, scores.model, scores.encoding)  # type: ignore[arg-type]
            return lambda: score(scores, self.place / "bm25", workspace)
        assert len(pool) == self.rows
        chosen = {"pool": files, "scores": str(self.place / "bm25"), "selection": {"policy": name}}
        cut = parse(SelectStage, chosen | {"budget": {"fraction": 0.05}})
        return lambda: select(cut, self.place / name, workspace)

    def matching(self) -> Callable[[], object]:
        import torch
        from matching import make_store

        from paydirt.gradients.influence import score_stores
        from paydirt.gradients.store import Store

        place = self.place / "store"
        store = Store(place) if (place / "index.json").exists() else make_store(place, self.rows, 1024, "int8")
        references = torch.randn(285, 1024, generator=torch.Generator().manual_seed(2)) + 0.1
        names = [f"subtask-{row % 57}" for row in range(285)]
        return lambda: [None for _ in score_stores([store], [references], names, [1.0])]


def made(place: Path, rows: int) -> Path:
    """A folder with the pool's file, references and a tiny model."""
    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.models.tiny import tiny_model

    place.mkdir()
    write_pool(place / "pool.jsonl", rows)
    lines = (place / "pool.jsonl").open(encoding="utf-8")
    few = [line for line, _ in zip(lines, range(500))]
    (place / "few.jsonl").write_text("".join(few), encoding="utf-8")
    asked = [json.loads(line) | {"subtask": f"subtask {row % 5}"} for row, line in enumerate(few[:20])]
    (place / "references.jsonl").write_text("".join(json.dumps(r) + "\n" for r in asked), encoding="utf-8")
    tiny_model(open_pool(PoolConfig(files=str(place / "few.jsonl")), place / "few"), place / "tiny")
    return place


def one(place: Path, rows: int, workers: int, step: str) -> None:
    """In a process of its own: seconds and peak MB as JSON."""
    work = Step(place, rows, workers).prepare(step)
    held = peak_mb()
    start, before = time.perf_counter(), sum(os.times()[:4])
    work()
    took, cpu = time.perf_counter() - start, sum(os.times()[:4]) - before
    print(json.dumps({"seconds": took, "cpu": cpu, "memory": peak_mb() - held}))


def peak_mb() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000])
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.place:
        one(arguments.place, arguments.rows[0], arguments.workers, arguments.steps[0])
        return
    before: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in arguments.rows:
            place = made(Path(folder) / str(rows), rows)
            wanted = set(arguments.steps) | ({"bm25"} if {"top", "round_robin"} & set(arguments.steps) else set())
            for step in (step for step in STEPS if step in wanted):
                command = [sys.executable, __file__, "--place", place, "--rows", rows, "--steps", step]
                env = {**os.environ, "PAYDIRT_CACHE": str(place / "cache")}
                done = subprocess.run(
                    [*map(str, command), "--workers", str(arguments.workers)],
                    env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                )  # fmt: skip
                found = json.loads(done.stdout.splitlines()[-1])
                last, grew = before.get(step), ""
                if last:
                    grew = f"; {found['cpu'] / last['cpu']:.1f}x the CPU time"
                before[step] = found
                numbers = f"{found['seconds']:8.2f} s {found['cpu']:8.2f} s of CPU {found['memory']:+7.0f} MB"
                print(f"{rows:>9} {step:12} {numbers}{grew}", flush=True)


if __name__ == "__main__":
    main()
