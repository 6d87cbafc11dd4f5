"""Run a bundle's graph and see values inside it; nothing is written into the bundle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from edge_lra.graph.plan import LAYER_OUTPUT, SHIFT, read_shift
from edge_lra.runner.external import GRAPH

Array = npt.NDArray[Any]
# Where the weights of a graph that is opened from memory lie.
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
Run = Callable[[Mapping[str, Array]], dict[str, Array]]


def load_graph(bundle: Path) -> ir.Model:
    """Return the graph of a bundle, its weights unread.

    Those of a prepacked one name where their packed copies lie, which onnx_ir warns of, each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Ignoring unknown external data key", UserWarning)
        return ir.load(bundle / GRAPH)


def open_probe(bundle: Path, values: Sequence[str]) -> Run:
    """Return a run of the bundle's graph that gives float values inside it by their names.

    A value that the graph holds less a constant is given with it.

    The graph is opened from memory beside the bundle's own weights: a bundle may lie where
    nothing can be written, and another process may be reading it.
    """
    model = load_graph(bundle)
    known = {value.name: value for node in model.graph for value in node.outputs}
    for name in values:
        if known[name] not in model.graph.outputs:
            known[name].type = ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(known[name])
    shifts = {name: shift_of(model, name) for name in values}
    session = open_in_memory(ir.to_proto(model).SerializeToString(), bundle)
    names = list(values)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = zip(names, map(np.asarray, session.run(names, feeds)), strict=True)
        return {name: value + shifts[name] for name, value in found}

    return run


def shift_of(model: ir.Model, name: str) -> Array | float:
    """Return what is to be added to a value of this name, (hidden,) or nothing."""
    text = model.metadata_props.get(SHIFT + name)
    return 0.0 if text is None else read_shift(text)


def open_in_memory(model: bytes, folder: Path) -> onnxruntime.InferenceSession:
    """Open a serialized graph whose weights lie in a folder."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # torch runs beside it
    options.add_session_config_entry(WEIGHTS_FOLDER, str(folder))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def layer_names(bundle: Path, layers: int) -> list[str]:
    """Return the names of the layers' outputs; the last may be the graph's own output."""
    names = [LAYER_OUTPUT.format(i=i) for i in range(layers)]
    graph = load_graph(bundle).graph
    if all(value.name != names[-1] for node in graph for value in node.outputs):
        names[-1] = "last_hidden_state"
    return names
