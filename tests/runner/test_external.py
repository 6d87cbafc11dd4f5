"""Graphs whose external data points elsewhere, made with onnx, and bytes that are no graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_lra.errors import EdgeError
from edge_lra.runner.external import locations, model_path

OWN = {"model.onnx": {}, "model.onnx.data": {}}
Place = Callable[[onnx.ModelProto, TensorProto], None]


def tensor(*names: str, key: str = "location") -> TensorProto:
    """Return a tensor whose data is in other files: the last of several is what protobuf takes."""
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    made.data_location = TensorProto.EXTERNAL
    for name in names:
        made.external_data.add(key=key, value=name)
    made.external_data.add(key="offset", value="0")
    return made


def sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2])


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return onnx.GraphProto(name="g", node=nodes)


def attribute(**field: object) -> onnx.NodeProto:
    made = onnx.AttributeProto(name="a")
    for name, value in field.items():
        many = isinstance(value, list)
        (getattr(made, name).extend if many else getattr(made, name).CopyFrom)(value)
    return onnx.NodeProto(op_type="Constant", attribute=[made])


PLACES: dict[str, Place] = {
    "initializer": lambda model, one: model.graph.initializer.append(one),
    "sparse values": lambda model, one: model.graph.sparse_initializer.append(
        sparse(one, TensorProto())
    ),
    "sparse indices": lambda model, one: model.graph.sparse_initializer.append(
        sparse(TensorProto(), one)
    ),
    "attribute": lambda model, one: model.graph.node.append(attribute(t=one)),
    "attribute list": lambda model, one: model.graph.node.append(attribute(tensors=[one])),
    "sparse attribute": lambda model, one: model.graph.node.append(
        attribute(sparse_tensor=sparse(one, one))
    ),
    "sparse attribute list": lambda model, one: model.graph.node.append(
        attribute(sparse_tensors=[sparse(TensorProto(), one)])
    ),
    "subgraph": lambda model, one: model.graph.node.append(
        attribute(g=onnx.GraphProto(initializer=[one]))
    ),
    "subgraph list": lambda model, one: model.graph.node.append(
        attribute(graphs=[graph(attribute(g=graph(attribute(t=one))))])
    ),
    "function": lambda model, one: model.functions.append(
        onnx.FunctionProto(name="f", node=[attribute(t=one)])
    ),
}


def write(folder: Path, place: Place, one: TensorProto) -> Path:
    """Write a graph with weights inside, and one tensor somewhere."""
    weight = numpy_helper.from_array(np.arange(100_000, dtype=np.float32), "inside")
    model = helper.make_model(
        helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [], [], [weight])
    )
    place(model, one)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_location_is_refused_wherever_its_tensor_is(tmp_path: Path, place: str) -> None:
    write(tmp_path, PLACES[place], tensor("../secret"))
    with pytest.raises(EdgeError, match=r"external data in '\.\./secret', expected a file of the"):
        model_path(tmp_path, {"files": OWN})


@pytest.mark.parametrize("place", PLACES)
def test_the_bundle_s_own_data_is_taken_wherever_its_tensor_is(tmp_path: Path, place: str) -> None:
    path = write(tmp_path, PLACES[place], tensor("model.onnx.data"))
    assert set(locations(path)) == {"model.onnx.data"}
    assert model_path(tmp_path, {"files": OWN}) == path


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "./model.onnx.data",
        "x/../model.onnx.data",
        "",
        "MODEL.ONNX.DATA",
        "*/_ORT_MEM_ADDR_/*",  # onnxruntime's name for an address in its own memory
    ],
)
def test_only_a_listed_name_is_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path, PLACES["initializer"], tensor(name))
    with pytest.raises(EdgeError, match="external data in"):
        model_path(tmp_path, {"files": OWN})


@pytest.mark.parametrize("names", [("model.onnx.data", "x"), ("x", "model.onnx.data")])
def test_any_of_repeated_locations_counts(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path, PLACES["initializer"], tensor(*names))
    with pytest.raises(EdgeError, match="external data in 'x'"):
        model_path(tmp_path, {"files": OWN})


def test_repeated_keys_and_values_of_an_entry_count(tmp_path: Path) -> None:
    """Protobuf takes the last of them; which one a reader takes must not matter."""
    fields = [(1, b"offset"), (1, b"location"), (2, b"x"), (2, b"model.onnx.data")]
    entry = b"".join(wrapped(number, text) for number, text in fields)
    (tmp_path / "model.onnx").write_bytes(wrapped(7, wrapped(5, wrapped(13, entry))))
    with pytest.raises(EdgeError, match="external data in 'x'"):
        model_path(tmp_path, {"files": OWN})


def test_the_word_elsewhere_is_no_location(tmp_path: Path) -> None:
    one = tensor("location", key="checksum")
    one.name = one.doc_string = "location"
    assert list(locations(write(tmp_path, PLACES["initializer"], one))) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\x0b",
        lambda data: b"\x3a\xff" + data,
        lambda data: b"\xff" * 12 + data,
        lambda data: b"",
    ],
    ids=["cut", "group", "longer than the file", "endless number", "empty"],
)
def test_bytes_that_are_no_protobuf_are_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path, PLACES["function"], tensor("model.onnx.data"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EdgeError, match=r"model\.onnx: found .*, expected an ONNX graph"):
        model_path(tmp_path, {"files": OWN})


def wrapped(field: int, content: bytes) -> bytes:
    """Return a message's field: its key, its size as a varint, and its bytes."""
    size, head = len(content), [field << 3 | 2]
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


def test_graphs_deep_in_each_other_are_refused_and_not_recursed_into(tmp_path: Path) -> None:
    inner = wrapped(5, tensor("model.onnx.data").SerializeToString())
    for _ in range(3000):  # the attribute of a node of a graph of an attribute
        inner = wrapped(6, wrapped(1, wrapped(5, inner)))
    (tmp_path / "model.onnx").write_bytes(wrapped(7, wrapped(1, wrapped(5, inner))))
    with pytest.raises(EdgeError, match="more than 64 messages in each other"):
        model_path(tmp_path, {"files": OWN})


def test_every_cut_of_a_graph_is_refused_or_foreign(tmp_path: Path) -> None:
    data = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor("x", "y")]))
    whole = data.SerializeToString()
    for size in range(len(whole)):
        (tmp_path / "model.onnx").write_bytes(whole[:size])
        if b"location" in whole[:size]:
            with pytest.raises(EdgeError):
                model_path(tmp_path, {"files": OWN})


def test_a_model_in_ort_s_format_is_taken_only_without_the_graph(tmp_path: Path) -> None:
    both = {"model.ort": {}, **OWN}
    write(tmp_path, PLACES["initializer"], tensor("model.onnx.data"))
    assert model_path(tmp_path, {"files": both}).name == "model.onnx"
    assert model_path(tmp_path, {"files": {"model.ort": {}}}).name == "model.ort"
    with pytest.raises(EdgeError, match=r"found no model\.onnx in the manifest's files"):
        model_path(tmp_path, {"files": {"other": {}}})


def test_the_check_costs_little(tmp_path: Path) -> None:
    """A graph of 12 layers with 20 MB of weights inside and 400 tensors outside."""
    weights = [numpy_helper.from_array(np.zeros(5_000_000, np.float32), "inside")]
    outside = [tensor("model.onnx.data") for _ in range(400)]
    nodes = [helper.make_node("Neg", [f"x{i}"], [f"x{i + 1}"]) for i in range(1000)]
    made = helper.make_model(helper.make_graph(nodes, "g", [], [], [*weights, *outside]))
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())

    def once() -> float:
        start = time.perf_counter()
        model_path(tmp_path, {"files": OWN})
        return time.perf_counter() - start

    assert min(once() for _ in range(5)) < 0.1
