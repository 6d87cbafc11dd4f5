"""Node and Chromium, each with its build of onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_lra.pipeline import ExportRequest, export
from tests.language.models import TEXT, write_adapter, write_model
from tests.runtime.js.chromium import Chromium
from tests.runtime.js.hosts import PHONE, Host, Web


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    """Yield a browser."""
    browser = Chromium(f"--host-resolver-rules=MAP {PHONE} 127.0.0.1")
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


@pytest.fixture(scope="session")
def long_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a language model whose context holds prompts of several chunks, float32."""
    folder = tmp_path_factory.mktemp("long")
    base = write_model(folder / "base", tokenizer=False)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 1024}))
    request = ExportRequest(folder / "long.edge", str(base), scheme="none", verify=False)
    return export(request)


@pytest.fixture(scope="session")
def proven_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a language model with two adapters and golden prompts, float32."""
    folder = tmp_path_factory.mktemp("language")
    (folder / "texts.txt").write_text(TEXT)
    adapters = [(name, write_adapter(folder / name, seed=seed)) for seed, name in enumerate("ab")]
    request = ExportRequest(
        folder / "proven.edge",
        str(write_model(folder / "base")),
        adapters=adapters,
        mode="factored",
        scheme="none",
        data=folder / "texts.txt",
    )
    return export(request)
