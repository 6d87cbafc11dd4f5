"""The micro-benchmarks: one tiny graph for each kind of operator, none of them a model's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_lra.profile.estimate.costs import BLOCKWISE
from edge_lra.profile.estimate.micro import MICROSOFT, TinyGraph, seconds_per_run
from edge_lra.quantize.blockwise import BLOCK

WIDTH = 512  # of rows that are normalized, and of square weights
HEADS = 8
CHAIN = 8
TABLE_ROWS = 16384
RESIDUALS_BYTES = 32 << 20  # more than caches near a core hold


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def weight_bytes(dtype: str, width: int) -> int:
    """Return what a weight of width x width takes: of blocks, packed integers and scales."""
    if dtype in BLOCKWISE:
        return width * (width // BLOCK) * (_packed_bytes(dtype) + 4)
    return width * width * (1 if dtype == "int8" else 4)


def _packed_bytes(dtype: str) -> int:
    """Return the bytes of a block's integers."""
    return BLOCK * int(dtype.removeprefix("block")) // 8


def product_seconds(
    dtype: str, rows: int, set_mib: float, threads: int, width: int = WIDTH
) -> float:
    """Return what a product of (rows, width) with a weight of width x width takes.

    Args:
        dtype: "int8" (its input's quantization included), "fp32", "block8" or "block4".
        rows: of the input.
        set_mib: all weights of the graph together; the run streams through them.
        threads: within an operator.
        width: of the weight.
    """
    graph = TinyGraph()
    count = max(1, round(set_mib * 2**20 / weight_bytes(dtype, width)))
    x = graph.input(_floats(rows, width))
    for _ in range(count):
        if dtype == "int8":
            scale, bias = graph.weight("float32", width), graph.weight("float32", width)
            weight = graph.weight("int8", width, width)
            inputs = [x, weight, scale, "", bias]
            x = graph.op("DynamicQuantizeMatMul", inputs, domain=MICROSOFT)
        elif dtype in BLOCKWISE:
            x = _block_product(graph, dtype, x, width)
        else:
            x = graph.op("MatMul", [x, graph.weight("float32", width, width)])
    graph.output(x, "float32", rows, width)
    return seconds_per_run(graph, threads) / count


def _block_product(graph: TinyGraph, dtype: str, x: str, width: int) -> str:
    """Add a product as the schemes of edge_lra.quantize write it; return its output."""
    blocks, packed = width // BLOCK, _packed_bytes(dtype)
    weight = graph.weight("uint8", width, blocks, packed)
    inputs = [x, weight, graph.weight("float32", width * blocks)]
    sizes = {"K": width, "N": width, "bits": packed * 8 // BLOCK, "block_size": BLOCK}
    return graph.op("MatMulNBits", inputs, domain=MICROSOFT, accuracy_level=4, **sizes)


def attention_seconds(tokens: int, size: int, masked: bool, threads: int) -> float:
    """Return what attention over `tokens` takes for one head of `size`, of 8."""
    graph, width = TinyGraph(), HEADS * size
    shape = (1, tokens, width)
    x = graph.input(_floats(*shape))
    others = [graph.input(_floats(*shape)) for _ in range(2)]
    mask = graph.input(np.ones((1, tokens), np.int32)) if masked else ""
    for _ in range(CHAIN):
        inputs = [x, *others, *(["", mask] if masked else [])]
        x = graph.op("MultiHeadAttention", inputs, domain=MICROSOFT, num_heads=HEADS)
    graph.output(x, "float32", *shape)
    return seconds_per_run(graph, threads) / CHAIN / HEADS


def _chain(
    add: Callable[[TinyGraph, str, str], str], elements: int, threads: int, chain: int = CHAIN
) -> float:
    """Time a chain of one operator on rows of 512; `add` gets the value and the graph's input."""
    graph, width = TinyGraph(), min(WIDTH, elements)
    x = first = graph.input(_floats(elements // width, width))
    for _ in range(chain):
        x = add(graph, x, first)
    graph.output(x, "float32", elements // width, width)
    return seconds_per_run(graph, threads) / chain


def _norm(kind: str, elements: int, threads: int) -> float:
    def add(graph: TinyGraph, x: str, first: str) -> str:
        gamma, beta = graph.weight("float32", WIDTH), graph.weight("float32", WIDTH)
        if kind == "SkipLayerNormalization":
            return graph.op(kind, [x, first, gamma, beta], domain=MICROSOFT)
        return graph.op(kind, [x, gamma, beta], axis=-1)

    return _chain(add, elements, threads)


def _bias_gelu(elements: int, threads: int) -> float:
    return _chain(
        lambda graph, x, _: graph.op(
            "BiasGelu", [x, graph.weight("float32", WIDTH)], domain=MICROSOFT
        ),
        elements,
        threads,
    )


def _quantize(elements: int, threads: int) -> float:
    """Inputs of their own: equal nodes are merged. The outputs that are read are the scales."""
    graph = TinyGraph()
    for _ in range(CHAIN):
        x = graph.input(_floats(elements))
        scale = graph.op("DynamicQuantizeLinear", [x], outputs=3).replace(".0", ".1")
        graph.output(scale, "float32")
    return seconds_per_run(graph, threads) / CHAIN


def _gather(moved_bytes: int, threads: int) -> float:
    graph, rows = TinyGraph(), moved_bytes // (2 * 4 * WIDTH)
    ids = graph.input(np.random.default_rng(0).integers(0, TABLE_ROWS, rows))
    for _ in range(2):
        table = graph.weight("float32", TABLE_ROWS, WIDTH)
        graph.output(graph.op("Gather", [table, ids]), "float32", rows, WIDTH)
    return seconds_per_run(graph, threads) / 2


def _elementwise(moved_bytes: int, threads: int) -> float:
    """Each node adds another value, written long before: a residual has left the nearest cache."""
    graph, rows = TinyGraph(), moved_bytes // 12 // WIDTH  # two are read, one written, of 4 bytes
    x = graph.input(_floats(rows, WIDTH))
    count = min(32, max(2, RESIDUALS_BYTES // (4 * rows * WIDTH)))
    for _ in range(count):
        x = graph.op("Add", [x, graph.input(_floats(rows, WIDTH))])
    graph.output(x, "float32", rows, WIDTH)
    return seconds_per_run(graph, threads) / count


# Seconds of one node by elements, or by bytes moved for those of costs.BYTES.
CURVES: dict[str, Callable[[int, int], float]] = {
    "elementwise": _elementwise,
    "gather": _gather,
    "norm": lambda n, threads: _norm("LayerNormalization", n, threads),
    "skip_norm": lambda n, threads: _norm("SkipLayerNormalization", n, threads),
    "gelu": lambda n, threads: _chain(lambda g, x, _: g.op("Gelu", [x]), n, threads),
    "gelu_tanh": lambda n, threads: _chain(
        lambda g, x, _: g.op("Gelu", [x], approximate="tanh"), n, threads
    ),
    "bias_gelu": _bias_gelu,
    "softmax": lambda n, threads: _chain(lambda g, x, _: g.op("Softmax", [x]), n, threads),
    "quantize": _quantize,
}


def node_seconds() -> float:
    """Return what a node costs that computes next to nothing."""
    return _chain(lambda graph, x, first: graph.op("Add", [x, first]), 1, 1, chain=64)


def branch_seconds() -> float:
    """Return what an `If` adds to the one node inside it."""
    from onnx import TensorProto, helper

    graph = TinyGraph()
    x = graph.input(_floats(1, 1))
    condition = graph.input(np.array(True))
    for place in range(64):
        branches = {}
        for branch in ("then_branch", "else_branch"):
            name = f"{branch}{place}"
            node = helper.make_node("Add", [x, "x0"], [name])
            info = helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1))
            branches[branch] = helper.make_graph([node], name, [], [info])
        x = graph.op("If", [condition], **branches)
    graph.output(x, "float32", 1, 1)
    return max(0.0, seconds_per_run(graph, 1) / 64 - node_seconds())
