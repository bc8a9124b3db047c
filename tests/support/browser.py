"""Headless Chromium that a test drives by real clicks and keys, over the two pipes of its debugging protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]


class Browser:
    """One page. `errors` holds what its console and scripts complained of."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing, self.number, self.rest = reading, writing, 0, b""
        self.errors: list[str] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.asked: list[str] = []

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """One command of the protocol; what it returns."""
        self.number += 1
        sent: dict[str, Any] = {"id": self.number, "method": method, "params": values}
        if self.session:
            sent["sessionId"] = self.session
        os.write(self.writing, json.dumps(sent).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self.number:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]  # type: ignore[no-any-return]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.reading, 1 << 20)
            assert part, "the browser has ended"
            self.rest += part
        line, self.rest = self.rest.split(b"\0", 1)
        said: dict[str, Any] = json.loads(line)
        inside = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            fault = inside["exceptionDetails"]
            self.errors.append(str(fault.get("exception", {}).get("description") or fault["text"]))
        if said.get("method") == "Log.entryAdded" and inside["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{inside['entry']['text']} {inside['entry'].get('url', '')}")
        if said.get("method") == "Network.requestWillBeSent":
            self.asked.append(inside["request"]["url"])
        return said

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """Load a file and wait until it is there."""
        scale = 2 if phone else 1
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.errors.clear(), self.asked.clear()
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete'")

    def js(self, code: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{code}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait(self, true: str, seconds: float = 30) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.js(true):
            assert time.monotonic() < end, f"not within {seconds} s: {true}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press and release the left button in the middle of the first element that is found, scrolled into sight."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const r = e.getBoundingClientRect(); const x = r.left + r.width / 2, y = r.top + r.height / 2;"
            " const hit = document.elementFromPoint(x, y);"
            " return {x, y, hit: hit !== null && (e === hit || e.contains(hit) || hit.contains(e))}; })()"
        )
        assert box["hit"], f"{selector} is covered by something else, or out of sight"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box["x"], y=box["y"], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Click into a field, empty it, and write."""
        self.click(selector)
        self.js(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, label: str) -> None:
        """Take an option of a <select> by what it says."""
        self.js(
            f"(() => {{ const s = document.querySelector({json.dumps(selector)});"
            f" const o = [...s.options].find(o => o.textContent === {json.dumps(label)});"
            " s.value = o.value; s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def text(self, selector: str) -> str:
        return str(self.js(f"document.querySelector({json.dumps(selector)}).textContent"))

    def count(self, selector: str) -> int:
        return int(self.js(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def shot(self, path: Path, whole: bool = False) -> Path:
        """A picture of the window, or of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))
        return path


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended at the end."""
    to_it, ours = os.pipe()
    theirs, from_it = os.pipe()

    def pipes() -> None:  # the protocol's two are 3 and 4
        reading, writing = os.dup(to_it), os.dup(from_it)
        high = [os.dup2(fd, 100 + n) for n, fd in enumerate((reading, writing))]
        os.dup2(high[0], 3), os.dup2(high[1], 4)

    base = [str(PROGRAM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *QUIET]
    process = subprocess.Popen(
        [*base, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
        preexec_fn=pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_it), os.close(from_it)
    try:
        yield Browser(theirs, ours)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours), os.close(theirs)
