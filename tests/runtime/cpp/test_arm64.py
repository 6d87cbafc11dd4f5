"""The cross-compiled program under an emulator, as cores with and without dot products."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_lra.transport.sysroot import EMULATOR, find_sysroot
from tests.runtime.cpp.places import BUILD, CASES, ROOT, run_program

TOOL = BUILD / "arm64-linux/edge-lra-run"
CORES = ("cortex-a53", "cortex-a76")


def ask_core(core: str, verb: str, *words: object) -> dict[str, Any]:
    """Return what the emulated program answers, with the aarch64 wheel's onnxruntime."""
    sysroot = find_sysroot(ROOT / ".cache/arm64")
    (library,) = sysroot.folder.glob("site/onnxruntime/capi/libonnxruntime.so.*")
    emulator = [sysroot.folder / EMULATOR, "-L", sysroot.folder / "root", "-cpu", core]
    done = run_program(
        *emulator, TOOL, verb, "--ort", library, "--threads", 1, "--json", *words, timeout_s=600
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("core", CORES)
def test_integer_products_are_exact(core: str) -> None:
    found = ask_core(core, "cases", CASES)
    assert found["exact"] == found["cases"] == 48


# The cases of `hidden` are with its adapter and without: on, off and on again.
@pytest.mark.parametrize("name", ["merged", "hidden", "four_bits", "tied_decoder"])
@pytest.mark.parametrize("core", CORES)
def test_golden_cases_hold(core: str, name: str, request: pytest.FixtureRequest) -> None:
    found = ask_core(core, "verify", request.getfixturevalue(name))
    assert found["cases"] > 0 and found["agreed"] == found["decided"]
    assert 0 < found["max_abs_error_float"] <= found["allowed_error_float"]
