"""What integer products lose to kernels that add two products in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edge_lra.probe import open_in_memory
from edge_lra.products.write import IR_VERSION, OPERATOR, OPSET, Product
from edge_lra.quantize.pairsafe import PAIR_LIMIT

Array = npt.NDArray[Any]
LOWEST, HIGHEST = -(2**15), 2**15 - 1


def pair_loss(integers: Array, weight: Array) -> Array:
    """Return what 16-bit sums of pairs lose, (rows, out) int64; the same on every machine.

    x86 processors without VNNI (AVX2's vpmaddubsw) add the products of inputs 2k and 2k + 1 in 16
    bits and cut the sum; only pairs of weights beyond `PAIR_LIMIT` can reach that far.

    Args:
        integers: (rows, in) uint8.
        weight: (in, out) int8.
    """
    lost = np.zeros((len(integers), weight.shape[1]), np.int64)
    pairs = weight[: len(weight) // 2 * 2].reshape(-1, 2, weight.shape[1]).astype(np.int32)
    reach = np.maximum(pairs.clip(0).sum(1), -pairs.clip(None, 0).sum(1))  # (pairs, out)
    unsafe = reach > PAIR_LIMIT
    for pair in np.flatnonzero(unsafe.any(1)):
        outputs = np.flatnonzero(unsafe[pair])
        x = integers[:, 2 * pair : 2 * pair + 2].astype(np.int32)
        exact = x @ pairs[pair][:, outputs]
        lost[:, outputs] += exact.clip(LOWEST, HIGHEST) - exact
    return lost


def kernel_loss(bundle: Path, product: Product, integers: Array, weight: Array) -> Array:
    """Return what this processor's kernel gives less the exact product, (rows, out) float64.

    Zero points are left out: they come off a product afterwards and change no sum of pairs.

    Args:
        bundle: the bundle's folder, where the weight lies.
        product: of its graph.
        integers: (rows, in) uint8.
        weight: (in, out) int8, the same one.
    """
    session = open_in_memory(_model(product).SerializeToString(), bundle)
    (found,) = session.run(None, {"x": integers})
    # float64 holds every sum exactly, and BLAS is quick.
    return np.asarray(found - integers.astype(np.float64) @ weight.astype(np.float64))


def _model(product: Product) -> onnx.ModelProto:
    """Return one product as a graph; its weight stays where it is."""
    node = helper.make_node(OPERATOR, ["x", product.name], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, None)
    y = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "product", [x], [y], [product.weight])
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
