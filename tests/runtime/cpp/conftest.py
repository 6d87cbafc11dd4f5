"""Bundles for the C++ runner: tiny ones to break, and a language model with a long context."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runner import tiny_decoder as decoder
from tests.runtime.cpp.bundles import write_tiny
from tests.runtime.cpp.places import TOOL

LONG_CONTEXT = 1100


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stamps of checks out of the user's cache, and tell what is missing."""
    assert TOOL.is_file(), f"found no {TOOL}, expected what `make cpp` builds"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.edge")


@pytest.fixture
def tiny_bundle(tiny_whole: Path, tmp_path: Path) -> Path:
    """Return a tiny factored bundle that a test may break."""
    return shutil.copytree(tiny_whole, tmp_path / "tiny.edge")


@pytest.fixture(scope="session")
def long_decoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return language models, merged and factored, whose prompts take several chunks."""
    folder = tmp_path_factory.mktemp("long")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "CONTEXT", LONG_CONTEXT)
        model = decoder.random_llama()
        factors = {name: decoder.random_adapter(model, rank, rank) for name, rank in RANKS.items()}
        write: Callable[..., Any] = decoder.write_bundle
        return {
            "merged": write(folder / "merged.edge", model, scheme="none"),
            "factored": write(folder / "factored.edge", model, factors, scheme="none"),
        }


RANKS = {"one": 4, "two": 8}
