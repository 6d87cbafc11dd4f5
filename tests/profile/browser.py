"""A page in headless Chromium: what it shows, by a probe that is put into a copy of it."""

from __future__ import annotations

import html
import html.parser
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
)
SCHEMES = {"dark": "0", "light": "1"}  # as blink's settings number them
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
# Functions that probes share.
HELPERS = """
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const box = (element) => element.getBoundingClientRect();
const channels = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
  .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (one, two) => {
  const [high, low] = [light(one), light(two)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
"""


def probe(page: Path, script: str, width: int = 1280, scheme: str = "light") -> Any:
    """Return what a script's last `return` gives in a page, which by itself allows no script.

    The page is shown in a frame: a window is never narrower than 500 pixels.
    """
    text = page.read_text(encoding="utf-8")
    assert POLICY in text
    running = (
        f"<script>{HELPERS}parent.document.documentElement.dataset.found = JSON.stringify("
        f"(() => {{ {script} }})());</script></body>"
    )
    allowed = text.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'")
    inside = html.escape(allowed.replace("</body>", running))
    frame = page.with_name(f"framed-{page.name}")
    frame.write_text(
        "<!doctype html><meta charset='utf-8'><style>:root { color-scheme: light dark }</style>"
        f"<iframe style='border: 0' width='{width}' height='900' srcdoc=\"{inside}\"></iframe>",
        encoding="utf-8",
    )
    shown = _chromium(frame, width + 100, scheme, "--dump-dom").decode()
    reader = _Found()
    reader.feed(shown)
    assert reader.found is not None, shown[-2000:]
    return json.loads(reader.found)


def screenshot(page: Path, image: Path, width: int, height: int, scheme: str) -> None:
    """Write what the page shows as a PNG."""
    _chromium(page, width, scheme, f"--screenshot={image}", height=height)


def load(page: Path) -> None:
    """Open the page as it is, for what it asks of others."""
    _chromium(page, 800, "light", "--dump-dom")


def _chromium(page: Path, width: int, scheme: str, *more: str, height: int = 900) -> bytes:
    found = [path for path in map(shutil.which, NAMES) if path]
    if not found:
        pytest.fail(f"found none of {', '.join(NAMES)} on PATH; `make chromium` installs one")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = (
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        )
        command = (found[0], *FLAGS, *options, *more, page.as_uri())
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return done.stdout


class _Found(html.parser.HTMLParser):
    found: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "html":
            self.found = dict(attrs).get("data-found")
