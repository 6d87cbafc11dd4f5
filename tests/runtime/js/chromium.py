"""Headless Chromium over the DevTools protocol, through a pipe: no port, and no library for it."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    "--remote-debugging-pipe",  # reads descriptor 3 and writes 4
)
ANSWER_S = 120.0


class Chromium:
    """A browser of its own profile; close it."""

    def __init__(self, *flags: str) -> None:
        found = [path for path in map(shutil.which, NAMES) if path]
        if not found:
            raise AssertionError(
                f"found none of {', '.join(NAMES)} on PATH; `make chromium` installs one"
            )
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        # Above 4, so that neither is overwritten by the other.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]
        log = Path(self._folder.name) / "log"
        command = [found[0], *FLAGS, *flags, f"--user-data-dir={self._folder.name}/profile"]
        self._process = os.posix_spawn(
            found[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
            ],
            setpgroup=0,
        )
        for fd in (theirs_in, theirs_out, *ends):
            os.close(fd)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._pages: dict[str, Page] = {}

    def page(self, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """Open an empty page of a size, which records all that it asks of others."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, attached["sessionId"], target)
        self._pages[attached["sessionId"]] = page
        for domain in ("Network", "Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        return page

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while True:
            answer = self._receive(end, method)
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            page = self._pages.get(answer.get("sessionId", ""))
            if page is not None:
                page.note(answer["method"], answer["params"])

    def close(self) -> None:
        """End the browser and its helpers, and forget its profile."""
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._write)
        os.close(self._read)
        self._folder.cleanup()

    def _receive(self, end: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._read, 1 << 20) if ready else b""
            if not block:
                log = (Path(self._folder.name) / "log").read_text(errors="replace")
                raise AssertionError(f"{method}: Chromium did not answer: {log[-2000:]}")
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Page:
    """A page, the addresses it asked for and the errors it showed."""

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.requests: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol in this page."""
        return self._browser.call(method, self._session, **params)

    def open(self, address: str) -> None:
        """Go to an address, and wait until its scripts have run."""
        self.call("Page.navigate", url=address)
        self.wait(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return an expression's value, or what its promise gives, through JSON."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition}: not within {seconds} s; {self.errors}"
            time.sleep(0.05)

    def screenshot(self, image: Path) -> None:
        """Write the whole page as a PNG."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        image.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def note(self, method: str, params: Mapping[str, Any]) -> None:
        """Keep what an event of the page tells."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
