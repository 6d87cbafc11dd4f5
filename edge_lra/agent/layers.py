"""Which layer a node belongs to, read from the graph file without the onnx package.

`edge_lra.graph` writes nodes in order and names each layer's hidden state `layer.N.output`
(graph.plan.LAYER_OUTPUT); a node belongs to the layer whose output comes next.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Field numbers of onnx.proto.
MODEL_GRAPH, GRAPH_NODE = 7, 1
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_GRAPHS = (6, 11)

OUTPUT = re.compile(r"layer\.(\d+)\.output")
WEIGHT = re.compile(r"(?:^|\.)(\d+)\.")  # the layer's number in a weight's name
QUANTIZERS = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True)
class Node:
    """One node: its name, operator, inputs, outputs, and the names of all nodes inside it."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inside: tuple[str, ...]


def read_nodes(path: Path) -> list[Node]:
    """Return the nodes of an ONNX file in its order; tensors' data is skipped."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    graphs = [part for number, part in _fields(view) if number == MODEL_GRAPH]
    return [node for graph in graphs for node in _graph_nodes(graph)]


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield a message's length-delimited fields; numbers are skipped."""
    place = 0
    while place < len(view):
        key, place = _varint(view, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(view, place)
        elif kind == 2:
            size, place = _varint(view, place)
            yield key >> 3, view[place : place + size]
            place += size
        else:
            place += {1: 8, 5: 4}[kind]


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _graph_nodes(graph: memoryview) -> Iterator[Node]:
    for number, part in _fields(graph):
        if number == GRAPH_NODE:
            yield _node(part)


def _node(view: memoryview) -> Node:
    kinds = (NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP)
    texts: dict[int, list[str]] = {kind: [] for kind in kinds}
    inside: list[str] = []
    for number, part in _fields(view):
        if number in texts:
            texts[number].append(bytes(part).decode())
        elif number == NODE_ATTRIBUTE:
            for kind, graph in _fields(part):
                if kind in ATTRIBUTE_GRAPHS:
                    for node in _graph_nodes(graph):
                        inside += [node.name, *node.inside]
    name, operator = ("".join(texts[key]) for key in (NODE_NAME, NODE_OP))
    return Node(name, operator, tuple(texts[NODE_INPUT]), tuple(texts[NODE_OUTPUT]), tuple(inside))


def layers_by_node(nodes: Sequence[Node]) -> dict[str, str]:
    """Return the layer of every node by name: embeddings, layer 0, …, head.

    Nodes inside an If belong to its layer. Empty for a graph without named hidden states.
    """
    ends = [
        place
        for place, node in enumerate(nodes)
        if any(OUTPUT.fullmatch(output) for output in node.outputs)
    ]
    start = _start_of_first(nodes)
    if not ends or start is None:
        return {}
    if any(_reads_layer(node, len(ends)) for node in nodes[ends[-1] + 1 :]):
        ends.append(len(nodes) - 1)  # the last hidden state is an output, under the output's name
    layers: dict[str, str] = {}
    for place, node in enumerate(nodes):
        done = sum(end < place for end in ends)
        layer = f"layer {done}" if done < len(ends) else "head"
        layer = "embeddings" if place < start else layer
        layers |= dict.fromkeys((node.name, *node.inside), layer)
    return layers


def _reads_layer(node: Node, index: int) -> bool:
    numbers = [WEIGHT.search(name) for name in node.inputs if not OUTPUT.fullmatch(name)]
    return any(found is not None and int(found[1]) == index for found in numbers)


def _start_of_first(nodes: Sequence[Node]) -> int | None:
    """Return where layer 0 begins: its first weight's reader, and the quantizing before it."""
    start = next((i for i, node in enumerate(nodes) if _reads_layer(node, 0)), None)
    while start and nodes[start - 1].operator in QUANTIZERS:
        start -= 1
    return start
