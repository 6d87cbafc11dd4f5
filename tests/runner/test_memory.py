"""A bundle that cannot fit in memory is refused before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_lra.errors import EdgeError
from edge_lra.runner import Generator, memory
from edge_lra.runner.memory import PROCESS_BYTES, cache_bytes, check_load, session_bytes, unshared
from tests.language.models import write_model

GIB = 2**30
DECODER = {"cache": [{}] * 64, "kv_heads": 32, "head_size": 128}


def manifest(scheme: str = "int8", **changes: Any) -> dict[str, Any]:
    files = {"model.onnx.data": {"size": 7 * GIB}, "tokenizer.json": {"size": 2**22}}
    return {"files": files, "scheme": scheme, "decoder": DECODER, **changes}


def test_memory_is_the_weights_by_the_scheme_and_the_cache() -> None:
    assert session_bytes(manifest("int8")) == PROCESS_BYTES + int(7 * GIB * 1.1)
    assert session_bytes(manifest("int8-weight-only")) > session_bytes(manifest("int8"))
    packed = manifest("int8-weight-only", prepacked={"onnxruntime": "1.32.0"})
    assert session_bytes(packed) == PROCESS_BYTES + int(7 * GIB * 1.05)  # copies are in the file
    shared = DECODER | {"shared_bytes": GIB}
    assert session_bytes(manifest("int4", decoder=shared)) == PROCESS_BYTES + int(8 * GIB * 1.4)
    assert unshared(manifest(decoder=shared)) == DECODER | {"shared_bytes": 0}
    assert cache_bytes(DECODER, tokens=4096, rows=2) == 64 * 2 * 32 * 4096 * 128 * 4


@pytest.mark.parametrize(
    ("free", "tokens", "message"),
    [
        (7 * GIB, 0, r"found 7\.00 GiB of free memory, expected 7\.76 for the weights; .*quantize"),
        (9 * GIB, 4096, r"9\.00 .* 7\.76 .* and 4\.00 for the cache of 1 x 4096 .*--context"),
    ],
)
def test_the_error_gives_the_figures(
    free: int, tokens: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: free)
    with pytest.raises(EdgeError, match=message):
        check_load(Path("x.edge"), manifest(), tokens)
    monkeypatch.setattr(memory, "available_bytes", lambda: 12 * GIB)
    check_load(Path("x.edge"), manifest(), tokens)
    monkeypatch.setattr(memory, "available_bytes", lambda: None)  # without psutil
    check_load(Path("x.edge"), manifest(), tokens)


def test_a_small_bundle_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> int:
        raise AssertionError

    monkeypatch.setattr(memory, "available_bytes", ask)
    small = manifest() | {"files": {"model.onnx.data": {"size": 2**20}}, "decoder": None}
    check_load(Path("x.edge"), small)


def test_loading_a_decoder_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_lra.pipeline import ExportRequest, export

    base = write_model(tmp_path / "base")
    bundle = export(ExportRequest(tmp_path / "x.edge", str(base), scheme="none", verify=False))
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    with pytest.raises(EdgeError, match=r"x\.edge: found 0\.00 GiB of free memory"):
        Generator.load(bundle)
