"""What one node of a graph has to do: multiplications, bytes, elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_lra.profile.estimate.shapes import Step, Value, Walk


@dataclass(frozen=True)
class Product:
    """A matrix product of `rows` with a matrix of `depth` x `columns`, `batch` times.

    Attributes:
        dtype: "int8", "fp32", or for weights in blocks "block8" or "block4" by their bits.
        stored: whether the matrix is a weight, prepacked and streamed once a run.
        weight_bytes: of the matrix, all batches; of blocks, packed integers and scales.
        moved_bytes: of activations, read and written.
    """

    rows: int
    depth: int
    columns: int
    batch: int
    dtype: str
    stored: bool
    weight_bytes: int
    moved_bytes: int

    @property
    def weights(self) -> int:
        """Elements of the matrix, all batches."""
        return self.batch * self.depth * self.columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.weights


@dataclass(frozen=True)
class Heads:
    """Attention of `queries` over `tokens` by `heads` (of all rows of the batch) of one size."""

    heads: int
    queries: int
    tokens: int
    size: int
    masked: bool
    moved_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of scores and context."""
        return 2 * self.heads * self.queries * self.tokens * self.size


@dataclass(frozen=True)
class Swept:
    """Values that are read and written once: what a curve of the calibration counts.

    Attributes:
        curve: the calibration's name of it.
        amount: elements, or bytes where the curve counts those.
        moved_bytes: read and written.
    """

    curve: str
    amount: int
    moved_bytes: int


Work = Product | Heads | Swept


@dataclass(frozen=True)
class Cost:
    """One node.

    Attributes:
        kind: its class of operator, a key of ShapeEstimate.classes_ms.
        work: the parts that take time; none where a node only renames.
        branch: whether it enters a subgraph.
        read_bytes: of activations.
        written_bytes: of activations.
    """

    name: str
    operator: str
    kind: str
    work: tuple[Work, ...]
    branch: bool
    read_bytes: int
    written_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(part.macs for part in self.work if not isinstance(part, Swept))

    @property
    def weight_bytes(self) -> int:
        """Weights that are streamed."""
        return sum(p.weight_bytes for p in self.work if isinstance(p, Product) and p.stored)


# Class and curve by operator. Curves count elements but for those of BYTES.
NORM, GELU, SOFTMAX, QUANTIZE = "norm", "gelu", "softmax", "quantize"
ELEMENTWISE, GATHER, OTHER = "elementwise", "gather", "other"
INT8, FP32, BLOCKS, ATTENTION = "int8 matmul", "fp32 matmul", "block matmul", "attention"
BLOCKWISE = ("block8", "block4")  # dtypes of BLOCKS: unpacking 4 bits takes time of its own
SWEPT = {
    "LayerNormalization": (NORM, "norm"),
    "SimplifiedLayerNormalization": (NORM, "norm"),
    "SkipLayerNormalization": (NORM, "skip_norm"),
    "Gelu": (GELU, "gelu"),
    "BiasGelu": (GELU, "bias_gelu"),
    "FastGelu": (GELU, "gelu_tanh"),
    "QuickGelu": (GELU, "gelu_tanh"),
    "Softmax": (SOFTMAX, "softmax"),
    "DynamicQuantizeLinear": (QUANTIZE, "quantize"),
    "QuantizeLinear": (QUANTIZE, "quantize"),
    "Gather": (GATHER, "gather"),
    "GatherBlockQuantized": (GATHER, "gather"),
}
BYTES = ("elementwise", "gather")
PRODUCTS = {
    "MatMul": FP32,
    "FusedMatMul": FP32,
    "Gemm": FP32,
    "FusedGemm": FP32,
    "MatMulIntegerToFloat": INT8,
    "DynamicQuantizeMatMul": INT8,
    "MatMulInteger": INT8,
    "MatMulNBits": BLOCKS,
}
# Nothing is copied: onnxruntime reuses the buffer, or a handful of integers is written.
RENAMES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant"}


def costs_of(walk: Walk) -> tuple[Cost, ...]:
    """Return the cost of every node that runs, in order."""
    return tuple(_cost(step) for step in walk.steps)


def _cost(step: Step) -> Cost:
    operator = step.node.op_type
    inputs = [value for value in step.inputs if value is not None]
    read = sum(value.size_bytes for value in inputs if not value.weight)
    written = sum(value.size_bytes for value in step.outputs)
    if operator == "If":
        return Cost(step.node.name, operator, OTHER, (), True, 0, 0)
    kind, work = _work(step, inputs, read, written)
    return Cost(step.node.name, operator, kind, work, False, read, written)


def _work(
    step: Step, inputs: Sequence[Value], read: int, written: int
) -> tuple[str, tuple[Work, ...]]:
    operator = step.node.op_type
    if operator in RENAMES:
        return OTHER, ()
    if operator in PRODUCTS:
        return PRODUCTS[operator], _products(step, inputs)
    if operator == "MultiHeadAttention":
        return ATTENTION, (_heads(step),)
    kind, curve = SWEPT.get(operator, (ELEMENTWISE, "elementwise"))
    if curve == "gather":  # rows are read, not the table
        return kind, (Swept(curve, 2 * written, 2 * written),)
    moved = read + written
    if curve == "elementwise":
        return kind, (Swept(curve, moved, moved),)
    if operator == "Gelu" and step.attribute("approximate", b"none") == b"tanh":
        curve = "gelu_tanh"
    return kind, (Swept(curve, inputs[0].elements, moved),)


def _products(step: Step, inputs: Sequence[Value]) -> tuple[Work, ...]:
    left, right = inputs[0], inputs[1]
    operator = step.node.op_type
    output = step.outputs[0]
    columns = output.shape[-1] if output.shape else 1
    depth = left.shape[-2] if step.attribute("transA", 0) else left.shape[-1]
    blocks = PRODUCTS[operator] == BLOCKS
    shared = len(right.shape) <= 2 or blocks  # one matrix for all rows
    rows = output.elements // max(1, columns)
    batch = 1 if shared else int(np.prod(output.shape[:-2], dtype=np.int64))
    moved = left.size_bytes + output.size_bytes + (0 if right.weight else right.size_bytes)
    weight_bytes = right.size_bytes
    if blocks:  # and their scales, and zero points where there are any
        weight_bytes += sum(value.size_bytes for value in step.inputs[2:4] if value is not None)
    dtype = _dtype(step)
    product = Product(
        rows // max(1, batch), depth, columns, batch, dtype, right.weight, weight_bytes, moved
    )
    if operator == "DynamicQuantizeMatMul":
        moved = left.size_bytes + left.elements  # floats read, bytes written
        return product, Swept("quantize", left.elements, moved)
    return (product,)


def _dtype(step: Step) -> str:
    kind = PRODUCTS[step.node.op_type]
    if kind == BLOCKS:
        return f"block{step.attribute('bits', 4)}"
    return "int8" if kind == INT8 else "fp32"


def _heads(step: Step) -> Heads:
    query, key, value = step.inputs[:3]
    assert query is not None and key is not None and value is not None
    count = int(step.attribute("num_heads", 1))
    batch, queries, width = query.shape
    # Inputs: query, key, value, bias, key_padding_mask, attention_bias, …
    masked = any(value is not None for value in step.inputs[4:6])
    context_bytes = query.size_bytes
    moved = query.size_bytes + key.size_bytes + value.size_bytes + context_bytes
    return Heads(batch * count, queries, key.shape[1], width // count, masked, moved)
