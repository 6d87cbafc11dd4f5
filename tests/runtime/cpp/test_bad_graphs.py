"""Graphs that name other files, or are not what the manifest tells of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.runtime.cpp.abi import NEVER, Bundle
from tests.runtime.cpp.bundles import WIDTH, change_manifest, tokens, write_tiny
from tests.runtime.cpp.refusals import python_says, refusal


def _initializer(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def _in_initializer(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer.append(tensor)


def _in_sparse(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def _in_attribute(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    graph = helper.make_graph([node], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["d"], then_branch=graph))


def _in_function(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(
        helper.make_function("own", "f", [], ["c"], [node], [helper.make_opsetid("", 20)])
    )


def _split(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    """Write the key twice: protobuf keeps the last."""
    entry = tensor.external_data[0]
    good = onnx.StringStringEntryProto(key="offset", value="model.onnx.data")
    merged = good.SerializeToString() + entry.SerializeToString()
    tensor.external_data[0].ParseFromString(merged)
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "put", [_in_initializer, _in_sparse, _in_attribute, _in_subgraph, _in_function, _split]
)
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "unlisted"])
def test_weights_in_files_that_are_not_listed_are_refused(
    tmp_path: Path, put: Callable[[onnx.ModelProto, onnx.TensorProto], None], location: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        put(model, _initializer(location))

    found = refusal(write_tiny(tmp_path / "b.edge", change), verify=NEVER)
    assert found.code == "damaged" and f"found weights in '{location}'" in found.line


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b"]
)
def test_a_graph_that_is_none_is_refused(tiny_bundle: Path, content: bytes) -> None:
    (tiny_bundle / "model.onnx").write_bytes(content)
    assert refusal(tiny_bundle, verify=NEVER).code in ("damaged", "runtime")


def test_a_graph_with_other_inputs_is_refused(tiny_bundle: Path) -> None:
    change_manifest(tiny_bundle, lambda manifest: manifest["adapter_inputs"].pop())
    found = refusal(tiny_bundle)
    assert found.code == "damaged" and found.line == python_says(tiny_bundle)
    assert found.line.endswith("disagree on inputs: up")


def test_a_graph_without_an_output_is_refused(tiny_bundle: Path) -> None:
    change_manifest(
        tiny_bundle,
        lambda manifest: manifest["outputs"].append(manifest["outputs"][0] | {"name": "x"}),
    )
    assert refusal(tiny_bundle).line.endswith("disagree on outputs: x")


@pytest.mark.parametrize("location", ["model.onnx.data", "../secret"])
def test_a_graph_that_is_too_large_to_read_at_once_is_walked_too(
    tmp_path: Path, location: str
) -> None:
    def change(model: onnx.ModelProto) -> None:
        inside = onnx.TensorProto(name="large", data_type=TensorProto.UINT8, dims=[66 << 20])
        inside.raw_data = bytes(66 << 20)
        model.graph.initializer.append(inside)
        outside = _initializer(location)
        for key, value in (("offset", "0"), ("length", "4")):
            entry = outside.external_data.add()
            entry.key, entry.value = key, value
        model.graph.initializer.append(outside)

    folder = write_tiny(tmp_path / "b.edge", change)
    if location.startswith(".."):
        assert "found weights in '../secret'" in refusal(folder).line
        return
    bundle = Bundle(folder)
    assert bundle.run(tokens())["hidden"].shape == (1, 3, WIDTH)
    bundle.close()
