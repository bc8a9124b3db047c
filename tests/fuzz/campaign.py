"""Many fuzzed commands: `python tests/fuzz/campaign.py --commands 10000 --out fuzz.jsonl`; a table of how they ended.

Each line of the output is one broken law: kind, number, faults, command, end of its error text. Cases are numbered, so a
line is run again with `--kind KIND --first NUMBER --commands 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

from support.fuzz.cases import KINDS  # noqa: E402
from support.fuzz.ground import Ground, build  # noqa: E402
from support.fuzz.judge import LIMIT, try_case  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=800)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds after which a command counts as endless")
    parser.add_argument("--out", type=Path, default=Path("fuzz.jsonl"))
    parser.add_argument("--ground", type=Path, help="keep the good files here and use them again")
    options = parser.parse_args()
    kinds = options.kind or sorted(KINDS)
    root = Path(tempfile.mkdtemp(prefix="paydirt-fuzz-"))
    place = (options.ground or root / "ground").absolute()
    ground = Ground(place) if (place / "runs" / "study" / "results.parquet").exists() else build(place)
    _ = ground.options
    each = -(-options.commands // len(kinds))
    todo = [(kind, number) for number in range(options.first, options.first + each) for kind in kinds][
        : options.commands
    ]
    ended: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    with open(options.out, "w", encoding="utf-8") as log, ThreadPoolExecutor(options.jobs) as pool:

        def work(case: tuple[str, int]) -> None:
            kind, number = case
            found, line, done = try_case(ground, kind, number, root / "cases" / f"{kind}-{number}", options.limit)
            ended[kind, ", ".join(found) or f"exit {done.code}"] += 1
            if found:
                log.write(
                    json.dumps(
                        {
                            "kind": kind,
                            "number": number,
                            "faults": found,
                            "command": line[:2000],
                            "err": done.err[-3000:],
                        }
                    )
                    + "\n"
                )
                log.flush()

        list(pool.map(work, todo))
    broken = 0
    for (kind, how), count in sorted(ended.items()):
        print(f"{kind:12} {how:50} {count:6}")
        broken += 0 if how in ("exit 0", "exit 2") else count
    print(f"{len(todo)} commands, {broken} broke the law, {time.monotonic() - started:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
