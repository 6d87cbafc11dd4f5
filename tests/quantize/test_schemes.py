"""Every scheme as a whole bundle, and float32 for the linears a user names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize import SCHEMES
from edge_lra.runner import Runner

INPUTS = {"input_ids": [[2, 5, 7, 3], [2, 9, 3, 0]], "attention_mask": [[1] * 4, [1, 1, 1, 0]]}


def make(tiny: Path, scheme: str, name: str, **options: object) -> Path:
    adapters = [("mood", tiny / "adapter")]
    request = ExportRequest(
        tiny / f"{name}.edge", str(tiny / "model"), adapters, scheme=scheme,
        gates={"kl_mean": 1.0, "top1_agreement": 0.0}, **options,
    )  # fmt: skip
    return export(request)


def logits(bundle: Path) -> np.ndarray:
    runner = Runner.load(bundle)
    return runner.run(INPUTS, adapter="mood" if runner.adapters else None)["logits"]


@pytest.mark.parametrize("mode", ["merge", "factored"])
@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_scheme_answers_as_float_does_within_its_bits(tiny: Path, scheme: str, mode: str) -> None:
    exact = logits(make(tiny, "none", f"float-{mode}", mode=mode))
    bundle = make(tiny, scheme, scheme, mode=mode)
    error = np.linalg.norm(logits(bundle) - exact) / np.linalg.norm(exact)
    assert error <= {"none": 0.0, "int8": 0.05, "int8-weight-only": 0.02, "int4": 0.3}[scheme]
    manifest = load_manifest(bundle)
    assert manifest["scheme"] == scheme
    assert manifest["min_onnxruntime"] == SCHEMES[scheme].min_onnxruntime


def operators(bundle: Path) -> list[str]:
    return [node.op_type for node in onnx.load(bundle / "model.onnx").graph.node]


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_named_linears_stay_in_float(tiny: Path, scheme: str) -> None:
    found = make(tiny, scheme, "kept", keep_float=["*encoder.layer.1.*"])
    whole = make(tiny, scheme, "whole")
    operator = {"int8": "MatMulInteger", "int4": "MatMulNBits"}[scheme]
    fewer = operators(whole).count(operator) - operators(found).count(operator)
    assert fewer >= 6 and operators(found).count(operator) > 0
    assert load_manifest(found)["float_sites"] == ["*encoder.layer.1.*"]
    everything = make(tiny, scheme, "everything", keep_float=["*"])
    assert operator not in operators(everything)


def fine_products(bundle: Path) -> set[str]:
    """Return the modules whose products read 8 bits in blocks."""
    nodes = [n for n in onnx.load(bundle / "model.onnx").graph.node if n.op_type == "MatMulNBits"]
    bits = {n.input[1]: {a.name: a.i for a in n.attribute}["bits"] for n in nodes}
    return {name.removesuffix(".weight.int8") for name, count in bits.items() if count == 8}


def test_the_manifest_names_the_linears_that_int4_keeps_in_8_bits(tiny: Path) -> None:
    bundle = make(tiny, "int4", "mixed")
    found = load_manifest(bundle)["finer_sites"]
    assert 0 < len(found) < 12
    assert {name.split("bert.")[-1] for name in found} == fine_products(bundle)


def test_int4_is_4_bits_throughout_without_mixed_bits(tiny: Path) -> None:
    bundle = make(tiny, "int4", "plain", without=["mixed-bits"])
    assert load_manifest(bundle)["finer_sites"] == []
    assert fine_products(bundle) == set()


def test_a_linear_that_stays_in_float_takes_no_8_bits_from_others(tiny: Path) -> None:
    bundle = make(tiny, "int4", "kept", keep_float=["*encoder.layer.1.*"])
    found = load_manifest(bundle)["finer_sites"]
    assert found and all("layer.0." in name for name in found)


def test_a_pattern_that_fits_no_linear_is_refused_by_name(tiny: Path) -> None:
    with pytest.raises(EdgeError, match=r"--keep-float nowhere\.\*: found no linear of that name"):
        make(tiny, "int8", "x", keep_float=["*", "nowhere.*"])
    assert not (tiny / "x.edge").exists()
