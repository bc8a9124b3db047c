"""The page in headless Chromium: nothing wider than the window, no errors, light and dark. Skipped without Chromium."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from paydirt.report.build import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; apt-get install chromium to run this test")

# Opens every <details>, then names what sticks out of the window outside a scrolling container.
PROBE = """<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message)));
addEventListener('load', () => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const root = document.documentElement;
  const out = [...document.querySelectorAll('body *')].filter(e =>
    !e.closest('.scroll') && e.getBoundingClientRect().right > root.clientWidth + 1);
  const clipped = [...document.querySelectorAll('.chart text')].filter(t => {
    const box = t.getBoundingClientRect(), chart = t.closest('svg').getBoundingClientRect();
    return box.right > chart.right + 1 || box.left < chart.left - 1 || box.top < chart.top - 1
      || box.bottom > chart.bottom + 1;
  });
  root.dataset.probe = JSON.stringify({
    window: innerWidth, wide: root.scrollWidth - root.clientWidth, errors,
    out: out.map(e => e.outerHTML.slice(0, 120)), clipped: clipped.map(t => t.textContent),
    charts: document.querySelectorAll('.chart').length, paper: getComputedStyle(document.body).backgroundColor,
  });
});
</script></head>"""


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    base = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    command = [*base, f"--user-data-dir={profile}", "--enable-logging=stderr", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (700, "dark")])
def test_nothing_overflows(study: Path, tmp_path: Path, width: int, scheme: str) -> None:
    text = write_report(study).read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</head>", PROBE, 1)
    probed = tmp_path / "probed.html"
    probed.write_text(text, encoding="utf-8")
    preferred = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    seen = browse(probed, tmp_path / "profile", f"--window-size={width},2000", preferred, "--dump-dom").stdout
    found = re.search(r'data-probe="([^"]*)"', seen)
    assert found, "the page did not finish loading"
    probe = json.loads(unescape(found[1]))
    assert probe["window"] == width
    assert (probe["wide"], probe["out"], probe["clipped"], probe["errors"]) == (0, [], [], [])
    assert probe["charts"] == 1
    red = int(re.findall(r"\d+", probe["paper"])[0])
    assert (red < 80) == (scheme == "dark")


def test_the_console_is_silent(study: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    done = browse(write_report(study), tmp_path / "profile", "--window-size=1280,2000", f"--screenshot={shot}")
    assert "CONSOLE" not in done.stderr
    assert shot.stat().st_size > 10_000
