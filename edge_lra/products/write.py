"""Write the graph of a bundle's integer products, and the exact integers they must give.

The activations are those that would overflow a careless kernel: for each weight the rows of the
largest and the smallest sum, and for all of them pairs at their extremes and random ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

from edge_lra.blas import one_thread
from edge_lra.products.run import CUTS, NAME, ROWS, ZERO_POINTS, digest
from edge_lra.runner.external import GRAPH

OPERATOR = "MatMulInteger"
FUSED = "MatMulIntegerToFloat"  # com.microsoft's, of activations with a scale found beforehand
OPSET, IR_VERSION = 20, 10
PAIRS = ((255, 255), (255, 0), (0, 255), (254, 255))
WORST = 2
BLOCK_ROWS = 256  # of a weight: 256 * 255 * 128 < 2**24, so float32 adds them up exactly
BLOCK_VALUES = 1 << 22  # a vocabulary's columns take fewer rows: 16 MiB as float32
Array = np.ndarray


@dataclass(frozen=True)
class Product:
    """One frozen weight that is multiplied in integers.

    Attributes:
        weight: (in, out) int8, outside the graph.
        largest: that its activations may be.
    """

    weight: TensorProto
    largest: int = 255

    @property
    def name(self) -> str:
        """The weight's name."""
        return str(self.weight.name)

    @property
    def width(self) -> int:
        """How long its activations are."""
        return int(self.weight.dims[0])


def write_products(folder: Path) -> list[dict[str, str]]:
    """Write products.pb; nothing where nothing is multiplied in integers.

    The graph refers to the bundle's own weights; nothing large is copied.

    Args:
        folder: of a bundle whose graph and data are written.

    Returns:
        The manifest's entry: of each product, in the order of the graph's outputs, its weight's
        name and the digest of its exact integers.
    """
    products = read_products(folder)
    if not products:
        return []
    worst, entries = [], []
    with one_thread():  # 135M weights: 0.4 s, and 3.9 of CPU with two that wait for each other
        for product in products:
            weight = Weight(folder, product.weight)
            rows = worst_rows(weight, product.largest)
            activations = np.concatenate([rows, common_rows(product.width, product.largest)])
            worst.append(rows)
            entries.append({"weight": product.name, "sha256": exact_digest(weight, activations)})
    (folder / NAME).write_bytes(products_model(products, worst).SerializeToString())
    return entries


def read_products(bundle: Path) -> list[Product]:
    """Return every integer product of a bundle, each weight once, in the graph's order."""
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    found: dict[str, Product] = {}
    for node, stored in _nodes(model.graph, {}):
        if node.op_type not in (OPERATOR, FUSED) or node.input[1] not in stored:
            continue
        # A constant zero point of MatMulInteger lies in the middle of what it multiplies.
        plain = node.op_type == OPERATOR and len(node.input) > 2
        middle = stored.get(node.input[2]) if plain else None
        found[node.input[1]] = Product(stored[node.input[1]], largest_activation(middle))
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


class Weight:
    """A weight (in, out) int8 in the bundle's data, read in blocks of rows: never all at once."""

    def __init__(self, bundle: Path, tensor: TensorProto) -> None:
        self.width, self.columns = (int(size) for size in tensor.dims)
        place = ExternalDataInfo(tensor)
        self._file, self._offset = bundle / place.location, place.offset or 0

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield which rows, and their values (rows, out) int8.

        float32 products of a block and u8 rows are exact, and take a fiftieth of int64's time.
        """
        step = max(1, min(BLOCK_ROWS, BLOCK_VALUES // self.columns))
        for start in range(0, self.width, step):
            rows = slice(start, min(start + step, self.width))
            count = (rows.stop - start) * self.columns
            place = self._offset + start * self.columns
            values = np.fromfile(self._file, np.int8, count, offset=place)
            yield rows, values.reshape(-1, self.columns)

    def column(self, place: int) -> Array:
        """Return one column's values (in,) int8."""
        with self._file.open("rb", buffering=0) as file:
            values = bytearray()
            for row in range(self.width):
                file.seek(self._offset + row * self.columns + place)
                values += file.read(1)
        return np.frombuffer(values, np.int8)


def worst_rows(weight: Weight, largest: int = 255) -> Array:
    """Return u8 rows (2, in) with the largest and the smallest sum that a column gives."""
    reach = np.zeros(weight.columns, np.int64)
    for _, values in weight.blocks():
        sizes = np.abs(values).view(np.uint8)  # that of -128 is 128 there
        reach += (np.ones(len(sizes), np.float32) @ sizes.astype(np.float32)).astype(np.int64)
    column = weight.column(int(reach.argmax()))
    return np.where([column > 0, column < 0], largest, 0).astype(np.uint8)


def common_rows(width: int, largest: int = 255) -> Array:
    """Return the u8 rows (11, width) that every weight of a width is multiplied by."""
    extremes = np.stack([np.resize(np.array(pair, np.uint8), width) for pair in PAIRS])
    # RandomState gives the same numbers in every version of numpy.
    shape = (ROWS - WORST - len(PAIRS), width)
    random = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    return np.asarray(np.minimum(np.concatenate([extremes, random]), largest), np.uint8)


def exact_digest(weight: Weight, activations: Array) -> str:
    """Return the digest of the exact products of u8 activations (rows, in), as `run` takes it."""
    ones = np.ones((1, weight.width), np.uint8)  # their product is what a zero point takes off
    given = np.concatenate([activations, ones]).astype(np.float32)
    total = np.zeros((len(given), weight.columns), np.int64)
    for rows, values in weight.blocks():
        total += (given[:, rows] @ values.astype(np.float32)).astype(np.int64)
    sums, columns = total[:-1], total[-1]
    return digest(
        [(sums - zero_point * columns)[:cut] for zero_point in ZERO_POINTS for cut in CUTS]
    )


def products_model(products: Sequence[Product], worst: Sequence[Array]) -> onnx.ModelProto:
    """Return one graph of all products.

    Its inputs are `zero_point` () uint8 and `rows` (1) int64, how many activations to multiply;
    its outputs y0, y1, … (rows, out) int32.

    Args:
        products: what to multiply.
        worst: of each, u8 (2, in).
    """
    stored = {"first": numpy_helper.from_array(np.zeros(1, np.int64), "first")}
    nodes, outputs = [], []
    for place, (product, rows) in enumerate(zip(products, worst, strict=True)):
        common = f"common_{product.width}_{product.largest}"
        if common not in stored:
            values = common_rows(product.width, product.largest)
            stored[common] = numpy_helper.from_array(values, common)
        own, every, x, y = (f"{kind}{place}" for kind in ("worst", "all", "x", "y"))
        stored[own] = numpy_helper.from_array(rows, own)
        stored[product.name] = product.weight
        nodes += [
            helper.make_node("Concat", [own, common], [every], axis=0),
            helper.make_node("Slice", [every, "first", "rows"], [x]),
            helper.make_node(OPERATOR, [x, product.name, "zero_point"], [y]),
        ]
        outputs.append(helper.make_tensor_value_info(y, TensorProto.INT32, None))
    inputs = [
        helper.make_tensor_value_info("zero_point", TensorProto.UINT8, []),
        helper.make_tensor_value_info("rows", TensorProto.INT64, [1]),
    ]
    graph = helper.make_graph(nodes, "products", inputs, outputs, list(stored.values()))
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
