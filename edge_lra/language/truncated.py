"""The first layers of a bundle as a model of their own, for verification where not all fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime

from edge_lra.agent.inputs import session_options
from edge_lra.bundle import load_manifest
from edge_lra.errors import EdgeError
from edge_lra.graph.plan import LAST_TOKENS, LAYER_OUTPUT
from edge_lra.probe import load_graph
from edge_lra.runner import Generator
from edge_lra.runner.cache import Layout
from edge_lra.runner.external import GRAPH

PROBE = "probe.onnx"


def open_first_layers(folder: Path, count: int) -> Generator:
    """Return a generator over a bundle's first layers, its final norm and its head.

    The nodes are the bundle's own; what read the last layer reads the last that is kept, of the
    tokens whose logits are given.

    Args:
        folder: the bundle's.
        count: of the layers to keep.

    Raises:
        EdgeError: the graph is of an edge-lra that did not mark its last layer's tokens.
    """
    manifest = load_manifest(folder)
    decoder = manifest["decoder"]
    manifest["decoder"] = decoder | {"layers": count, "cache": decoder["cache"][: 2 * count]}
    model = load_graph(folder)
    if all(value.name != LAST_TOKENS for node in model.graph for value in node.outputs):
        raise EdgeError(
            f"{folder / GRAPH}: found no value {LAST_TOKENS}, expected it to take layers out, as "
            "the float model does not fit in memory whole; export it again, this edge-lra marks it"
        )
    left_out = {name for pair in decoder["cache"][2 * count :] for name in pair.values()}
    cut(model, decoder["layers"], count, left_out)
    probe = folder / PROBE
    ir.save(model, probe)
    try:
        options = session_options(folder, os.cpu_count() or 1)
        session = onnxruntime.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
    finally:
        probe.unlink()
    return Generator(folder, manifest, session, Layout.read(manifest))


def cut(model: ir.Model, layers: int, count: int, left_out: set[str]) -> None:
    """Take layers out of a graph in place; adapters' inputs stay, for their files have them all.

    Args:
        model: a decoder's.
        layers: how many it has.
        count: how many to keep.
        left_out: inputs and outputs of the others.
    """
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    last, kept = (values[LAYER_OUTPUT.format(i=i - 1)] for i in (layers, count))
    wanted = values[LAST_TOKENS]
    slicing = wanted.producer()
    assert slicing is not None
    slicing.replace_input_with(0, kept)
    for node, place in list(last.uses()):
        node.replace_input_with(place, wanted)
    graph.outputs[:] = [value for value in graph.outputs if value.name not in left_out]
    needed: set[Any] = set()
    waiting: list[Any] = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        if value is None or value in needed:
            continue
        needed.add(value)
        node = value.producer()
        if node is not None:
            waiting += node.inputs
            waiting += inner_inputs(node)
    dead = [node for node in graph if not any(value in needed for value in node.outputs)]
    graph.remove(dead, safe=True)
    for name in [name for name, value in graph.initializers.items() if value not in needed]:
        del graph.initializers[name]
    graph.inputs[:] = [value for value in graph.inputs if value.name not in left_out]


def inner_inputs(node: ir.Node) -> list[Any]:
    """Return what the graphs inside a node read."""
    found = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                found += [*inner.inputs, *inner_inputs(inner)]
    return found
