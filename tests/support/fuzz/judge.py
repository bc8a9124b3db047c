"""The law of every command, whatever it is given: it ends with 0 or 2, without a traceback, in its time.

And of every pool that was read: what was read is what was kept and what was counted as skipped or left out.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from random import Random

import pyarrow.parquet

from support.fuzz.cases import KINDS
from support.fuzz.ground import Ground
from support.fuzz.process import Outcome, call

LIMIT = 60.0  # seconds; a good command on these files takes one to five


def faults(done: Outcome) -> list[str]:
    """What breaks the law; [] is well."""
    if done.code is None:
        return [f"no end after {done.seconds:.0f} s"]
    found = [] if done.code in (0, 2) else [f"exit status {done.code}"]
    if "Traceback (most recent call last)" in done.text:
        found.append("traceback")
    if done.code == 2 and "error" not in done.text.lower():
        found.append("exit status 2 without a word of error")
    return found


def miscounts(out: Path) -> list[str]:
    """Where the account of a finished artifact's pool does not add up, or is not there."""
    account = json.loads((out / "manifest.json").read_text())["notes"].get("pool")
    if not isinstance(account, dict):
        return ["no account of the pool"]
    counted = sum(entry["count"] for kind in ("skipped", "left out") for entry in account.get(kind, {}).values())
    if account["read"] != account["kept"] + counted:
        return [f"{account['read']} records read, {account['kept']} kept and {counted} counted"]
    found = []
    for file in account["files"]:
        path = Path(file)
        if path.suffix == ".jsonl" and path.is_file() and len(account["files"]) == 1:
            lines = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n"))
            found += [] if lines == account["read"] else [f"{lines} lines, {account['read']} records read"]
    rows = out / "rows.parquet"
    if rows.is_file() and pyarrow.parquet.read_metadata(rows).num_rows != account["kept"]:
        found.append("scores of another number of examples than were kept")
    return found


def try_case(
    ground: Ground, kind: str, number: int, folder: Path, limit: float = LIMIT
) -> tuple[list[str], str, Outcome]:
    """Faults of case `number` of a kind, its command line, and how it ended; the folder is emptied where it was well."""
    folder.mkdir(parents=True)
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # while this process makes what is too deep for the command
    try:
        arguments = KINDS[kind](ground, Random(f"{kind}-{number}"), folder)
    finally:
        sys.setrecursionlimit(usual)
    done = call(arguments, folder, limit, cache=folder / ".cache")
    found = faults(done)
    if kind == "pools" and done.code == 0 and (folder / "out" / "manifest.json").exists():
        found += miscounts(folder / "out")
    line = "paydirt " + " ".join(repr(a) if not a.isascii() or " " in a or len(a) > 200 else a for a in arguments)
    if not found:
        shutil.rmtree(folder, ignore_errors=True)
    return found, line, done
