"""A hub on this machine: as much of its protocol as a client needs to make a data set and upload files to it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What was asked for and uploaded: `repos` by name with what was said of them, `files` by repository and path."""

    token: str
    url: str = ""
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def hub(token: str = "hf_stand_in") -> Iterator[Hub]:
    """The hub while the block runs, at `url`; requests without its token are refused."""
    state = Hub(token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                out = b""
                while size := int(self.rfile.readline(), 16):
                    out += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return out
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_GET(self) -> None:
            state.asked.append(f"GET {self.path}")
            self.answer({"error": "not here"}, 404)

        def do_POST(self) -> None:
            state.asked.append(f"POST {self.path}")
            said = self.body()
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {state.token}":
                return self.answer({"error": "Invalid credentials"}, 401)
            if self.path == "/api/repos/create":
                values = json.loads(said)
                name = f"{values.get('organization')}/{values['name']}"
                state.repos[name] = values
                return self.answer({"url": f"{state.url}/datasets/{name}", "name": name})
            name, _, what = self.path.removeprefix("/api/datasets/").partition("/preupload/")
            if what:
                files = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(said)["files"]]
                return self.answer({"files": files})
            name, _, what = self.path.removeprefix("/api/datasets/").partition("/commit/")
            if what:
                kept = state.files.setdefault(name, {})
                for line in said.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        kept[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                oid = "0" * 40
                return self.answer({"commitUrl": f"{state.url}/datasets/{name}/commit/{oid}", "commitOid": oid})
            return self.answer({"error": f"unknown {self.path}"}, 404)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
