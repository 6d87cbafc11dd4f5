"""The planned activation peak, by hand and against what onnxruntime asks its arena for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_lra.agent.inputs import all_inputs
from edge_lra.errors import EdgeError
from edge_lra.pipeline import ExportRequest, export
from edge_lra.profile.activations import planned_peak_bytes, planned_peak_mib

FLOAT = TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], *initializers: onnx.TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        list(initializers),
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("somewhere", 1)]
    )


def test_a_value_lives_to_its_last_reader() -> None:
    chain = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("Exp", ["c"], ["y"]),
    ]
    assert planned_peak_bytes(model_of(chain), {"x": (100,)}) == 2 * 400
    chain[3] = helper.make_node("Add", ["c", "a"], ["y"])  # a lives on
    assert planned_peak_bytes(model_of(chain), {"x": (100,)}) == 3 * 400


def test_a_view_keeps_its_source_alive_and_takes_nothing() -> None:
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "axis"], ["b"]),
        helper.make_node("Exp", ["x"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    assert planned_peak_bytes(model_of(nodes, axis), {"x": (100,)}) == 3 * 400


def test_a_branch_counts_beside_what_is_alive_around_it() -> None:
    def branch(name: str, *ops: str) -> onnx.GraphProto:
        values = ["a", *(f"{name}{i}" for i in range(len(ops)))]
        nodes = [
            helper.make_node(op, [before], [after])
            for op, before, after in zip(ops, values, values[1:], strict=False)
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(values[-1], FLOAT, None)]
        )

    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node(
            "If",
            ["flag"],
            ["y"],
            then_branch=branch("t", "Exp", "Exp", "Exp"),
            else_branch=branch("e", "Neg"),
        ),
    ]
    flag = helper.make_tensor("flag", TensorProto.BOOL, [], [True])
    assert planned_peak_bytes(model_of(nodes, flag), {"x": (100,)}) == 3 * 400


def test_shapes_that_are_computed_are_followed() -> None:
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Squeeze", ["s"], ["n"]),
        helper.make_node("Range", ["zero", "n", "one"], ["r"]),
        helper.make_node("Cast", ["r"], ["f"], to=FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    # r (int64) beside f (float32), and the two integers before it.
    found = planned_peak_bytes(model_of(nodes, zero, one), {"x": (100,)})
    assert found is not None and 1200 <= found <= 1216


def test_an_unknown_operator_gives_no_plan_and_a_missing_size_is_named() -> None:
    nodes = [
        helper.make_node("Odd", ["x"], ["a"], domain="somewhere"),
        helper.make_node("Exp", ["a"], ["y"]),
    ]
    assert planned_peak_bytes(model_of(nodes), {"x": (4,)}) is None
    with pytest.raises(EdgeError, match="found no size for its input 'x'"):
        planned_peak_bytes(model_of(nodes), {})


@pytest.fixture(scope="module", params=["merge", "factored"])
def bundle(
    request: pytest.FixtureRequest, tiny_made: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("plan") / "b.edge"
    adapters = [("mood", tiny_made / "adapter")]
    model = str(tiny_made / "model")
    return export(ExportRequest(out, model, adapters, mode=request.param, verify=False))


@pytest.mark.parametrize("shape", [(4, 40), (32, 40), (64, 20)])
def test_the_plan_is_what_onnxruntime_asks_for(
    bundle: Path, shape: tuple[int, int], tmp_path: Path
) -> None:
    """Within a sixth: it runs nodes in another order than they were written in."""
    planned = planned_peak_mib(bundle, shape)
    assert planned == pytest.approx(_asked_mib(bundle, shape, tmp_path), rel=1 / 6)


def _asked_mib(bundle: Path, shape: tuple[int, int], scratch: Path) -> float:
    """Return the largest number of bytes in use after a node, above those before the first.

    The graph as written, nothing fused, each value allocated when it is made.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = False
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(scratch / "asked")
    session = onnxruntime.InferenceSession(bundle / "model.onnx", options)
    feeds = all_inputs(bundle, shape, None)
    for _ in range(2):
        session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    last = max(event["ts"] for event in events if event["name"] == "model_run")
    nodes = [e for e in events if e["name"].endswith("_kernel_time") and e["ts"] >= last]
    nodes.sort(key=lambda event: float(event["ts"]))
    used = [int(event["args"]["mem_bytes_requested_in_use"]) for event in nodes]
    before = used[0] - int(nodes[0]["args"]["output_size"])
    return float(np.max(used) - before) / 2**20
