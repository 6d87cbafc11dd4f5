"""Answer "prepack": write a bundle's graph as a session on this processor has it.

Request: bundles (one), and out, a folder to write in. Answer: host (transport.Host); onnxruntime,
the release whose kernels packed the weights; and optimized, whether the graph is all that its
optimizer would make of it here.

onnxruntime optimizes the graph and stores, beside each weight that a kernel reads in an order of
its own, that copy too. At load it still packs each weight, but lets go of its copy when the stored
one is equal, and uses that from the mapped file. A copy is found by a digest of its bytes: one for
another processor or release has another and is never used, so it costs nothing but its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from edge_lra.agent.host import probe
from edge_lra.agent.inputs import open_session, session_options
from edge_lra.agent.layers import read_nodes
from edge_lra.runner.external import DATA, GRAPH

# It orders convolutions' weights in blocks of 8 or 16 channels, by the width of AVX here, and no
# session notices blocks of the other width: it would compute wrong numbers.
PROCESSOR_SPECIFIC = "NchwcTransformer"
CONVOLUTIONS = frozenset({"Conv", "FusedConv"})
SAVING = {
    "optimization.disable_specified_optimizers": PROCESSOR_SPECIFIC,
    "session.optimized_model_external_initializers_file_name": DATA,
    "session.save_external_prepacked_constant_initializers": "1",
}


def prepack(request: Mapping[str, Any]) -> dict[str, Any]:
    """Write model.onnx and model.onnx.data.

    Raises:
        EdgeError: onnxruntime cannot open the graph, or write.
    """
    (folder,) = (Path(place) for place in request["bundles"])
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    options = session_options(folder, threads=1)
    options.optimized_model_filepath = str(out / GRAPH)
    for key, value in SAVING.items():
        options.add_session_config_entry(key, value)
    open_session(folder, options)
    convolved = any(node.operator in CONVOLUTIONS for node in read_nodes(out / GRAPH))
    return {
        "host": probe({"folder": str(out)}),
        "onnxruntime": onnxruntime.__version__,
        "optimized": not convolved,
    }
