"""A bundle packed for a processor answers as the one it was made of, there and elsewhere."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from edge_lra.agent import prepack as agent
from edge_lra.bundle import check_files, describe_files, load_manifest, seal
from edge_lra.device import load_device
from edge_lra.errors import EdgeError, GateError
from edge_lra.extend import AddRequest, add_adapter
from edge_lra.golden import check_golden
from edge_lra.pipeline import ExportRequest, export
from edge_lra.prepack import prepack
from edge_lra.runner import Generator, Runner
from edge_lra.runner.opening import session_options
from tests.cli.documents import validator
from tests.language.models import write_model

INPUTS = {"input_ids": [[2, 9, 3]], "attention_mask": [[1, 1, 1]]}
Keys = Mapping[str, str]


@pytest.fixture(scope="module", params=["merge", "factored"])
def source(
    request: pytest.FixtureRequest, tiny_made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("source")
    adapters = [("mood", tiny_made / "adapter")]
    model = str(tiny_made / "model")
    return export(ExportRequest(folder / "mood.edge", model, adapters, mode=request.param))


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    """Return the twin of the source, to be changed."""
    return prepack(source, tmp_path / "packed.edge").folder


def logits(bundle: Path, verify: str = "always") -> Any:
    return Runner.load(bundle, threads=1, verify=verify).run(INPUTS)["logits"]


def copies(bundle: Path) -> list[Keys]:
    """Return where the data of those weights lies that have a packed copy."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    listed = [{e.key: e.value for e in t.external_data} for t in model.graph.initializer]
    return [keys for keys in listed if "prepacked_0" in keys]


def reseal(bundle: Path, **changes: Any) -> None:
    """Write the manifest over what was changed."""
    manifest = load_manifest(bundle) | changes
    (bundle / "manifest.json").write_bytes(seal({**manifest, "files": describe_files(bundle)}))


def test_it_answers_with_the_same_bits(source: Path, packed: Path) -> None:
    assert np.array_equal(logits(packed), logits(source))
    assert check_golden(packed, load_manifest(packed))["max_abs_error"] == 0


def test_products_have_packed_copies_in_the_file(packed: Path) -> None:
    found = copies(packed)
    assert len(found) >= 12  # of two layers with six products each
    assert all(keys["location"] == "model.onnx.data" for keys in found)


def test_the_manifest_says_what_it_was_packed_for(source: Path, packed: Path) -> None:
    before, manifest = load_manifest(source), load_manifest(packed)
    check_files(packed, manifest)
    validator("manifest").validate(manifest)
    changed = {key for key in before if before[key] != manifest[key]}
    assert changed == {"sha256", "files", "prepacked", "min_onnxruntime", "products"}
    entry, release = manifest["prepacked"], onnxruntime.__version__
    assert (entry["device"], entry["onnxruntime"], entry["optimized"]) == ("host", release, True)
    assert manifest["min_onnxruntime"] == release
    assert "products.pb" in before["files"] and "products.pb" not in manifest["files"]


def test_the_bundle_it_was_made_of_stays(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "mood.edge"))
    found = prepack(copy)
    assert found.folder == tmp_path / "mood-prepacked.edge"
    assert found.after_bytes > found.before_bytes
    assert describe_files(copy) == describe_files(source)
    assert (copy / "manifest.json").read_bytes() == (source / "manifest.json").read_bytes()


def test_packing_again_gives_the_same_bytes(source: Path, packed: Path, tmp_path: Path) -> None:
    again = prepack(source, tmp_path / "again.edge").folder
    assert describe_files(again) == describe_files(packed)


def test_only_the_release_that_optimized_it_leaves_it_at_that(source: Path, packed: Path) -> None:
    levels, manifest = onnxruntime.GraphOptimizationLevel, load_manifest(packed)
    older = manifest | {"prepacked": manifest["prepacked"] | {"onnxruntime": "1.31.0"}}
    found = [
        session_options(one).graph_optimization_level
        for one in (manifest, older, load_manifest(source))
    ]
    assert found == [levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL, levels.ORT_ENABLE_ALL]


def test_convolutions_are_laid_out_at_load_alone(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "mood.edge"))
    onnx.save(convolution(), copy / "model.onnx")
    reseal(copy)
    answer = agent.prepack({"bundles": [str(copy)], "out": str(tmp_path / "out")})
    nodes = onnx.load(tmp_path / "out/model.onnx", load_external_data=False).graph.node
    assert {node.domain for node in nodes} <= {"", "com.microsoft"}  # not com.microsoft.nchwc
    assert answer["optimized"] is False
    options = session_options({"prepacked": answer})
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def convolution() -> onnx.ModelProto:
    weight = onnx.numpy_helper.from_array(np.ones((32, 16, 3, 3), np.float32), "weight")
    node = onnx.helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1] * 4)
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 8, 8])]
        for name, channels in (("x", 16), ("y", 32))
    )
    graph = onnx.helper.make_graph([node], "g", inputs, outputs, [weight])
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_a_copy_of_another_processor_is_not_used(source: Path, packed: Path) -> None:
    file = packed / "model.onnx"
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key.startswith("prepacked"):  # the digest of other bytes, and other bytes
                entry.value = re.sub(r"\+\d+\|", "+1234567890|", entry.value)
    overwrite_copies(packed)
    file.write_bytes(model.SerializeToString())
    reseal(packed)
    assert np.array_equal(logits(packed), logits(source))


def overwrite_copies(bundle: Path) -> None:
    with (bundle / "model.onnx.data").open("r+b") as data:
        for keys in copies(bundle):
            offset, size, _ = map(int, keys["prepacked_0"].rpartition("|")[2].split(";"))
            data.seek(offset)
            data.write(b"\x55" * size)


def test_a_copy_with_other_bytes_is_refused(packed: Path) -> None:
    overwrite_copies(packed)
    with pytest.raises(EdgeError, match=r"model\.onnx\.data: is damaged"):
        logits(packed)
    with pytest.raises(EdgeError, match=r"onnxruntime cannot open it: .* do not match") as caught:
        logits(packed, verify="never")  # onnxruntime compares it with its own
    assert "\n" not in str(caught.value)


def test_it_takes_further_adapters(tiny_made: Path, tmp_path: Path) -> None:
    model, adapter = str(tiny_made / "model"), tiny_made / "adapter"
    whole, adapters = tmp_path / "mood.edge", [("mood", adapter)]
    request = ExportRequest(whole, model, adapters, mode="factored", verify=False)
    packed = prepack(export(request)).folder
    add_adapter(AddRequest(packed, adapter, "other"))
    runner = Runner.load(packed, verify="always")
    assert runner.manifest["prepacked"] and runner.adapters == ("mood", "other")
    answers = [runner.run(INPUTS, adapter=name)["logits"] for name in runner.adapters]
    assert np.array_equal(*answers)


def test_a_language_model_goes_on_with_the_same_tokens(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    source = export(ExportRequest(tmp_path / "x.edge", str(base), scheme="int8", verify=False))
    packed = prepack(source).folder
    assert copies(packed)
    models = [Generator.load(one) for one in (source, packed)]
    texts = [model.generate([[1, 5, 7]], max_tokens=8)[0].text for model in models]
    assert texts[0] == texts[1] and len(texts[0].split()) == 8


@pytest.mark.parametrize("entry", [5, {}, {"processor": "x", "onnxruntime": None}])
def test_an_entry_that_is_none_is_refused(packed: Path, entry: object) -> None:
    reseal(packed, prepacked=entry)
    with pytest.raises(EdgeError, match='found an ill-formed "prepacked"'):
        Runner.load(packed)


def test_what_is_packed_is_not_packed_again(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"packed\.edge: found it packed for .*; name that"):
        prepack(packed, tmp_path / "more.edge")
    assert not (tmp_path / "more.edge").exists()


def test_a_graph_in_onnxruntimes_format_is_refused(source: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "mood.edge"))
    (copy / "model.onnx").rename(copy / "model.ort")
    reseal(copy)
    with pytest.raises(EdgeError, match=r"found no model\.onnx in it, expected one: "):
        prepack(copy)


def test_answers_that_are_not_the_recorded_ones_are_not_written(
    source: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(source, tmp_path / "mood.edge"))
    file = copy / "golden.safetensors"
    save_file({k: v + (v.dtype == np.float32) for k, v in load_file(file).items()}, file)
    reseal(copy)
    with pytest.raises(GateError):
        prepack(copy)
    assert [path.name for path in tmp_path.iterdir()] == ["mood.edge"]


def test_a_processor_out_of_reach_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"neither here nor emulated, .*; give a --target"):
        prepack(source, tmp_path / "x.edge", load_device("browser"))
    assert not (tmp_path / "x.edge").exists()
