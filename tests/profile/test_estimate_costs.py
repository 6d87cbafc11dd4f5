"""What nodes cost: shapes, multiplications and bytes against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.estimate.costs import Cost, Heads, Product, Swept, costs_of
from edge_lra.profile.estimate.estimate import count
from edge_lra.profile.estimate.memory import planned_bytes
from edge_lra.profile.estimate.shapes import Value, walk_graph
from edge_lra.quantize import SCHEMES

FLOAT = np.dtype("f4")


def model_of(nodes: list[Any], weights: dict[str, np.ndarray], inputs: list[str]) -> Any:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", infos, [out], stored)
    return helper.make_model(graph, opset_imports=imports)


def node(kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], output, domain=domain, **attributes)


def costs(nodes: list[Any], weights: dict[str, np.ndarray], **shapes: tuple[int, ...]) -> Any:
    values = {name: Value(shape, FLOAT) for name, shape in shapes.items()}
    walk = walk_graph(model_of(nodes, weights, list(shapes)), values)
    return walk, costs_of(walk)


def test_a_product_is_rows_times_depth_times_columns() -> None:
    weights = {"w": np.zeros((8, 5), "f4"), "b": np.zeros(5, "f4")}
    nodes = [node("MatMul", ["x", "w"], "y"), node("Add", ["y", "b"], "z")]
    _, (product, bias) = costs(nodes, weights, x=(2, 3, 8))
    assert product.work == (Product(6, 8, 5, 1, "fp32", True, 4 * 8 * 5, 4 * 6 * (8 + 5)),)
    assert product.macs == 2 * 3 * 8 * 5
    assert (product.read_bytes, product.written_bytes) == (4 * 2 * 3 * 8, 4 * 2 * 3 * 5)
    assert product.weight_bytes == 160
    assert bias.work == (Swept("elementwise", 2 * 4 * 30, 2 * 4 * 30),)


def test_a_product_of_activations_streams_no_weight_and_counts_each_batch() -> None:
    _, (product,) = costs([node("MatMul", ["x", "y"], "z")], {}, x=(2, 4, 6, 8), y=(2, 4, 8, 5))
    assert product.macs == 2 * 4 * 6 * 8 * 5
    assert product.weight_bytes == 0


@pytest.mark.parametrize("trans_b", [0, 1])
def test_a_turned_matrix_multiplies_as_often(trans_b: int) -> None:
    weights = {"w": np.zeros((5, 8) if trans_b else (8, 5), "f4")}
    _, (product,) = costs([node("Gemm", ["x", "w"], "y", transB=trans_b)], weights, x=(3, 8))
    assert product.work[0] == Product(3, 8, 5, 1, "fp32", True, 160, 4 * 3 * (8 + 5))


def test_int8_weights_are_a_byte_each_and_their_input_is_quantized_first() -> None:
    weights = {"w": np.zeros((8, 5), "i1"), "s": np.zeros(5, "f4")}
    nodes = [node("DynamicQuantizeMatMul", ["x", "w", "s"], "y", "com.microsoft")]
    _, (product,) = costs(nodes, weights, x=(2, 3, 8))
    assert product.work == (
        Product(6, 8, 5, 1, "int8", True, 40, 4 * 6 * 13),
        Swept("quantize", 48, 5 * 48),
    )
    assert product.kind == "int8 matmul"


@pytest.mark.parametrize(("bits", "packed"), [(8, 32), (4, 16)])
def test_blocks_stream_packed_integers_and_a_scale_each(bits: int, packed: int) -> None:
    """40 inputs fill two blocks of 32; the multiplications are those of 40."""
    weights = {"w": np.zeros((5, 2, packed), "u1"), "s": np.zeros(5 * 2, "f4")}
    sizes = {"K": 40, "N": 5, "bits": bits, "block_size": 32, "accuracy_level": 4}
    nodes = [node("MatMulNBits", ["x", "w", "s"], "y", "com.microsoft", **sizes)]
    walk, (product,) = costs(nodes, weights, x=(2, 3, 40))
    streamed = 5 * 2 * (packed + 4)
    assert product.work == (Product(6, 40, 5, 1, f"block{bits}", True, streamed, 4 * 6 * (40 + 5)),)
    assert (product.kind, product.macs) == ("block matmul", 6 * 40 * 5)
    assert product.weight_bytes == streamed
    assert walk.values["y"].shape == (2, 3, 5)


def test_rows_of_blocks_are_gathered_at_their_scales_precision() -> None:
    weights = {"w": np.zeros((9, 24), "u1"), "s": np.zeros((9, 3), "f2"), "x": np.zeros(7, "i8")}
    axes = {"gather_axis": 0, "quantize_axis": 1, "bits": 4, "block_size": 16}
    nodes = [node("GatherBlockQuantized", ["w", "x", "s"], "y", "com.microsoft", **axes)]
    walk, (gathered,) = costs(nodes, weights)
    assert (walk.values["y"].shape, walk.values["y"].dtype) == ((7, 48), np.float16)
    assert gathered.work == (Swept("gather", 2 * 7 * 48 * 2, 2 * 7 * 48 * 2),)


def test_zero_points_of_blocks_stream_too() -> None:
    weights = {"w": np.zeros((5, 1, 16), "u1"), "s": np.zeros(5, "f4"), "z": np.zeros(5, "u1")}
    sizes = {"K": 32, "N": 5, "bits": 4, "block_size": 32}
    nodes = [node("MatMulNBits", ["x", "w", "s", "z"], "y", "com.microsoft", **sizes)]
    _, (product,) = costs(nodes, weights, x=(3, 32))
    assert product.weight_bytes == 5 * (16 + 4 + 1)


def test_attention_multiplies_twice_by_every_pair_of_tokens() -> None:
    def attend(*mask: str) -> Cost:
        names = ["q", "q", "q", *mask]
        attended = node("MultiHeadAttention", names, "y", "com.microsoft", num_heads=4)
        shapes = {"q": (2, 7, 32)} | {name: (2, 7) for name in mask if name}
        _, (cost,) = costs([attended], {}, **shapes)
        return cost

    moved = 4 * (4 * 2 * 7 * 32)  # query, key, value, context
    assert attend().work == (Heads(8, 7, 7, 8, False, moved),)
    assert attend("", "m").work == (Heads(8, 7, 7, 8, True, moved),)
    assert attend().macs == 2 * 2 * 7 * 7 * 32


def test_a_single_query_attends_once_to_each_token() -> None:
    attended = node("MultiHeadAttention", ["q", "k", "k"], "y", "com.microsoft", num_heads=4)
    _, (cost,) = costs([attended], {}, q=(2, 1, 32), k=(2, 7, 32))
    moved = 4 * 2 * 32 * (1 + 7 + 7 + 1)
    assert cost.work == (Heads(8, 1, 7, 8, False, moved),)
    assert cost.macs == 2 * 2 * 7 * 32


def test_a_gather_reads_rows_not_the_table() -> None:
    ids = {"x": Value((2, 3), np.dtype("i8"))}
    model = model_of([node("Gather", ["t", "x"], "y")], {"t": np.zeros((1000, 16), "f4")}, ["x"])
    (cost,) = costs_of(walk_graph(model, ids))
    assert cost.work == (Swept("gather", 2 * 4 * 6 * 16, 2 * 4 * 6 * 16),)


@pytest.mark.parametrize(("known", "kind"), [(True, "Relu"), (False, "Exp")])
def test_of_a_branch_the_one_that_runs_is_costed(known: bool, kind: str) -> None:
    def branch(operator: str) -> Any:
        info = helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)
        return helper.make_graph([node(operator, ["x"], operator)], operator, [], [info])

    nodes = [node("If", ["c"], "y", then_branch=branch("Relu"), else_branch=branch("Exp"))]
    values = {
        "x": Value((3,), FLOAT),
        "c": Value((), np.dtype(bool), known=np.array(known)),
    }
    walk = walk_graph(model_of(nodes, {}, ["x", "c"]), values)
    assert [step.node.op_type for step in walk.steps] == [kind, "If"]
    assert walk.values["y"].shape == (3,) and not walk.guessed
    assert planned_bytes(walk) == 12  # the If's output is its branch's


def test_a_branch_that_hangs_on_content_is_told() -> None:
    info = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    inner = helper.make_graph([node("Relu", ["x"], "z")], "b", [], [info])
    nodes = [node("If", ["c"], "y", then_branch=inner, else_branch=inner)]
    values = {"x": Value((3,), FLOAT), "c": Value((), np.dtype(bool))}
    assert walk_graph(model_of(nodes, {}, ["x", "c"]), values).guessed == ["y"]


def test_an_unknown_operator_is_refused_by_name() -> None:
    with pytest.raises(EdgeError, match="the operator Mystery, expected one that can be estimated"):
        costs([node("Mystery", ["x"], "y", "com.microsoft")], {}, x=(3,))


def test_a_shape_that_hangs_on_content_is_refused() -> None:
    with pytest.raises(EdgeError, match="NonZero depends on the input's content"):
        costs([node("NonZero", ["x"], "y")], {}, x=(3,))


def test_activations_are_freed_behind_their_last_reader() -> None:
    nodes = [
        node("Relu", ["x"], "a"),  # 1200
        node("Exp", ["a"], "b"),  # 2400: a and b
        node("Reshape", ["b", "s"], "c"),  # b's buffer
        node("Exp", ["c"], "d"),  # a is free: 2400
        node("Concat", ["d", "d", "d"], "e", axis=0),  # 1200 + 3600
    ]
    weights = {"s": np.array([100, 3], np.int64)}
    walk, _ = costs(nodes, weights, x=(300,))
    assert planned_bytes(walk) == 4800


# ---- a whole bundle ------------------------------------------------------------------------

HIDDEN, INNER, LAYERS = 32, 64, 2


@pytest.fixture
def bundles(tiny: Path) -> dict[str, Path]:
    adapters = [("mood", tiny / "adapter")]
    made = {}
    for scheme in SCHEMES:
        for mode in ("merge", "factored"):
            request = ExportRequest(
                tiny / f"{scheme}-{mode}.edge", "model", adapters, mode=mode, scheme=scheme,
                verify=False, without=["mixed-bits"],
            )  # fmt: skip
            made[f"{scheme} {mode}"] = export(request)
    return made


def linear_macs(batch: int, tokens: int) -> int:
    """Return those of all layers' linears: of the last, only key and value read every token."""
    layer = 4 * HIDDEN**2 + 2 * HIDDEN * INNER
    last = 2 * HIDDEN**2 * tokens + 2 * HIDDEN**2 + 2 * HIDDEN * INNER
    return batch * ((LAYERS - 1) * layer * tokens + last)


def macs(bundle: Path, shape: tuple[int, int]) -> dict[str, int]:
    (counted,) = count(bundle, [shape])
    total: dict[str, int] = {}
    for cost in counted.costs:
        total[cost.kind] = total.get(cost.kind, 0) + cost.macs
    return total


def test_an_encoder_multiplies_as_its_sizes_say(bundles: dict[str, Path]) -> None:
    batch, tokens = 3, 10
    found = macs(bundles["none merge"], (batch, tokens))
    head = batch * (HIDDEN * HIDDEN + HIDDEN * 2)  # the pooler, and two labels
    assert found["fp32 matmul"] == linear_macs(batch, tokens) + head
    attended = (LAYERS - 1) * tokens + 1  # the last layer asks for the first token alone
    assert found["attention"] == 2 * batch * attended * tokens * HIDDEN
    assert "int8 matmul" not in found


def test_int8_products_run_after_fusion(bundles: dict[str, Path]) -> None:
    (counted,) = count(bundles["int8 merge"], [(1, 10)])
    operators = {cost.operator for cost in counted.costs}
    assert {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"} <= operators
    assert not {"MatMulInteger"} & operators
    found = macs(bundles["int8 merge"], (1, 10))
    assert found["int8 matmul"] >= linear_macs(1, 10)


@pytest.mark.parametrize(("scheme", "bits"), [("int8-weight-only", 8), ("int4", 4)])
def test_products_of_blocks_are_a_class_of_their_own(
    bundles: dict[str, Path], scheme: str, bits: int
) -> None:
    """The pooler and the head are float32."""
    (counted,) = count(bundles[f"{scheme} merge"], [(1, 10)])
    assert counted.blockwise == [f"block{bits}"]
    found = [c for c in counted.costs if c.kind == "block matmul"]
    weights = LAYERS * (4 * HIDDEN**2 + 2 * HIDDEN * INNER)
    assert sum(c.weight_bytes for c in found) == weights * bits // 8 + weights // 32 * 4
    assert macs(bundles[f"{scheme} merge"], (1, 10)).keys().isdisjoint({"int8 matmul"})


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_factors_add_their_rank(bundles: dict[str, Path], scheme: str) -> None:
    """Query and value share a down factor of both ranks, and each has an up factor.

    In the last layer the query, of one token, has its own.
    """
    merged, factored = (macs(bundles[f"{scheme} {m}"], (1, 10)) for m in ("merge", "factored"))
    added = (LAYERS - 1) * 10 * 8 * 3 * HIDDEN + (10 + 1) * 4 * 2 * HIDDEN
    assert factored["fp32 matmul"] - merged["fp32 matmul"] == added
