"""Times by operator and layer, from the profiler's events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_lra.agent import operators
from edge_lra.agent.operators import WARMUP, measure_operators, split_runs, summarize
from edge_lra.pipeline import ExportRequest, export

LAYERS = {"Add_1": "embeddings", "Mul_2": "layer 0", "If_3": "layer 0", "Add_4": "layer 0"}


def kernel(ts: int, name: str, operator: str, micros: int) -> dict[str, Any]:
    args = {"op_name": operator}
    return {"name": f"{name}_kernel_time", "ts": ts, "dur": micros, "args": args}


def events_of(runs: list[list[tuple[str, str, int]]]) -> list[dict[str, Any]]:
    """Return events of runs of 10 ms, each after as many warm-up runs with other times."""
    slow = [("Add_1", "Add", 9999)]
    events: list[dict[str, Any]] = []
    for index, kernels in enumerate([slow] * WARMUP + runs):
        begin = 10_000 * index
        events.append({"name": "model_run", "ts": begin, "dur": 9000})
        events += [kernel(begin + 10 * (i + 1), *k) for i, k in enumerate(kernels)]
    return events


def test_times_leave_out_warm_up_and_control_flow() -> None:
    run = [("Add_1", "Add", 500), ("Mul_2", "Mul", 2000), ("If_3", "If", 5000), ("Add_4", "Add", 9)]
    found = summarize(split_runs(events_of([run, run]), LAYERS))
    assert found["operators"] == [
        {"name": "Mul", "nodes": 1, "mean_ms": 2.0},
        {"name": "Add", "nodes": 2, "mean_ms": 0.509},
    ]
    assert found["layers"] == [
        {"name": "embeddings", "nodes": 1, "mean_ms": 0.5},
        {"name": "layer 0", "nodes": 2, "mean_ms": 2.009},
    ]


def test_spans_are_nodes_of_one_run_from_its_begin() -> None:
    spans = summarize(split_runs(events_of([[("Add_1", "Add", 5), ("If_3", "If", 7)]]), LAYERS))
    assert spans["spans"] == [
        {
            "name": "Add_1",
            "operator": "Add",
            "layer": "embeddings",
            "start_us": 10,
            "duration_us": 5,
        },
        {"name": "If_3", "operator": "If", "layer": "layer 0", "start_us": 20, "duration_us": 7},
    ]


def test_a_fused_node_is_found_by_its_first_part_and_an_added_one_follows() -> None:
    run = [("Add_1", "Add", 1), ("Mul_2/Fused", "FusedMul", 1), ("ReorderInput", "Reorder", 1)]
    (kernels,) = [kernels for _, kernels in split_runs(events_of([run]), LAYERS)]
    assert [kernel.layer for kernel in kernels] == ["embeddings", "layer 0", "layer 0"]


def test_a_run_that_lost_the_core_does_not_count() -> None:
    runs = [(9.0, [operators.Kernel("a", "Add", "", 0, 100)])] * 7
    runs.append((9000.0, [operators.Kernel("a", "Add", "", 0, 8000)]))
    assert summarize(runs)["operators"][0]["mean_ms"] == 0.1


@pytest.mark.parametrize("mode", ["merge", "factored"])
def test_operators_are_those_of_one_run_and_take_no_longer(
    tiny_made: Path, mode: str, tmp_path: Path
) -> None:
    adapters = [("mood", tiny_made / "adapter")]
    out = tmp_path / "b.edge"
    export(ExportRequest(out, str(tiny_made / "model"), adapters, mode=mode, verify=False))
    request = {"bundles": [str(out)], "shape": [1, 8], "threads": 1, "adapter": None}
    found = measure_operators(request | {"budget_s": 5})
    named = {row["name"]: row for row in found["operators"]}
    assert named["MultiHeadAttention"]["nodes"] == 2
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} & named.keys()
    assert not {"If", "MatMulInteger"} & named.keys()  # control flow; unfused products
    times = [row["mean_ms"] for row in found["operators"]]
    assert times == sorted(times, reverse=True)
    assert 0 < sum(times) <= found["run_ms"]
    assert sum(row["mean_ms"] for row in found["layers"]) == pytest.approx(sum(times))
    assert [row["name"] for row in found["layers"]] == ["embeddings", "layer 0", "layer 1", "head"]
