"""BM25 against rank_bm25 in one run: index plus scoring of the same documents and queries, ratio and peak memory.

    python benchmarks/bm25.py [--documents 20000] [--target mmlu]

Both score every document for every subtask's query, from texts in memory to a score matrix; the matrices must agree.
rank_bm25 is timed on the first `--queries` queries and scaled to all of them (its cost is the same for each word of a
query); its index is timed whole. Reads ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

SHARED = Path(os.environ.get("PAYDIRT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--target", default="mmlu")
    parser.add_argument("--queries", type=int, default=6, help="queries that rank_bm25 is timed on")
    args = parser.parse_args()
    if not SHARED.exists():
        raise SystemExit(f"{SHARED}: no test data there; set PAYDIRT_SHARED")
    from rank_bm25 import BM25Okapi

    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.scorers.bm25 import BM25, words
    from paydirt.scoring.base import Job
    from paydirt.tasks import TargetConfig, load_target

    with tempfile.TemporaryDirectory() as folder:
        pool = open_pool(PoolConfig(files=str(SHARED / "data/train/*.jsonl.gz")), Path(folder))
        stride = max(1, len(pool) // args.documents)
        rows = np.arange(0, len(pool), stride)[: args.documents]
        texts = ["\n".join(m.content for m in e.messages) for e in pool.take(rows)]
        target = load_target(TargetConfig(name=args.target, data=str(SHARED / "data/eval")))
        queries = [words("\n".join(target.references[i].prompt for i in g)) for g in target.by_subtask().values()]

        class Texts:
            """The texts as a pool, so that both sides start from strings in memory."""

            def __len__(self) -> int:
                return len(texts)

            def texts(self, start: int, stop: int, part: str) -> list[str]:
                return texts[start:stop]

        job = Job(Texts(), target, Path(folder), Path(folder))  # type: ignore[arg-type]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, busy = time.perf_counter(), time.process_time()
        scorer = BM25()
        state = scorer.prepare(job)
        indexed, reading = time.perf_counter() - started, time.process_time() - busy
        ours = np.concatenate([scorer.score_rows(job, state, rows) for rows in job.blocks()])
        seconds, working = time.perf_counter() - started, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        started = time.perf_counter()
        index = BM25Okapi([words(t) for t in texts])
        rank_index = time.perf_counter() - started
        started = time.perf_counter()
        timed = queries[: args.queries]
        theirs = np.stack([index.get_scores(q) for q in timed], axis=1)
        per_word = (time.perf_counter() - started) / sum(map(len, timed))
        rank_total = rank_index + per_word * sum(map(len, queries))

    gap = float(np.abs(ours[:, : len(timed)] - theirs).max())
    n_words = sum(map(len, queries))
    print(f"{len(texts)} documents, {len(queries)} queries, {n_words} query words; shards of {job.shard_rows}")
    print(f"paydirt    index {indexed:.2f} s, index and scoring {seconds:.2f} s")
    print(
        f"rank_bm25  index {rank_index:.2f} s, index and scoring {rank_total:.1f} s (scaled from {len(timed)} queries)"
    )
    tokens, pairs = sum(map(len, texts)) / 4, len(texts) * len(queries)
    print(f"processor: {reading / tokens * 1e6:.3f} us a token of 4 letters to index, "
          f"{(working - reading) / pairs * 1e6:.4f} us a document and query to score")  # fmt: skip
    print(f"ratio {rank_total / seconds:.0f}x; largest difference of a score {gap:.1e}")
    print(
        f"peak memory of paydirt's part: {peak / 1024:.0f} MB in all, {(peak - before) / 1024:.0f} MB above the texts"
    )


if __name__ == "__main__":
    main()
