"""Answer "graphs": the least time of small graphs, run in turns.

Request: threads, budget_s, graphs: of each the model (base64 of the ONNX file, whose weights lie
in a file `WEIGHTS`), the file's size and the offsets at which weights begin. The file is zeros, but
for a number at each weight's beginning: onnxruntime keeps one packed copy of weights that are
equal. Times do not depend on the values.
Answer: graphs, of each us (microseconds) or null, and error or null.
"""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edge_lra.agent.clocks import quiet_clock

WEIGHTS = "weights"
WARMUP = 2
LEAST_ROUNDS, MOST_ROUNDS = 7, 200
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
Run = Callable[[], object]


def measure_graphs(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run every graph in turns; keep the least time of each."""
    threads = int(request["threads"])
    with tempfile.TemporaryDirectory() as scratch:
        opened = [
            _open(graph, Path(scratch) / str(place), threads)
            for place, graph in enumerate(request["graphs"])
        ]
        runs = {place: run for place, run in enumerate(opened) if not isinstance(run, str)}
        least = time_least(runs, quiet_clock(threads), float(request["budget_s"]))
    return {
        "graphs": [
            {"us": least.get(place), "error": found if isinstance(found, str) else None}
            for place, found in enumerate(opened)
        ]
    }


def time_least(
    runs: Mapping[int, Run], now: Callable[[], float], budget_s: float
) -> dict[int, float]:
    """Return the least time of each run in microseconds.

    All run once a round, in alternating order, each behind a run of its own that is not timed:
    what it reads was just written, as inside a model, and not by another one.

    Args:
        runs: by number.
        now: the clock, in seconds.
        budget_s: no new round after so long, once each ran a few times.
    """
    least = dict.fromkeys(runs, float("inf"))
    end, rounds = time.perf_counter() + budget_s, -WARMUP
    while rounds < LEAST_ROUNDS or (time.perf_counter() < end and rounds < MOST_ROUNDS):
        for place in runs if rounds % 2 else reversed(list(runs)):
            runs[place]()
            start = now()
            runs[place]()
            taken = 1e6 * (now() - start)
            if rounds >= 0:
                least[place] = min(least[place], taken)
        rounds += 1
    return least


def _open(graph: Mapping[str, Any], folder: Path, threads: int) -> Run | str:
    """Return a run of a graph, its inputs and outputs bound; or why there is none."""
    folder.mkdir()
    with (folder / WEIGHTS).open("wb") as file:
        file.truncate(int(graph["weights_bytes"]))
        for number, start in enumerate(graph["starts"], 1):
            file.seek(int(start))
            file.write(np.float32(number).tobytes())
    model = folder / "model.onnx"
    model.write_bytes(base64.b64decode(graph["model"]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the answer says what went wrong
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has a class for each status
        return " ".join(str(error).split())
    binding = session.io_binding()
    random = np.random.default_rng(0)
    for node in session.get_inputs():
        values = random.standard_normal(node.shape).astype(DTYPES[node.type])
        binding.bind_ortvalue_input(node.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    for node in session.get_outputs():  # written to the same place each run, as inside a model
        empty = np.zeros(node.shape, DTYPES[node.type])
        binding.bind_ortvalue_output(node.name, onnxruntime.OrtValue.ortvalue_from_numpy(empty))
    return lambda: session.run_with_iobinding(binding)
