"""Write runtime/cases: integer products that every runner's onnxruntime must answer exactly.

    python -m tests.runtime.cases runtime/cases

`integers.onnx` holds one MatMulInteger a case, `integers.safetensors` its activations `a.N`
(rows, in) u8 and the product `y.N` (rows, out) int32, from 64-bit integers. The weights are as
large as pair-safe rounding lets them be: on kernels that add pairs in 16 bits they would saturate
if they were larger by one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from edge_lra.products.run import ZERO_POINTS
from edge_lra.products.write import common_rows
from edge_lra.quantize.pairsafe import PAIR_LIMIT

MODEL, TENSORS = "integers.onnx", "integers.safetensors"
# (in, out): what fills a kernel's tile, what leaves a tail in either direction, one of each.
SHAPES = ((1, 1), (3, 5), (16, 16), (31, 17), (64, 64), (65, 33), (128, 48), (384, 32))
ROWS = (1, 13)  # a vector's kernel, and a matrix's with a tail


def weight_of(width: int, out: int) -> np.ndarray:
    """Return (out, in) int8 whose same-signed pairs sum to at most PAIR_LIMIT.

    The first output's pairs are all at the limit, the last one's are +-127 of two signs.
    """
    half = PAIR_LIMIT // 2
    random = np.random.RandomState(width * 1000 + out)
    weight = random.randint(-half, half + 1, (out, width)).astype(np.int8)
    weight[-1] = np.resize([127, -127], width)
    weight[0] = half
    return weight


def write_cases(folder: Path) -> None:
    """Write the model and the tensors."""
    inputs, outputs, nodes, constants = [], [], [], []
    tensors: dict[str, np.ndarray] = {}
    for zero in ZERO_POINTS:
        constants.append(numpy_helper.from_array(np.array(zero, np.uint8), f"zero.{zero}"))
    for width, out in SHAPES:
        weight = weight_of(width, out)
        constants.append(numpy_helper.from_array(np.ascontiguousarray(weight.T), f"w.{width}"))
        worst = np.stack([weight[0] > 0, weight[-1] > 0]).astype(np.uint8) * 255
        rows = np.concatenate([worst, common_rows(width)])
        for zero in ZERO_POINTS:
            for count in ROWS:
                index = len(nodes)
                a = rows[:count]
                product = (a.astype(np.int64) - zero) @ weight.T.astype(np.int64)
                tensors[f"a.{index}"] = np.ascontiguousarray(a)
                tensors[f"y.{index}"] = product.astype(np.int32)
                names = [f"a.{index}", f"w.{width}", f"zero.{zero}"]
                nodes.append(helper.make_node("MatMulInteger", names, [f"y.{index}"]))
                value = helper.make_tensor_value_info
                inputs.append(value(f"a.{index}", TensorProto.UINT8, a.shape))
                outputs.append(value(f"y.{index}", TensorProto.INT32, product.shape))
    graph = helper.make_graph(nodes, "integers", inputs, outputs, constants)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    model.producer_name = "edge-lra"
    onnx.checker.check_model(model)
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    (folder / TENSORS).write_bytes(save(tensors))


if __name__ == "__main__":
    write_cases(Path(sys.argv[1]))
