"""Where the runner for JavaScript runs in tests: Node, and a page in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import edge_lra
from tests.runtime.js.chromium import Chromium, Page

ROOT = Path(edge_lra.__file__).parent.parent
PACKAGE = ROOT / "runtime/js"
HERE = Path(__file__).parent
PHONE = "phone.test"  # this machine by a name that no browser takes for a secure context
Call = Sequence[Any]  # a method's name and its arguments


@dataclass(frozen=True)
class Refused(Exception):
    """What the runner threw."""

    name: str
    code: str | None
    message: str
    text: str = field(compare=False)


def value_of(answer: Mapping[str, Any]) -> Any:
    """Return what was answered, or raise what was thrown."""
    if "error" in answer:
        raise Refused(*(answer["error"].get(key) for key in ("name", "code", "message", "text")))
    return answer.get("value")


class Host:
    """Something that answers the requests of driver.mjs."""

    name = ""

    def ask(self, *requests: Mapping[str, Any]) -> list[Any]:
        """Return the answers of one process or page."""
        raise NotImplementedError

    def place(self, folder: Path) -> str:
        """Return how this host names a folder."""
        raise NotImplementedError

    def call(
        self,
        bundle: Path,
        *calls: Call,
        load: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Load a bundle, call methods of its runner in turn and return what they return.

        Raises:
            Refused: loading or a call failed.
        """
        return [
            value_of(answer) for answer in self.answers(bundle, *calls, load=load, source=source)
        ]

    def answers(
        self,
        bundle: Path,
        *calls: Call,
        load: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """As `call`, but failed calls are answers, too.

        Raises:
            Refused: loading failed.
        """
        request = {
            "verb": "call",
            "bundle": self.place(bundle),
            "calls": calls,
            "load": {"threads": 1, **(load or {})},
            "source": source or {},
        }
        found = value_of(self.ask(request)[0])
        value_of(found["loaded"])
        answers: list[Any] = found["answers"]
        return answers


class Node(Host):
    """One process of Node with onnxruntime-node; close it."""

    name = "node"

    def __init__(self, cache: Path) -> None:
        """Take the cache folder in which runners remember what they checked."""
        self._process = subprocess.Popen(
            ["node", HERE / "node.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            text=True,
        )

    def ask(self, *requests: Mapping[str, Any]) -> list[Any]:
        """Return the process's answers."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line.startswith("["), line + self._process.stdout.read()
        answers: list[Any] = json.loads(line)
        return answers

    def place(self, folder: Path) -> str:
        """Return the path."""
        return str(folder)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Web(Host):
    """A page with onnxruntime-web, below a static server that this class runs."""

    name = "web"

    def __init__(self, browser: Chromium, root: Path, alias: str | None = None) -> None:
        """Serve a folder, which gets links to what the page needs.

        Args:
            browser: shows the page.
            root: an empty folder.
            alias: a name of this machine in the page's address.
        """
        self._browser = browser
        self._root = root
        for name in ("harness.html", "driver.mjs"):
            shutil.copy(HERE / name, root / name)
        (root / "js").symlink_to(PACKAGE)
        self._server = Server(root, alias)
        self._page: Page | None = None

    @property
    def page(self) -> Page:
        """The page, opened when it is first needed."""
        if self._page is None:
            self._page = self._browser.page()
            self._page.open(f"{self._server.address}/harness.html")
            self._page.wait("globalThis.ask")
        return self._page

    def ask(self, *requests: Mapping[str, Any]) -> list[Any]:
        """Return the answers of the page."""
        answers: list[Any] = json.loads(self.page.evaluate(f"ask({json.dumps(requests)})"))
        return answers

    def place(self, folder: Path) -> str:
        """Return an address below the server."""
        link = self._root / "folders" / str(abs(hash(folder))) / folder.name
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(folder)
        return f"{self._server.address}/{link.relative_to(self._root)}"

    def close(self) -> None:
        """Stop the server."""
        self._server.close()


class Server:
    """A folder, served on this machine as Python's own static server does it."""

    def __init__(self, root: Path, alias: str | None = None) -> None:
        """Serve in a thread, on a free port; the alias is for the address alone."""
        self._name = alias or "127.0.0.1"
        handler = partial(_Quiet, directory=str(root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://{self._name}:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def built() -> None:
    """Hold that the package is built."""
    for name in ("dist/.ready", "node_modules/.ready"):
        assert (PACKAGE / name).exists(), f"found no {PACKAGE / name}; run `make runtime-js`"


@pytest.fixture(scope="session")
def node(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Yield Node."""
    node = Node(tmp_path_factory.mktemp("cache"))
    yield node
    node.close()
