"""Latency of the C++ runner over Python's, run in turns in one process on one thread.

    python tests/benchmarks/cpp.py [BUNDLE]

Both are called as an app calls them: `edge_lra_run` (through ctypes, which adds about 10 us) and
`Runner.run`, with all their checks, over the same release of onnxruntime. Without a bundle, MiniLM
with the sample's adapter is exported. Ends with code 1 where a median is more than 3 % slower.
"""

from __future__ import annotations

import ctypes as c
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_lra import Runner
from edge_lra.agent.inputs import token_inputs
from edge_lra.inputs import ExportRequest
from edge_lra.pipeline import export
from tests.runtime.conftest import LABELS, MINILM, SENTIMENT
from tests.runtime.cpp.abi import LIBRARY, Bundle, Tensor, check, tensor_of

SHAPES = ((1, 16), (1, 128), (8, 128))
SECONDS = 20.0  # a shape
WARMUP = 5
WORST = 1.03


def native_run(bundle: Bundle, inputs: dict[str, np.ndarray]) -> Callable[[], None]:
    """Return one run of the C++ runner over prepared tensors."""
    tensors = (Tensor * len(inputs))(*(tensor_of(*item) for item in inputs.items()))
    count, outputs = c.c_size_t(len(inputs)), c.c_uint64()
    place = c.byref(outputs)

    def run() -> None:
        check(LIBRARY.edge_lra_run(bundle.handle, tensors, count, None, place))
        LIBRARY.edge_lra_outputs_close(outputs)

    return run


def time_in_turns(runs: list[Callable[[], object]]) -> list[list[float]]:
    """Run each once a round, in alternating order; return milliseconds of each."""
    latencies: list[list[float]] = [[] for _ in runs]
    for run in runs * WARMUP:
        run()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        for place in sorted(range(len(runs)), reverse=len(latencies[0]) % 2 == 1):
            start = time.perf_counter_ns()
            runs[place]()
            latencies[place].append((time.perf_counter_ns() - start) / 1e6)
    return latencies


def compare(folder: Path) -> float:
    """Print medians and their ratios by shape; return the worst ratio."""
    runner, bundle = Runner.load(folder, threads=1), Bundle(folder, threads=1)
    worst = 0.0
    print(f"{'shape':>8} {'runs':>6} {'Python p50':>11} {'C++ p50':>9} {'ratio':>7}")
    for shape in SHAPES:
        inputs = token_inputs(folder, runner.input_names, shape)
        both = time_in_turns([lambda given=inputs: runner.run(given), native_run(bundle, inputs)])
        python_ms, native_ms = map(statistics.median, both)
        ratio = native_ms / python_ms
        worst = max(worst, ratio)
        name = "x".join(map(str, shape))
        print(
            f"{name:>8} {len(both[0]):>6} {python_ms:>8.2f} ms {native_ms:>6.2f} ms {ratio:>7.3f}"
        )
    bundle.close()
    return worst


def main(words: list[str]) -> None:
    """Measure a bundle."""
    with tempfile.TemporaryDirectory() as scratch:
        request = ExportRequest(
            Path(scratch) / "merged.edge",
            model=MINILM,
            adapters=[("sentiment", SENTIMENT)],
            labels=LABELS,
        )
        worst = compare(Path(words[0]) if words else export(request))
    sys.exit(1 if worst > WORST else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
