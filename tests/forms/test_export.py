"""An encoder exported with a plan: each linear in its form, and all that reads bundles knows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edge_lra.attribution.report import attribute
from edge_lra.bundle import load_manifest
from edge_lra.cli.inspect import lines
from edge_lra.contents import describe
from edge_lra.errors import EdgeError
from edge_lra.forms.plan import FormPlan
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from tests.language.models import write_model

FIRST, LAST = "encoder.layer.0.", "encoder.layer.1."
FORMS = {
    f"{FIRST}attention.self.value": "float32",
    f"{FIRST}output.dense": "int8-weight-only",
    f"{LAST}intermediate.dense": "int8-weight-only",
    f"{LAST}output.dense": "float32",
}
PLAN = FormPlan(FORMS, "here", 128, 1, {"error": 0.5}, {"error": 0.25})


def request(tiny: Path, name: str, **options: Any) -> ExportRequest:
    (tiny / "t.txt").write_text("a fine film\nbad , not good\nwhat a bore\n" * 12)
    adapters = [("one", tiny / "adapter")]
    return ExportRequest(
        tiny / f"{name}.edge", str(tiny / "model"), adapters, data=tiny / "t.txt", **options
    )


def operators(bundle: Path) -> dict[str, set[str]]:
    """Return the weights that each kind of product reads."""
    found: dict[str, set[str]] = {}
    for node in onnx.load(bundle / "model.onnx").graph.node:
        if node.op_type.startswith("MatMul") and ".weight" in node.input[1]:
            found.setdefault(node.op_type, set()).add(node.input[1])
    return found


def test_each_linear_has_its_form_and_the_manifest_says_so(tiny: Path) -> None:
    bundle = export(request(tiny, "mixed", plan=PLAN))
    found = operators(bundle)
    assert {f"{FIRST}attention.self.value.weight", f"{LAST}output.dense.weight"} <= found["MatMul"]
    blocks = {f"{FIRST}output.dense.weight.int8", f"{LAST}intermediate.dense.weight.int8"}
    assert found["MatMulNBits"] == blocks
    assert len(found["MatMulIntegerToFloat"]) == 12 - len(FORMS)
    manifest = load_manifest(bundle)
    assert manifest["plan"] == PLAN.as_dict()
    assert manifest["min_onnxruntime"] == "1.23.0"
    assert manifest["golden"]["kernel_spread"] > 0
    shown = dict(lines(describe(bundle)))["plan"].splitlines()
    assert "1 x encoder.layer.*.attention.self.value float32" in shown
    assert shown[-3:] == ["device here", "limits error 0.5", "expected error 0.25"]
    assert all(r["metrics"]["relative_l2"] < 0.05 for r in manifest["fidelity"]["reports"])


def test_only_what_rounds_by_one_scale_keeps_outliers_apart(tiny: Path) -> None:
    whole = operators(export(request(tiny, "whole", verify=False)))
    mixed = operators(export(request(tiny, "mixed", plan=PLAN, verify=False)))
    apart = {name for names in whole.values() for name in names if ".outliers" in name}
    assert len(apart) == 4  # up and down of both layers
    assert not any(".outliers" in name for names in mixed.values() for name in names)


def test_the_same_plan_gives_the_same_bytes_and_none_is_named_nowhere(tiny: Path) -> None:
    first = load_manifest(export(request(tiny, "b", plan=PLAN, verify=False)))["files"]
    assert load_manifest(export(request(tiny, "b", plan=PLAN, verify=False)))["files"] == first
    none = load_manifest(export(request(tiny, "b", verify=False)))
    assert none["plan"] is None and none["files"] != first
    empty = load_manifest(export(request(tiny, "b", plan=FormPlan({}), verify=False)))
    assert empty["files"] == none["files"]


def test_errors_are_told_of_a_bundle_of_several_forms(tiny: Path) -> None:
    asked = request(tiny, "b", plan=PLAN, verify=False)
    found = attribute(export(asked), asked)
    assert {item.site.name.removesuffix(".weight") for item in found.sites} == {
        f"encoder.layer.{i}.{name}"
        for i in range(2)
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
        )
    } - {module for module, form in FORMS.items() if form == "float32"}
    assert all(0 < item.errors.both < 0.05 for item in found.sites)


def test_what_a_plan_does_not_go_with_is_refused_by_name(tiny: Path) -> None:
    for options, error in (
        ({"plan": FormPlan({"nowhere": "float32"})}, "plan: nowhere: found no linear of that"),
        ({"plan": replace(PLAN, layers=3)}, "plan: found one for a model of 3 layers, expected 2"),
        ({"plan": PLAN, "scheme": "int4"}, "plan: found quantize int4, expected int8"),
        ({"plan": PLAN, "keep_float": ["*"]}, r"plan: found keep float \* beside it"),
    ):
        with pytest.raises(EdgeError, match=error):
            export(request(tiny, "b", **options))
    assert not (tiny / "b.edge").exists()


def test_a_language_model_has_no_plan(tiny: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "decoder")
    with pytest.raises(EdgeError, match="plan: found one for family llama, expected none"):
        export(ExportRequest(tmp_path / "b.edge", str(model), plan=PLAN))
