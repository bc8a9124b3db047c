"""Law: where a model is neither here nor to be had, that is said at once, not after minutes of asking again.

The hub is a server on this machine that has an outage; the client is the real one.
"""

from __future__ import annotations

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
        (("score", "embed"), "use --encoder minilm"),
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
