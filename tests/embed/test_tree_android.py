"""The Android runner, embedded: its Java, and the code that is written for it, compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_lra.embed import EmbedRequest, embed
from tests.runtime.android.toolchain import HERE, LIBRARIES, compile_java, java_files

pytestmark = pytest.mark.usefixtures("real_sources")


def test_java_compiles(bundle: Path, app: Path, tmp_path: Path) -> None:
    embed(EmbedRequest(bundle, "android", app))
    stubs = compile_java(java_files(HERE / "stubs"), tmp_path / "stubs")
    given: Sequence[Path] = (*LIBRARIES, stubs)
    library = compile_java(java_files(app / "edgelra/src/main/java"), tmp_path / "out", *given)
    for split in (False, True):
        found = embed(EmbedRequest(bundle, "android", app, split))
        file = tmp_path / f"{split}/EdgeModel.java"
        file.parent.mkdir()
        file.write_text(found.call.code)
        compile_java([file], file.parent, library, *given)
    assert (app / "edgelra/build.gradle.kts").is_file()
