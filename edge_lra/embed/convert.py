"""Save a graph in onnxruntime's own format, and which operators it needs.

    python -m edge_lra.embed.convert GRAPH OUT CONFIG SESSION_OPTIONS

A program of its own: onnxruntime's tools write to the log, and a graph too large for the format
ends the process.

The graph is optimized as a session on any processor would do it ("Fixed" in onnxruntime's tools,
level all): a small build has no optimizers to do it later. Two things depend on the processor. The
layout of convolutions in blocks of channels is for AVX alone and is left out, as those tools do for
ARM. Weights are packed at loading, never here. So one file serves x86-64, ARM and WebAssembly.
"Runtime", which defers optimizations to the device, is for NNAPI and Core ML; onnxruntime replays
those only where an app switches that on.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import onnxruntime

from edge_lra.agent.prepack import PROCESSOR_SPECIFIC


def save_graph(graph: Path, out: Path, entries: dict[str, str]) -> None:
    """Optimize a graph and write it, its weights inside.

    Args:
        graph: an ONNX file.
        out: the .ort file to write.
        entries: session config entries that the graph needs, by onnxruntime's keys.
    """
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(out)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    for key, value in {**entries, "session.save_model_format": "ORT"}.items():
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(
        graph,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[PROCESSOR_SPECIFIC],
    )


def write_config(model: Path, config: Path) -> None:
    """Write the operators and types that a model in onnxruntime's format needs."""
    tools = types.ModuleType("onnxruntime.tools")  # its own __init__ imports torch: 3 s
    tools.__path__ = [str(Path(onnxruntime.__file__).parent / "tools")]
    sys.modules[tools.__name__] = tools
    from onnxruntime.tools.ort_format_model import create_config_from_models

    create_config_from_models([model], config, enable_type_reduction=True)
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("#")]  # comments name this machine's path
    config.write_text("".join(kept), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Convert a graph."""
    graph, out, config = map(Path, arguments[:3])
    save_graph(graph, out, json.loads(arguments[3]))
    write_config(out, config)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:  # onnxruntime's classes share no public base
        print((str(error).strip().splitlines() or [type(error).__name__])[0], file=sys.stderr)
        sys.exit(1)
