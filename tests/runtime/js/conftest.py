"""Node and Chromium, each with its build of onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.js.chromium import Chromium
from tests.runtime.js.hosts import PACKAGE, Host, Node, Web


@pytest.fixture(scope="session")
def built() -> None:
    """Hold that the package is built."""
    for name in ("dist/.ready", "node_modules/.ready"):
        assert (PACKAGE / name).exists(), f"found no {PACKAGE / name}; run `make runtime-js`"


@pytest.fixture(scope="session")
def node(built: None, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Return Node."""
    return Node(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """Yield a browser."""
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def web(built: None, browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """Yield a page in it."""
    web = Web(browser, tmp_path_factory.mktemp("served"))
    yield web
    web.close()


@pytest.fixture(scope="session", params=["node", "web"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return each of the two."""
    found: Host = request.getfixturevalue(request.param)
    return found
