"""The integer products of a bundle alone, and what they must give to the last bit.

MatMulInteger of u8 activations and int8 weights is exact by its definition, so that every
processor must give what 64-bit integers give. Kernels that add pairs in 16 bits saturate instead
(x86 without VNNI), or take other paths for other shapes; nothing shows it but the numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_lra.agent.check import ZERO_POINTS, activations, digest

OPERATOR = "MatMulInteger"
OPSET, IR_VERSION = 20, 10
Array = np.ndarray


@dataclass(frozen=True)
class Product:
    """One frozen weight that is multiplied in integers.

    Attributes:
        weight: (in, out) integers, outside the graph.
        zero_point: of the weight; None where it is zero.
        largest: that its activations may be.
    """

    weight: TensorProto
    zero_point: TensorProto | None
    largest: int = 255

    @property
    def name(self) -> str:
        """The weight's name."""
        return str(self.weight.name)


def read_products(bundle: Path) -> list[Product]:
    """Return every integer product of a bundle, each weight once, in the graph's order."""
    model = onnx.load(bundle / "model.onnx", load_external_data=False)
    found: dict[str, Product] = {}
    for node, stored in _nodes(model.graph, {}):
        if node.op_type == OPERATOR and node.input[1] in stored:
            zero_point = stored.get(node.input[3]) if len(node.input) > 3 else None
            middle = stored.get(node.input[2]) if len(node.input) > 2 else None
            largest = largest_activation(middle)
            found[node.input[1]] = Product(stored[node.input[1]], zero_point, largest)
    return list(found.values())


def largest_activation(zero_point: TensorProto | None) -> int:
    """Return the largest u8 that goes with a zero point: constant ones lie in the middle."""
    if zero_point is None:
        return 255
    return min(255, 2 * int(numpy_helper.to_array(zero_point)) - 1)


def _nodes(
    graph: onnx.GraphProto, outer: dict[str, TensorProto]
) -> Iterator[tuple[onnx.NodeProto, dict[str, TensorProto]]]:
    """Yield the nodes, those inside others too, with the weights they see."""
    stored = outer | {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        yield node, stored
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g, stored)


def make_request(bundle: Path, products: Sequence[Product]) -> tuple[dict[str, Any], list[str]]:
    """Return what the agent's "check" needs for these products, and the digests it must give.

    The model refers to the bundle's own weights; nothing large is copied.
    """
    widths, largest, worst, digests = [], [], [], []
    for product in products:
        weight = _integers(product.weight, bundle)
        if product.zero_point is not None:
            weight = weight - _integers(product.zero_point, bundle)
        rows = worst_rows(weight, product.largest)
        widths.append(len(weight))
        largest.append(product.largest)
        worst.append(base64.b64encode(np.packbits(rows > 0).tobytes()).decode())
        digests.append(exact_digest(weight, activations(len(weight), rows, product.largest)))
    model = base64.b64encode(products_model(products).SerializeToString()).decode()
    return {"model": model, "widths": widths, "largest": largest, "worst": worst}, digests


def _integers(tensor: TensorProto, bundle: Path) -> Array:
    return numpy_helper.to_array(tensor, str(bundle)).astype(np.int64)


def worst_rows(weight: Array, largest: int = 255) -> Array:
    """Return u8 rows (2, in) with the largest and the smallest sum a column of (in, out) gives."""
    column = weight[:, np.abs(weight).sum(0).argmax()]
    return np.where([column > 0, column < 0], largest, 0).astype(np.uint8)


def exact_digest(weight: Array, rows: Array) -> str:
    """Return the digest of the products in 64-bit integers, as the agent takes it."""
    sums, columns = rows.astype(np.int64) @ weight, weight.sum(0)
    blocks = [
        (sums - zero_point * columns)[cut]
        for zero_point in ZERO_POINTS
        for cut in (slice(None), slice(1))
    ]
    return digest(blocks)


def products_model(products: Sequence[Product]) -> onnx.ModelProto:
    """Return one graph of all products: x0, x1, … (rows, in) and one zero point to y0, y1, …."""
    nodes, inputs, outputs, stored = [], [], [], {}
    for place, product in enumerate(products):
        given = [f"x{place}", product.name, "zero_point"]
        stored[product.name] = product.weight
        if product.zero_point is not None:
            given.append(product.zero_point.name)
            stored[product.zero_point.name] = product.zero_point
        nodes.append(helper.make_node(OPERATOR, given, [f"y{place}"]))
        shape = ["rows", product.weight.dims[0]]
        inputs.append(helper.make_tensor_value_info(given[0], TensorProto.UINT8, shape))
        outputs.append(helper.make_tensor_value_info(f"y{place}", TensorProto.INT32, None))
    inputs.append(helper.make_tensor_value_info("zero_point", TensorProto.UINT8, []))
    graph = helper.make_graph(nodes, "products", inputs, outputs, list(stored.values()))
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
