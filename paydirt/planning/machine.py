"""What is measured of this machine, and remembered: in the cache under `probes/`, keyed by all that numbers depend on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import fingerprint, library_versions, write_atomic
from paydirt.core.progress import console, say
from paydirt.data.tally import opened

VERSION = 2  # raise when a measurement means something else
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "sentence-transformers")


@lru_cache
def machine() -> dict[str, Any]:
    """Who this machine is: name, processor, cores."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"name": platform.node(), "processor": model, "cores": os.cpu_count()}


def remembered(
    cache: Path, kind: str, settings: dict[str, Any], work: Callable[[], dict[str, Any]], measure: bool
) -> dict[str, Any] | None:
    """Numbers that `work` measured on this machine, now or before; None where it has not, and may not now."""
    who = {"machine": machine(), "libraries": library_versions(LIBRARIES), "version": VERSION, **settings}
    place = cache / "probes" / f"{kind}-{fingerprint([kind, who])}.json"
    try:
        found = json.loads(place.read_text(encoding="utf-8"))["numbers"]
        if isinstance(found, dict):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if not measure:
        return None
    say(f"measuring {kind} on this machine")
    with _alone():
        numbers = work()
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps({"kind": kind, **who, "numbers": numbers}, indent=1, default=str))
    return numbers


@contextmanager
def _alone() -> Iterator[None]:
    """What is run only to be timed says nothing, and its pools are not shown at the end."""
    before, shown = console.quiet, dict(opened)
    console.quiet = True
    try:
        yield
    finally:
        console.quiet = before
        opened.clear()
        opened.update(shown)


def starting(cache: Path, measure: bool, models: bool = True) -> dict[str, Any] | None:
    """Seconds and bytes of a process that has imported what its stages need: with what runs `models`, or without."""

    def work() -> dict[str, Any]:
        needed = "import paydirt.cli, paydirt.stages, paydirt.stages_data, resource\n"
        if models:
            needed += "import paydirt.training.train, paydirt.models.forward, peft\n"
        code = needed + "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        unit = 1 if sys.platform == "darwin" else 1024
        size = int(done.stdout.split()[-1]) * unit if done.returncode == 0 else 0
        return {"seconds": time.perf_counter() - began, "bytes": size}

    return remembered(cache, "start", {"models": models}, work, measure)
