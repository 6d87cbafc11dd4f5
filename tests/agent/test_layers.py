"""Layers of nodes, read without the onnx package, against what that package reads."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edge_lra.agent.layers import Node, layers_by_node, read_nodes
from edge_lra.pipeline import ExportRequest, export


@pytest.fixture(scope="module", params=["sequence-classification", "feature-extraction"])
def bundle(
    request: pytest.FixtureRequest, tiny_made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("layers") / "b.edge"
    heads = [("mood", tiny_made / "adapter")] if "class" in request.param else []
    task = None if heads else request.param
    return export(ExportRequest(out, str(tiny_made / "model"), heads, task=task, verify=False))


def test_nodes_are_those_that_onnx_reads(bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    expected = [(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node]
    found = read_nodes(bundle / "model.onnx")
    assert [(n.name, n.operator, n.inputs, n.outputs) for n in found] == expected
    inner = [
        n.name for node in graph.node for a in node.attribute if a.HasField("g") for n in a.g.node
    ]
    assert [name for node in found for name in node.inside] == inner and inner


def test_a_node_is_in_the_layer_whose_weights_it_reads(bundle: Path) -> None:
    nodes = read_nodes(bundle / "model.onnx")
    layers = layers_by_node(nodes)
    names = {"embeddings.": "embeddings", "encoder.layer.0.": "layer 0"}
    names |= {"encoder.layer.1.": "layer 1", "pooler": "head", "classifier": "head"}
    seen = set()
    for node in nodes:
        for prefix, layer in names.items():
            if any(name.startswith(prefix) for name in node.inputs):
                assert layers[node.name] == layer
                seen.add(layer)
    has_head = any("classifier" in name for node in nodes for name in node.inputs)
    assert seen == {"embeddings", "layer 0", "layer 1", *(["head"] if has_head else [])}


def test_layers_of_one_kind_have_as_many_nodes(bundle: Path) -> None:
    """But for the slices of the last, where the head reads one token."""
    counts = {"layer 0": 0, "layer 1": 0}
    nodes = read_nodes(bundle / "model.onnx")
    layers = layers_by_node(nodes)
    for node in nodes:
        if node.operator != "Slice" and layers[node.name] in counts:
            counts[layers[node.name]] += 1
    assert counts["layer 0"] >= counts["layer 1"] - 3


def test_what_runs_inside_an_if_belongs_to_its_layer(bundle: Path) -> None:
    nodes = read_nodes(bundle / "model.onnx")
    layers = layers_by_node(nodes)
    conditions = [node for node in nodes if node.operator == "If"]
    assert [layers[node.name] for node in conditions] == ["layer 0", "layer 1"]
    for node in conditions:
        assert {layers[name] for name in node.inside} == {layers[node.name]}


def test_a_graph_without_named_hidden_states_has_no_layers() -> None:
    nodes = [Node("a", "MatMul", ("x", "model.layers.0.weight"), ("y",), ())]
    assert layers_by_node(nodes) == {}
    assert layers_by_node([]) == {}
