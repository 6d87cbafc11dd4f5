"""An onnxruntime that is missing, too old or one of several, and too little memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runner.tiny_decoder import random_llama
from tests.runner.tiny_decoder import write_bundle as write_decoder
from tests.runtime.cpp.abi import NEVER, Bundle, Refused
from tests.runtime.cpp.bundles import change_manifest, tokens
from tests.runtime.cpp.places import library_of, run_program
from tests.runtime.cpp.refusals import refusal

FAKE = """
static const char *version(void) { return "%s"; }
static const void *api(unsigned wanted) { (void)wanted; return 0; }
static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base =
    {api, version};
const void *OrtGetApiBase(void) { return &base; }
"""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.19.2", "found onnxruntime 1.19.2, expected 1.20.0 or newer"),
        ("9.0.0", "found release 9.0.0 without version 20 of its interface"),
        ("odd", "found onnxruntime odd, expected 1.20.0 or newer"),
    ],
)
def test_a_release_that_is_too_old_is_unsupported(
    tiny_whole: Path, tmp_path: Path, version: str, said: str
) -> None:
    (tmp_path / "fake.c").write_text(FAKE % version)
    library = tmp_path / "libonnxruntime.so"
    done = run_program("gcc", "-shared", "-fPIC", "-o", library, tmp_path / "fake.c")
    assert done.returncode == 0, done.stderr
    found = refusal(tiny_whole, ort_library=str(library).encode())
    assert found.code == "unsupported" and said in found.line


def test_an_onnxruntime_that_is_too_old_is_unsupported(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest.update(min_onnxruntime="99.0.1"))
    found = refusal(tiny_bundle)
    assert found.code == "unsupported"
    assert "expected 99.0.1 or newer" in found.line


@pytest.mark.parametrize("name", ["/no/libonnxruntime.so", "model.onnx", "libc.so.6"])
def test_a_library_that_is_no_onnxruntime_is_not_found(tiny_whole: Path, name: str) -> None:
    path = str(tiny_whole / name) if name == "model.onnx" else name
    found = refusal(tiny_whole, ort_library=path.encode())
    assert found.code == "not_found"
    assert f"found no library that loads as '{path}'" in found.line


@pytest.mark.parametrize("release", ["1.20.0", "1.24.1"])
def test_several_releases_of_onnxruntime_live_in_one_process(
    tiny_whole: Path, release: str
) -> None:
    older = Bundle(tiny_whole, ort_library=str(library_of(release)).encode())
    newer = Bundle(tiny_whole)
    assert older.describe()["onnxruntime"] == release != newer.describe()["onnxruntime"]
    np.testing.assert_allclose(
        older.run(tokens())["hidden"], newer.run(tokens())["hidden"], rtol=1e-6
    )
    older.close()
    newer.close()


@pytest.mark.parametrize("threads", [-1, 1025])
def test_numbers_of_threads_are_checked(tiny_whole: Path, threads: int) -> None:
    found = refusal(tiny_whole, threads=threads)
    assert found.code == "invalid_argument" and f"threads: found {threads}" in found.line


def test_an_unknown_verify_is_refused(tiny_whole: Path) -> None:
    assert "verify: found 3" in refusal(tiny_whole, verify=3).line


def test_weights_that_do_not_fit_are_told_before_they_are_loaded(tiny_bundle: Path) -> None:
    change_manifest(
        tiny_bundle, lambda manifest: manifest["files"]["model.onnx.data"].update(size=1 << 46)
    )
    found = refusal(tiny_bundle, verify=NEVER)
    assert found.code == "out_of_memory" and "GiB of free memory, expected" in found.line


@pytest.mark.parametrize("heads", [1 << 20, 1 << 24])
def test_a_cache_that_does_not_fit_is_out_of_memory(tmp_path: Path, heads: int) -> None:
    folder = write_decoder(tmp_path / "b.edge", random_llama())
    change_manifest(
        folder, lambda manifest: manifest["decoder"].update(kv_heads=heads, head_size=1 << 24)
    )
    bundle = Bundle(folder, verify=NEVER)
    with pytest.raises(Refused) as raised:
        bundle.generate([1, 2], 2)
    assert raised.value.code == "out_of_memory"
    bundle.close()
