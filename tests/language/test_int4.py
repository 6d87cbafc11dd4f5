"""int4 decoders from texts to a proven bundle, and the options that they honour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_lra.bundle import load_manifest, sha256_file
from edge_lra.errors import EdgeError
from edge_lra.golden import check_golden
from edge_lra.pipeline import ExportRequest, export
from tests.language.models import LOOSE, TEXT, write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("int4") / "base")


@pytest.fixture(scope="module")
def data(base: Path) -> Path:
    """Return 40 texts: the first verify, the last 20 calibrate."""
    path = base.parent / "data.txt"
    path.write_text("\n".join(TEXT.splitlines() * 5) + "\n")
    return path


def make(base: Path, out: Path, **options: Any) -> Path:
    return export(ExportRequest(out, str(base), scheme="int4", gates=LOOSE, **options))


def test_a_bundle_of_text_says_so_and_passes_its_golden_cases(
    base: Path, data: Path, tmp_path: Path
) -> None:
    bundle = make(base, tmp_path / "x.edge", data=data)
    manifest = load_manifest(bundle)
    calibration = manifest["calibration"]
    assert calibration["sha256"] == sha256_file(data) and calibration["texts"] > 20
    assert manifest["finer_sites"]
    assert all(entry["texts"] <= 20 for entry in manifest["fidelity"]["reports"])
    check_golden(bundle, manifest)


@pytest.mark.parametrize("name", ["gptq", "mixed-bits"])
def test_a_part_that_is_left_out_changes_the_weights(base: Path, tmp_path: Path, name: str) -> None:
    whole = make(base, tmp_path / "whole.edge", verify=False)
    part = make(base, tmp_path / "part.edge", verify=False, without=[name])
    manifests = [load_manifest(bundle) for bundle in (whole, part)]
    assert manifests[0]["base_fingerprint"] != manifests[1]["base_fingerprint"]
    assert manifests[1]["without"] == [name]
    assert bool(manifests[1]["finer_sites"]) == (name == "gptq")


@pytest.mark.parametrize(
    ("scheme", "name", "expected"),
    [
        ("int4", "smoothing", "found smoothing for family llama, expected one of gptq, mixed-bits"),
        ("int8", "gptq", "found gptq for int8 of a decoder, expected it for int4"),
    ],
)
def test_parts_that_a_decoder_lacks_are_refused(
    base: Path, tmp_path: Path, scheme: str, name: str, expected: str
) -> None:
    with pytest.raises(EdgeError, match=expected):
        export(ExportRequest(tmp_path / "x.edge", str(base), scheme=scheme, without=[name]))
