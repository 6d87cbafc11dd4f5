"""How a bundle's session is set up, alike by the runner and by the agent that measures it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort


def session_options(manifest: Mapping[str, Any], threads: int | None = None) -> ort.SessionOptions:
    """Return onnxruntime's options for a bundle's graph.

    Args:
        manifest: the bundle's.
        threads: within an operator; None leaves it to onnxruntime.
    """
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    if threads is not None:
        options.intra_op_num_threads = threads
    if is_optimized(manifest):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in (manifest.get("session_options") or {}).items():
        options.add_session_config_entry(key, str(int(value) if value in (True, False) else value))
    return options


def is_optimized(manifest: Mapping[str, Any]) -> bool:
    """Say whether the graph is all that this onnxruntime's optimizer would make of it.

    Another release may know more, and gets the chance.
    """
    prepacked = manifest.get("prepacked") or {}
    return bool(prepacked.get("optimized") and prepacked["onnxruntime"] == ort.__version__)
