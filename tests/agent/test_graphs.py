"""Small graphs timed in turns, and what becomes of one that there is no kernel for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.agent.__main__ import answer
from edge_lra.agent.graphs import time_least
from edge_lra.checkpoint import Checkpoint
from edge_lra.forms.graphs import outlier_graph, product_graph, rounding_graph
from edge_lra.quantize.schemes import FORMS, Int8
from edge_lra.weights import Source
from tests.agent.test_program import HEAVY


def requests(tiny: Path) -> list[dict[str, Any]]:
    base = Checkpoint(tiny / "model")
    source = Source(base, "any", (64, 32))
    graphs = [
        product_graph(form(), source, 4, static) for form in FORMS.values() for static in (0, 1)
    ]
    graphs += [rounding_graph(32, 4, static) for static in (False, True)]
    graphs += [outlier_graph(Int8(), source, 4, static) for static in (False, True)]
    return [graph.request() for graph in graphs]


def test_every_graph_is_timed_and_one_without_kernel_says_so(tiny: Path) -> None:
    graphs = requests(tiny)
    source = Source(Checkpoint(tiny / "model"), "any", (64, 32))
    odd = product_graph(FORMS["float32"](), source, 4, False)
    odd.model.graph[0].op_type = "NoSuchProduct"
    request = {"what": "graphs", "threads": 1, "budget_s": 0.01, "graphs": [*graphs, odd.request()]}
    *found, last = answer(request)["graphs"]
    assert all(item["error"] is None and item["us"] > 0 for item in found)
    assert last["us"] is None and "NoSuchProduct" in last["error"]


def test_it_loads_nothing_that_a_device_lacks(tiny: Path) -> None:
    code = (
        "import json, sys; from edge_lra.agent.__main__ import answer; "
        f"answer(json.load(sys.stdin)); print(*({HEAVY!r} & set(sys.modules)))"
    )
    request = {"what": "graphs", "threads": 1, "budget_s": 0.01, "graphs": requests(tiny)[:1]}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_the_least_of_a_graphs_own_runs_counts() -> None:
    clock = 0.0
    costs: dict[int, Iterator[float]] = {
        place: iter(np.random.default_rng(place).uniform(place + 1, place + 2, 1000))
        for place in range(2)
    }

    def run(place: int) -> None:
        nonlocal clock
        clock += float(next(costs[place]))

    runs = {place: (lambda place=place: run(place)) for place in range(2)}
    found = time_least(runs, lambda: clock, 0.05)
    assert found[0] < 1.5e6 < 2e6 <= found[1] < 2.5e6  # microseconds
