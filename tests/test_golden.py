"""Golden cases: what a scheme's kernels may differ by, and what is damage all the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_lra.bundle import load_manifest
from edge_lra.errors import GateError
from edge_lra.golden import ROUNDING, SLACK, check_golden, compare, read_golden
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize import SCHEMES

BLOCKWISE = ("int8-weight-only", "int4")


@pytest.fixture
def bundle(tiny: Path, scheme: str) -> Path:
    adapters = [("mood", tiny / "adapter")]
    gates = {"kl_mean": 1.0, "top1_agreement": 0.0}
    return export(ExportRequest(tiny / "b.edge", "model", adapters, scheme=scheme, gates=gates))


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_the_allowed_error_grows_by_the_spread_of_the_scheme_alone(
    bundle: Path, scheme: str
) -> None:
    manifest = load_manifest(bundle)
    cases = read_golden(bundle, manifest)
    found = compare(cases, [case.outputs for case in cases], manifest)
    largest = max(float(np.abs(value).max()) for case in cases for value in case.exact.values())
    spread = 4e-3 * largest if scheme in BLOCKWISE else 0.0
    assert found.recorded_error_float == found.max_abs_error_float
    assert found.allowed_error_float == pytest.approx(
        SLACK * found.recorded_error_float + spread + ROUNDING
    )


@pytest.mark.parametrize("scheme", ["int4"])
def test_an_entry_without_a_spread_keeps_the_check_it_came_with(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["golden"]["kernel_spread"]
    assert compare([], [], manifest).kernel_spread == 0.0
    cases = read_golden(bundle, manifest)
    assert compare(cases, [case.outputs for case in cases], manifest).kernel_spread == 0.0


@pytest.mark.parametrize("scheme", BLOCKWISE)
def test_a_wrong_scale_of_blocks_is_found(bundle: Path) -> None:
    check_golden(bundle, load_manifest(bundle))
    initializers = onnx.load(bundle / "model.onnx", load_external_data=False).graph.initializer
    tensor = next(i for i in initializers if "output.dense" in i.name and i.name.endswith("scale"))
    place = {entry.key: entry.value for entry in tensor.external_data}
    data = bundle / place["location"]
    scales = np.memmap(data, "<f4", "r+", int(place["offset"]), tuple(tensor.dims))
    scales[:] = np.roll(scales, 1)
    scales.flush()
    with pytest.raises(GateError, match="from the float model, expected at most"):
        check_golden(bundle, load_manifest(bundle))
