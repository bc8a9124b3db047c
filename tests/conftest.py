"""What every test gets: no network, one thread, a cache of its own; and the tiny model, pool and target as files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# No test may read or leave anything in the person's own cache.
os.environ["PAYDIRT_CACHE"] = tempfile.mkdtemp(prefix="paydirt-test-cache-")

import pytest
from support import data, models
from support.stages import Tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny Llama with its byte-level tokenizer."""
    return models.save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Tiny:
    """A pool of 60 examples in 3 sources, a target of 2 subtasks, labels and a model, all on disk."""
    return Tiny(data.write_all(tmp_path_factory.mktemp("data")), tiny_model)


@pytest.fixture
def paydirt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line in this process: `paydirt("select", ...)` gives (exit code, stdout, stderr)."""
    from support.command import call

    return lambda *arguments: call(monkeypatch, capsys, [str(a) for a in arguments])


@pytest.fixture
def shared() -> Path:
    """The real data beside the repository; the test is skipped where there is none."""
    return data.shared_data()


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write records (dicts, or lines of text as they are) to `name`; returns the path."""

    def write(name: str, *records: dict[str, Any] | str) -> str:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return write
