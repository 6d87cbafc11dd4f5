"""A bundle in onnxruntime's own format answers as the one it was made of, in old releases too."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from safetensors.numpy import load_file, save_file

from edge_lra.bundle import check_files, load_manifest, seal, sha256_file
from edge_lra.embed import Embedded, EmbedRequest, embed
from edge_lra.embed.ort import FUSED, LARGEST, read_operators
from edge_lra.errors import EdgeError, GateError
from edge_lra.golden import check_golden
from edge_lra.prepack import prepack
from edge_lra.runner import Runner
from tests.cli.documents import validator
from tests.oldest import run_in

INPUTS = {"input_ids": [[2, 9, 3]], "attention_mask": [[1, 1, 1]]}
RUN = """
import json, sys
import onnxruntime
from edge_lra.runner import Runner
outputs = Runner.load(sys.argv[1]).run({"input_ids": [[2, 9, 3]], "attention_mask": [[1, 1, 1]]})
print(json.dumps({"version": onnxruntime.__version__, "logits": outputs["logits"].tolist()}))
"""
KERNELS = """
import json
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def
found = [k.op_name for k in get_all_opkernel_def() if k.domain == "com.microsoft"]
print(json.dumps({"version": onnxruntime.__version__, "operators": found}))
"""


@dataclass(frozen=True)
class Pair:
    """A bundle and what became of it in an app."""

    made: Path
    app: Path
    found: Embedded

    @property
    def folder(self) -> Path:
        return self.app / self.found.bundle


@pytest.fixture(scope="module", params=["made_factored", "made_merged"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    made: Path = request.getfixturevalue(request.param)
    app = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_lra.embed.app.runner_files", lambda platform: {})
        return Pair(made, app, embed(EmbedRequest(made, "cpp", app, ort=True)))


def converted(bundle: Path, app: Path) -> Embedded:
    return embed(EmbedRequest(bundle, "cpp", app, ort=True))


def test_it_answers_with_the_same_bits(pair: Pair) -> None:
    folder, made = pair.folder, pair.made
    check_files(folder, load_manifest(folder))
    expected, found = (Runner.load(one, threads=1).run(INPUTS) for one in (made, folder))
    assert np.array_equal(found["logits"], expected["logits"])
    assert check_golden(folder, load_manifest(folder))["max_abs_error"] == 0


def test_the_manifest_is_sealed_over_the_new_files(pair: Pair) -> None:
    folder, before = pair.folder, load_manifest(pair.made)
    manifest = load_manifest(folder)
    validator("manifest").validate(manifest)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"manifest.json", *manifest["files"]}
    assert "model.ort" in names and not any(name.startswith("model.onnx") for name in names)
    changed = {key for key in before if before[key] != manifest[key]}
    assert changed <= {"sha256", "files", "hosts", "products"}
    assert set(manifest["hosts"]) <= {"edge-lra", "onnxruntime"}


@pytest.mark.parametrize("release", ["1.20.0", "1.24.1"])
def test_an_old_onnxruntime_runs_it(pair: Pair, release: str) -> None:
    assert load_manifest(pair.folder)["min_onnxruntime"] == "1.20.0"
    found = run_in(release, RUN, pair.folder)["logits"]
    expected = Runner.load(pair.made).run(INPUTS)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_operators_that_optimizing_adds_are_those_of_the_oldest(tmp_path: Path) -> None:
    assert set(run_in("1.20.0", KERNELS, tmp_path)["operators"]) >= FUSED


def test_the_config_lists_the_operators_and_names_no_path(pair: Pair) -> None:
    found, config = pair.found, pair.app / str(pair.found.config)
    operators = read_operators(config)
    assert found.converted and len(operators) == found.converted.operators < 40
    assert {"ai.onnx.LayerNormalization", "com.microsoft.MultiHeadAttention"} <= {*operators}
    domains = {line.split(";")[0] for line in config.read_text().splitlines()}
    assert domains == {"ai.onnx", "com.microsoft"}
    assert found.build and config.name in found.build


def test_a_split_bundle_is_converted_too(made_factored: Path, app: Path, tmp_path: Path) -> None:
    found = embed(EmbedRequest(made_factored, "cpp", app, split=True, ort=True))
    for folder in (found.bundle, str(found.adapters)):
        shutil.copytree(app / folder, tmp_path / "laid", dirs_exist_ok=True)
    Runner.load(tmp_path / "laid", verify="always").run(INPUTS)
    again = embed(EmbedRequest(made_factored, "cpp", app, split=True, ort=True))
    assert again.base == "same"  # onnxruntime itself writes other bytes every time


def test_a_packed_bundle_is_converted_without_its_copies(
    made_merged: Path, app: Path, tmp_path: Path
) -> None:
    packed = prepack(made_merged, tmp_path / "packed.edge").folder
    folder = app / converted(packed, app).bundle
    assert load_manifest(packed)["prepacked"] and load_manifest(folder)["prepacked"] is None
    assert folder.joinpath("model.ort").stat().st_size < file_bytes(packed)
    expected, found = (Runner.load(one, threads=1).run(INPUTS) for one in (made_merged, folder))
    assert np.array_equal(found["logits"], expected["logits"])


def file_bytes(bundle: Path) -> int:
    return sum(file.stat().st_size for file in bundle.glob("model.onnx*"))


def test_it_is_not_converted_twice(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"found model\.ort in it, expected model\.onnx; leave"):
        converted(pair.folder, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def replace_file(bundle: Path, name: str) -> None:
    """Seal the manifest over a file that was changed."""
    manifest, file = load_manifest(bundle), bundle / name
    manifest["files"][name] = {"size": file.stat().st_size, "sha256": sha256_file(file)}
    (bundle / "manifest.json").write_bytes(seal(manifest))


def test_a_graph_too_large_for_the_format_is_refused(
    bundle: Path, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LARGEST < 2**31
    monkeypatch.setattr("edge_lra.embed.ort.LARGEST", 1000)
    with pytest.raises(EdgeError, match="expected at most 1000 for onnxruntime's format"):
        converted(bundle, app)


def test_what_onnxruntime_cannot_convert_is_one_line(bundle: Path, app: Path) -> None:
    node = helper.make_node("Nothing", ["input_ids"], ["logits"], domain="nowhere")
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    replace_file(bundle, "model.onnx")
    with pytest.raises(EdgeError, match="onnxruntime cannot convert it: ") as caught:
        converted(bundle, app)
    assert "\n" not in str(caught.value) and not (app / "models").exists()


def test_answers_that_are_not_the_recorded_ones_are_not_embedded(bundle: Path, app: Path) -> None:
    file = bundle / "golden.safetensors"
    tensors = load_file(file)
    for kind in ("output", "float"):
        tensors[f"{kind}.0.logits"] = tensors[f"{kind}.0.logits"] + 100
    save_file(tensors, file)
    replace_file(bundle, file.name)
    with pytest.raises(GateError, match="from the float model, expected"):
        converted(bundle, app)
    assert not (app / "models").exists()
