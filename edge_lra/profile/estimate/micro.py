"""Tiny graphs that hold one operator many times, and how long one of its nodes takes.

Weights are zeros in a sparse file: the kernels' time does not depend on the values, and nothing
large is built in Python. Each node has weights of its own, so a graph larger than the cache
streams them as a model does. Each begins with another number, for onnxruntime keeps one prepacked
copy of weights that are equal (24 MiB of zeros seemed to stream at 96 GB/s: they lay in L2).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_lra.agent.clocks import quiet_clock

MICROSOFT = "com.microsoft"
OPSET = 20
IR_VERSION = 10
REPEATS = 9
PART_S = 0.12  # spent on one graph, once it was repeated often enough
SHARED_S = 1.0  # with several threads: the least of many runs is the one that had all cores


@dataclass
class TinyGraph:
    """Nodes, inputs and outputs of a graph under construction."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def op(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Add a node; return the name of its first output."""
        from onnx import helper

        name = f"n{len(self.nodes)}"
        names = [f"{name}.{place}" for place in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name, **attributes))
        return names[0]

    def weight(self, dtype: str, *shape: int) -> str:
        """Add a weight of zeros that no other node reads."""
        name = f"w{len(self.weights)}"
        self.weights[name] = (dtype, shape)
        return name

    def input(self, array: np.ndarray) -> str:
        """Add a graph input and what it is fed."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = array
        return name

    def output(self, name: str, dtype: str, *shape: int) -> None:
        """Make a value an output of the graph."""
        self.outputs[name] = (dtype, shape)


def seconds_per_run(graph: TinyGraph, threads: int) -> float:
    """Return what one run takes: the lower quartile of processor time, or of wall time.

    One thread's processor time is its wall time on a quiet machine, and stays so on a busy one
    (a load of 6 on 2 cores: 5 % instead of a factor of 2). Several threads wait for each other,
    which only the wall clock shows.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = write_graph(graph, Path(folder))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for name, array in graph.inputs.items():
            binding.bind_cpu_input(name, array)
        held = []  # outputs are written to the same place each run, as inside a model
        for name, (dtype, shape) in graph.outputs.items():
            held.append(onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype)))
            binding.bind_ortvalue_output(name, held[-1])
        return _quiet_seconds(
            lambda: session.run_with_iobinding(binding), quiet_clock(threads), threads
        )


def _quiet_seconds(run: Callable[[], object], now: Callable[[], float], threads: int) -> float:
    for _ in range(2):
        run()
    values: list[float] = []
    end = time.perf_counter() + (PART_S if threads == 1 else SHARED_S)
    while len(values) < REPEATS or time.perf_counter() < end:
        start = now()
        run()
        values.append(now() - start)
    return float(np.percentile(values, 25 if threads == 1 else 0))


def write_graph(graph: TinyGraph, folder: Path) -> str:
    """Write the graph and a sparse file of zeros for its weights; return the graph's path."""
    import onnx
    from onnx import helper

    offset, initializers, starts = 0, [], []
    for name, (dtype, shape) in graph.weights.items():
        tensor = onnx.TensorProto(name=name, dims=shape, data_type=_onnx_type(dtype))
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "zeros"), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        initializers.append(tensor)
        starts.append(offset)
        offset += -(-size // 4096) * 4096
    with (folder / "zeros").open("wb") as file:
        file.truncate(max(offset, 1))
        for number, start in enumerate(starts, 1):
            file.seek(start)
            file.write(np.float32(number).tobytes())
    arrays = {name: (str(a.dtype), a.shape) for name, a in graph.inputs.items()}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "micro", _infos(arrays), _infos(graph.outputs), initializers
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
    )
    onnx.save(model, folder / "micro.onnx")
    return str(folder / "micro.onnx")


def _onnx_type(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _infos(values: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[Any]:
    from onnx import helper

    return [
        helper.make_tensor_value_info(name, _onnx_type(dtype), shape)
        for name, (dtype, shape) in values.items()
    ]
